import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { RingbellError } from '../errors.js';
import type { VduseDeviceListener } from './device-layout.js';
import type { DirtyOperation, DirtyRange } from './dirty-pages.js';
import type { VduseFile } from './file.js';
import { shareVduseFile } from './file-handle.js';
import type { MessageThreadCommand, MessageThreadData, MessageThreadEvent } from './message-thread-main.js';

/** Milliseconds that the thread has to end before it is given up: more than a pause may take. */
const STOP_LIMIT_MS = 15_000;

/** Whom a message thread tells what happens. */
export interface MessageThreadListener extends VduseDeviceListener {
  /** It ended without having been asked: the device has nobody left who answers. */
  lost(error: Error): void;
}

/** The thread that runs the control plane of one device. It keeps the process alive until `unref`. */
export class MessageThread {
  readonly #worker: Worker;
  readonly #ended: Promise<unknown>;
  readonly #listener: MessageThreadListener;
  #started: ((error?: Error) => void) | undefined;
  #change: { run: () => Uint8Array | undefined; done: (error?: Error) => void } | undefined;
  /** Who waits for dirty pages, in the order of the questions. */
  readonly #dirtyPages: { resolve(ranges: DirtyRange[]): void; reject(error: Error): void }[] = [];
  /** The end of the chain of reconfigurations. */
  #lastChange: Promise<unknown> = Promise.resolve();
  #stopping = false;
  #thread = 0;
  #hasEnded = false;
  #error: Error | undefined;

  /** Resolves once the device can be attached. Throws what keeps it from that. */
  static async start(
    file: VduseFile,
    data: Omit<MessageThreadData, 'file'>,
    listener: MessageThreadListener,
  ): Promise<MessageThread> {
    const { handle, transfer } = shareVduseFile(file);
    const worker = new Worker(new URL('message-thread-main.js', import.meta.url), {
      name: `ringbell ${file.name}`,
      workerData: { ...data, file: handle } satisfies MessageThreadData,
      transferList: transfer,
      execArgv: [],
      // Descriptors are the whole process's, and not all of those that the thread closes were opened through node:fs.
      trackUnmanagedFds: false,
    });
    const thread = new MessageThread(worker, listener);
    await new Promise<void>((resolve, reject) => {
      thread.#started = (error) => (error ? reject(error) : resolve());
    });
    return thread;
  }

  private constructor(worker: Worker, listener: MessageThreadListener) {
    this.#worker = worker;
    this.#listener = listener;
    this.#ended = once(worker, 'exit');
    worker.on('message', (event: MessageThreadEvent) => this.#receive(event));
    worker.on('error', (error) => {
      this.#error = error;
    });
    worker.on('exit', () => {
      this.#hasEnded = true;
      const error = this.#error ?? new RingbellError('ERR_THREAD_LOST', 'the message thread ended');
      this.#started?.(error);
      this.#change?.done(this.#gone());
      for (const { reject } of this.#dirtyPages.splice(0)) reject(this.#gone());
      if (!this.#stopping && !this.#started) this.#listener.lost(error);
    });
  }

  /** Its number in the kernel, 0 where that is not known. */
  get thread(): number {
    return this.#thread;
  }

  get worker(): Worker {
    return this.#worker;
  }

  /** Tells it that the thread of a queue has ended. */
  queueThreadLost(index: number): void {
    this.#tell({ type: 'threadLost', index });
  }

  /**
   * Has `change` run while no queue runs; it returns the config space, of which the driver is told, unless it has not changed. Throws what `change`
   * throws, ERR_THREAD_LOST if a queue cannot be stopped, ERR_DEVICE_BROKEN if the thread has ended, ERR_CONTROL_PLANE.
   */
  reconfigure(change: () => Uint8Array | undefined): Promise<void> {
    const result = this.#lastChange.then(
      () =>
        new Promise<void>((resolve, reject) => {
          if (this.#hasEnded) return reject(this.#gone());
          let failure: { error: unknown } | undefined;
          this.#change = {
            run: () => {
              try {
                return change();
              } catch (error) {
                failure = { error };
                return undefined;
              }
            },
            done: (error) => {
              if (failure) reject(failure.error);
              else if (error) reject(error);
              else resolve();
            },
          };
          this.#tell({ type: 'reconfigure' });
        }),
    );
    this.#lastChange = result.catch(() => {});
    return result;
  }

  /**
   * Does something with the pages that the device has written: those that were fetched. Throws ERR_THREAD_LOST if a queue
   * cannot be paused, ERR_DEVICE_BROKEN if the thread has ended.
   */
  dirtyPages(operation: DirtyOperation): Promise<DirtyRange[]> {
    return new Promise((resolve, reject) => {
      if (this.#hasEnded) return reject(this.#gone());
      this.#dirtyPages.push({ resolve, reject });
      this.#tell({ type: 'dirtyPages', operation });
    });
  }

  /** Keeps the process alive for the device. */
  ref(): void {
    this.#worker.ref();
  }

  /** Lets the process end although the device is being served. */
  unref(): void {
    this.#worker.unref();
  }

  /** Stops the queues, closes the file and ends the thread: within STOP_LIMIT_MS, or it is terminated. */
  async close(): Promise<void> {
    this.#stopping = true;
    // Until it has ended, the event loop has something to wait for.
    this.ref();
    this.#tell({ type: 'close' });
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<string>((resolve) => {
      timer = setTimeout(resolve, STOP_LIMIT_MS, 'limit');
    });
    if ((await Promise.race([this.#ended, limit])) === 'limit') await this.#worker.terminate();
    clearTimeout(timer);
  }

  #gone(): RingbellError {
    return new RingbellError('ERR_DEVICE_BROKEN', 'the thread that answers for the device has ended');
  }

  #tell(command: MessageThreadCommand): void {
    this.#worker.postMessage(command);
  }

  #receive(event: MessageThreadEvent): void {
    switch (event.type) {
      case 'started':
        this.#thread = event.thread;
        this.#started?.();
        this.#started = undefined;
        break;
      case 'status':
        this.#listener.status(event.status);
        break;
      case 'bounceBuffer':
        this.#listener.bounceBuffer(event.bounceBuffer, event.reason);
        break;
      case 'error':
        this.#listener.error(event.code, event.message);
        break;
      case 'paused':
        this.#tell({ type: 'config', config: this.#change!.run() });
        break;
      case 'configured':
        this.#change?.done(event.error && new RingbellError(event.error.code, event.error.message));
        this.#change = undefined;
        break;
      case 'dirtyPages': {
        const { resolve, reject } = this.#dirtyPages.shift()!;
        if (event.error) reject(new RingbellError(event.error.code, event.error.message));
        else resolve(event.ranges);
        break;
      }
      case 'closed':
        break;
    }
  }
}
