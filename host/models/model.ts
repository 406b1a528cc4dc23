import type { Aperture } from '../aperture/aperture.js';
import type { DatapathSource } from '../queue/datapath.js';
import type { QueueBlock } from '../queue/queue-block.js';
import type { LoopDatapath } from '../queue/queue-loop.js';
import type { ChainWatch } from './chain-watch.js';

/** Where a model is being served: what it is given to set itself up. */
export interface ModelContext {
  readonly aperture: Aperture;
  readonly queues: readonly QueueBlock[];
  /** Entries; the largest size of a queue. */
  readonly queueSize: number;
  /** Linear address of the i32 that counts pages lost to SIGBUS. */
  readonly sigbusFlag: number;
  /** Queue threads that are to run the queues; 0 for the caller's event loop. */
  readonly threads: number;
  /** Linear address of the LIFE block: what the driver has done to the device. */
  readonly life: number;
  /**
   * Has the driver told of a new config space, of the same length; resolves once it has been. `change` is called before, while
   * no queue runs.
   */
  configChanged(config: Uint8Array, change?: () => void): Promise<void>;
  /** Reports that code of the model failed. */
  failed(error: unknown): void;
  /** Who decides when and how chains of a model in JavaScript go back; undefined for at once, and as the model says. @internal */
  readonly watch?: ChainWatch | undefined;
}

/** How a data path on the event loop reaches its surroundings. */
export interface LoopHooks {
  /** Has the queue looked at soon. */
  schedule(): void;
  /** Has the control plane look at the queue's counters: a request ended with an I/O error. */
  attention(): void;
  /** Reports that code of the model failed. */
  failed(error: unknown): void;
}

/** A model while it is being served. */
export interface AttachedModel {
  /** Feature bits to offer. */
  readonly features: bigint;
  /** Memory that is lost, by a file truncated under its mapping, stays lost: a reset of the device does not bring it back. */
  readonly memoryLossIsFinal: boolean;
  /** Its contents end with this process: nobody can go on with a device that was served like this. */
  readonly volatile: boolean;
  /** Its data path uses requests in the order in which it takes them (VIRTIO_F_IN_ORDER can be offered). */
  readonly usesInOrder: boolean;
  /** Its I/O errors are told of by its queues' counters alone: the control plane reports them (ERR_IO). */
  readonly countsIoErrors: boolean;
  /** How many neighbouring queues have to be in one thread: 1 or more. */
  readonly queueGroup: number;
  /** The config space as it is now; its length never changes. */
  config(): Uint8Array;
  /** What a queue thread makes the data path of queue `index` from; absent where only the caller's event loop has it. */
  threadDatapath?(index: number): DatapathSource;
  /** The data path of queue `index` on the caller's event loop. */
  loopDatapath(index: number, hooks: LoopHooks): LoopDatapath;
  /** What the LIFE block says may have changed. */
  lifeChanged?(): void;
  /**
   * Changes the size; called while no queue runs. Absent where it cannot change. The size has changed when it returns; a
   * promise tells of a failure only.
   */
  resize?(bytes: number): void | Promise<void>;
  /** The model's state as it is now; called while no queue runs and nothing is in flight. Absent where it has no way to say. */
  save?(): Uint8Array | Promise<Uint8Array>;
  /** Puts the model into a state that `save` gave; called before it is served. */
  restore?(state: Uint8Array): void | Promise<void>;
  /** Gives everything back. No queue runs any more. */
  close(): void;
}

/** What `serve` can serve. */
export interface Model {
  /** VIRTIO_ID_*. */
  readonly deviceId: number;
  /** Virtqueues that it needs at least; 1 if left out. */
  readonly minimumQueues?: number;
  /** Starts serving: at most one device at a time has the model. Throws ERR_DEVICE_BUSY, or what keeps it from working. */
  attach(context: ModelContext): AttachedModel;
}
