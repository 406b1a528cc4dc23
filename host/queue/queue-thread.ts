import { Worker } from 'node:worker_threads';
import type { ApertureHandle } from '../aperture/aperture.js';
import { loadAddon } from '../native/addon.js';
import type { QueueBlock } from './queue-block.js';
import type { QueueThreadCommand, QueueThreadData, QueueThreadEvent } from './queue-thread-data.js';

/** Queues; the addon polls at most 32 descriptors at a time, and one is the wake eventfd. */
export const THREAD_QUEUES_LIMIT = 31;
/** Milliseconds that a thread has to end before it is given up. */
const STOP_LIMIT_MS = 5000;

/** Threads that must not outlive the process: Node waits for its workers, and cannot interrupt their system calls. */
const running = new Set<QueueThread>();

process.on('exit', () => {
  for (const thread of running) thread.requestExit();
});

/** Whom a queue thread tells what happens. */
export interface QueueThreadListener {
  /** It has ended without having been asked; its queues have been forced out of its hands. */
  lost(error: Error): void;
  /** The model's code failed. */
  failed(error: unknown): void;
  /** The model has a new config space: resolves once the driver has been told. */
  configChanged(config: Uint8Array): Promise<void>;
}

/** A thread that runs some queues of a device. It does not keep the process alive. */
export class QueueThread {
  readonly #data: QueueThreadData;
  readonly #blocks: readonly QueueBlock[];
  readonly #listener: QueueThreadListener;
  #worker: Worker;
  #ended: Promise<void>;
  #stopping = false;
  #error: Error | undefined;

  /** Starts it. */
  constructor(data: QueueThreadData, blocks: readonly QueueBlock[], listener: QueueThreadListener) {
    this.#data = { ...data, aperture: withoutWindows(data.aperture) };
    this.#blocks = blocks;
    this.#listener = listener;
    [this.#worker, this.#ended] = this.#start();
  }

  get worker(): Worker {
    return this.#worker;
  }

  /** Tells it that what the LIFE block says may have changed. */
  lifeChanged(): void {
    if (this.#onLoop) this.#tell({ type: 'life' });
  }

  /** Starts another one if it has ended; its queues must be stopped, or belong to nobody. */
  replaceIfLost(): void {
    if (this.#stopping || running.has(this)) return;
    [this.#worker, this.#ended] = this.#start();
  }

  /** Asks it to leave, at once and for good. */
  requestExit(): void {
    this.#stopping = true;
    for (const block of this.#blocks) block.requestExit();
    loadAddon().eventfdSignal(this.#data.wakeFd);
  }

  /**
   * Asks it to leave and waits until it has: false if neither that nor terminating it helped, each within STOP_LIMIT_MS,
   * because the kernel does not let go of it. What it may be using must then stay.
   */
  async stop(): Promise<boolean> {
    this.requestExit();
    await this.#endsWithin(this.#ended);
    if (running.has(this)) await this.#endsWithin(this.#worker.terminate());
    return !running.has(this);
  }

  /** Code of the model runs in it. */
  get #onLoop(): boolean {
    return this.#data.queues.some(({ datapath }) => datapath.onLoop);
  }

  #tell(command: QueueThreadCommand): void {
    this.#worker.postMessage(command);
  }

  #receive(event: QueueThreadEvent): void {
    if (event.type === 'failed') {
      this.#listener.failed(event.error);
      return;
    }
    const { id } = event;
    this.#listener.configChanged(event.config).then(
      () => this.#tell({ type: 'configured', id }),
      (error) => this.#tell({ type: 'configured', id, error }),
    );
  }

  async #endsWithin(end: Promise<unknown>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, STOP_LIMIT_MS);
    });
    await Promise.race([end, limit]);
    clearTimeout(timer);
  }

  #start(): [Worker, Promise<void>] {
    const main = this.#onLoop ? 'loop-thread-main.js' : 'queue-thread-main.js';
    const worker = new Worker(new URL(main, import.meta.url), {
      name: 'ringbell queue',
      workerData: this.#data,
      execArgv: [],
    });
    worker.on('message', (event: QueueThreadEvent) => this.#receive(event));
    // After the listener, which would keep the process alive.
    worker.unref();
    running.add(this);
    worker.on('error', (error) => {
      this.#error = error;
    });
    const ended = new Promise<void>((resolve) => {
      worker.on('exit', (code) => {
        running.delete(this);
        resolve();
        if (this.#stopping) return;
        // Before anything else: whoever waits for the thread to leave a gate must not wait for ever.
        for (const block of this.#blocks) block.gate.force();
        this.#listener.lost(this.#error ?? new Error(`the thread ended with status ${code}`));
      });
    });
    return [worker, ended];
  }
}

/** A queue thread maps nothing. */
function withoutWindows(handle: ApertureHandle): ApertureHandle {
  return { ...handle, windows: { start: handle.privateBytes, end: handle.privateBytes } };
}
