/** The loopback as a module that queue threads load. */
export { LoopbackNet as default } from '../../host/models/net/loopback-net.js';
