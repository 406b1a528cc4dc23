import { LoopbackNet } from '../../../host/models/net/loopback-net.js';

/** A loopback for queue threads: a pair of queues is in one of them. */
export default class ThreadedLoopback extends LoopbackNet {}
