import { LoopbackNet } from '../../../host/models/net/loopback-net.js';

/** A loopback for a queue thread. */
export default class ThreadedLoopback extends LoopbackNet {}
