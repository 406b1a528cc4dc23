import type { QueueBlock } from './queue-block.js';

/** What a device model does with the chains of one queue, in the thread that runs it. */
export interface Datapath {
  /**
   * Serves what waits, or a part of it, inside the gate: how many chains, with NOTIFY_DUE if the driver is to be
   * interrupted. Must not run code that is not ours, nor wait for anything but its own I/O.
   */
  burst(): number;
  /**
   * Serves a single burst, and waits for none: it is timed, from the pop to the publication, where somebody wants to know how
   * long requests take. Absent where the data path times its requests itself.
   */
  burstOnce?(): number;
  /** The last burst ended because nothing more was there. */
  readonly drained?: boolean;
}

/** What a data path is told of the thread that runs it. */
export interface DatapathOptions {
  /** How many queues share the thread that polls this one; 0 for a queue that is not polled. */
  readonly pollers: number;
  /** Bursts that one call may serve at most: a thread has to come back and see whether it is to leave. */
  readonly bursts: number;
  /** Has the control plane look at the queue's counters: a request ended with an I/O error. */
  attention(): void;
  /** Of a data path that was to be on an event loop: what it needs there. */
  readonly loop?: LoopThread;
}

/** What a data path on the event loop of a queue thread is given. */
export interface LoopThread {
  /** Has the queue looked at soon. */
  schedule(): void;
  /** Reports that code of the model failed. */
  failed(error: unknown): void;
  /** Has the driver told of a new config space, of the same length; resolves once it has been. */
  configChanged(config: Uint8Array): Promise<void>;
  /** Calls `listener` whenever what the LIFE block says may have changed. */
  onLife(listener: () => void): void;
  /** Calls `listener` when the thread is to end: it ends once the promise is settled. */
  onEnd(listener: () => unknown): void;
}

/** What the data path of a queue is made from, in whichever thread runs it: can be posted to a worker. */
export interface DatapathSource {
  /** URL of a module that exports what DatapathModule says. */
  readonly module: string;
  /** What its `createDatapath` is given: anything that structured cloning takes. Addresses are linear ones. */
  readonly data: unknown;
  /** Its code needs an event loop: the thread has one, instead of sleeping in system calls of ours. */
  readonly onLoop?: boolean;
}

/** A module that makes data paths. */
export interface DatapathModule {
  /** Makes the data path of the queue of `block`, once a queue and thread. */
  createDatapath(block: QueueBlock, data: unknown, options: DatapathOptions): Datapath | Promise<Datapath>;
}

/** Makes a data path in the calling thread. Throws what its module throws. */
export async function createDatapath(
  { module, data }: DatapathSource,
  block: QueueBlock,
  options: DatapathOptions,
): Promise<Datapath> {
  const { createDatapath } = (await import(module)) as DatapathModule;
  return createDatapath(block, data, options);
}
