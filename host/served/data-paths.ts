import type { Aperture } from '../aperture/aperture.js';
import type { AttachedModel } from '../models/model.js';
import { DoorbellWatch } from '../queue/doorbell-watch.js';
import type { QueueBlock } from '../queue/queue-block.js';
import { QueueLoops } from '../queue/queue-loops.js';
import { QueueThread } from '../queue/queue-thread.js';

/** What the data paths of a device run on. */
export interface DataPathSurroundings {
  aperture: Aperture;
  blocks: readonly QueueBlock[];
  /** Linear address of the aperture's SIGBUS counter. */
  sigbusFlag: number;
  /** Eventfd that tells the control plane to look at the queues. */
  attentionFd: number;
  /** Device node for interrupts by ioctl, −1 where there are call eventfds. */
  deviceFd: number;
  /** Watch an empty ring for a while before waiting for kicks. */
  poll: boolean;
  /** CPUs of the threads, thread i on CPU i modulo their number; none to leave that to the kernel. */
  cpus: readonly number[];
}

/** Whom data paths tell what happens. */
export interface DataPathListener {
  /** The thread that ran those queues has ended, of `error`. */
  lost(indices: readonly number[], error: Error): void;
  /** A thread could not be stopped. */
  stuck(): void;
  /** The model's code failed. */
  failed(error: unknown): void;
  /** The model has a new config space: resolves once the driver has been told. */
  configChanged(config: Uint8Array): Promise<void>;
}

/** Runs the queues of a device: in threads of their own, or on the event loop of the thread that serves it. */
export class DataPaths {
  readonly threads: QueueThread[] = [];
  readonly #attached: AttachedModel;
  readonly #surroundings: DataPathSurroundings;
  readonly #listener: DataPathListener;
  readonly #loops: QueueLoops[] = [];

  constructor(attached: AttachedModel, surroundings: DataPathSurroundings, listener: DataPathListener) {
    this.#attached = attached;
    this.#surroundings = surroundings;
    this.#listener = listener;
  }

  /** Starts `threads` threads, each woken by the eventfd of its place; with 0, the loops of as many queues. */
  start(threads: number, wakeFds: readonly number[]): void {
    for (const [index, wakeFd] of wakeFds.entries()) {
      if (threads > 0) this.#startThread(index, threads, wakeFd);
      else this.#startLoop(index, wakeFd);
    }
  }

  /** The thread, of `threads`, that runs queue `index`. */
  threadOf(index: number, threads: number): number {
    return Math.floor(index / this.#attached.queueGroup) % threads;
  }

  /** Starts threads again that have ended. Their queues must be stopped. */
  replaceLost(): void {
    for (const thread of this.threads) thread.replaceIfLost();
  }

  /** What the LIFE block says may have changed. */
  lifeChanged(): void {
    for (const thread of this.threads) thread.lifeChanged();
  }

  /** Stops them for good; `stuck` says so if that is not possible. */
  async close(): Promise<void> {
    for (const loop of this.#loops) loop.close();
    for (const thread of this.threads) if (!(await thread.stop())) this.#listener.stuck();
  }

  #startThread(thread: number, threads: number, wakeFd: number): void {
    const { aperture, blocks, sigbusFlag, attentionFd, deviceFd, poll, cpus } = this.#surroundings;
    const indices = [...blocks.keys()].filter((index) => this.threadOf(index, threads) === thread);
    const queues = indices.map((index) => ({
      index,
      vq: blocks[index]!.vq,
      datapath: this.#attached.threadDatapath!(index),
    }));
    const doorbells = DoorbellWatch.allocate(
      aperture,
      queues.map(({ vq }) => vq),
    );
    const { memory, privateBytes } = aperture;
    const handle = { memory, privateBytes, windows: { start: 0, end: 0 } };
    this.threads.push(
      new QueueThread(
        {
          ...{ aperture: handle, queues, sigbusFlag, wakeFd, attentionFd, deviceFd, poll, doorbells },
          cpu: cpus.length > 0 ? cpus[thread % cpus.length] : undefined,
        },
        indices.map((index) => blocks[index]!),
        {
          lost: (error) => this.#listener.lost(indices, error),
          failed: (error) => this.#listener.failed(error),
          configChanged: (config) => this.#listener.configChanged(config),
        },
      ),
    );
  }

  #startLoop(index: number, wakeFd: number): void {
    const { aperture, blocks, sigbusFlag, attentionFd, deviceFd } = this.#surroundings;
    const block = blocks[index]!;
    const loops = new QueueLoops({ aperture, sigbusFlag, wakeFd, attentionFd, deviceFd });
    loops.start(index, block, DoorbellWatch.allocate(aperture, [block.vq]), (schedule) =>
      this.#attached.loopDatapath(index, {
        schedule,
        attention: loops.attention,
        failed: (error) => this.#listener.failed(error),
      }),
    );
    this.#loops.push(loops);
  }
}
