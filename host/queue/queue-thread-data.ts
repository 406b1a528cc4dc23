import type { ApertureHandle } from '../aperture/aperture.js';
import type { DatapathSource } from './datapath.js';

/** One queue of a thread. */
export interface QueueThreadQueue {
  /** The queue's index. */
  index: number;
  /** Linear address of the VQ block. */
  vq: number;
  /** What its data path is made from. */
  datapath: DatapathSource;
}

/** What a queue thread is started with. */
export interface QueueThreadData {
  aperture: ApertureHandle;
  queues: QueueThreadQueue[];
  /** Linear address of the aperture's SIGBUS counter. */
  sigbusFlag: number;
  /** Eventfd that wakes this thread, whatever it waits for. */
  wakeFd: number;
  /** Eventfd that tells the control plane to look at the queues. */
  attentionFd: number;
  /** Device node for interrupts by ioctl, −1 where there are call eventfds. */
  deviceFd: number;
  /** Watch an empty ring for a while before waiting for kicks. */
  poll: boolean;
  /** Linear address of the list of `DoorbellWatch.allocate` for these queues. */
  doorbells: number;
  /** CPU that the thread is to run on; any if undefined. */
  cpu: number | undefined;
}

/** What the main thread says to one that has an event loop. */
export type QueueThreadCommand =
  /** What the LIFE block says may have changed. */
  | { type: 'life' }
  /** The end of a `config` of that number: `error` if it failed. */
  | { type: 'configured'; id: number; error?: unknown };

/** What such a thread says. */
export type QueueThreadEvent =
  /** The model's code failed. */
  | { type: 'failed'; error: unknown }
  /** The model has a new config space. `configured` answers. */
  | { type: 'config'; id: number; config: Uint8Array };
