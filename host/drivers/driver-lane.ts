import type { Engine } from '../aperture/engine.js';
import { RuntimeError } from '../aperture/web-assembly.js';
import { RingbellError } from '../errors.js';
import { type CompletionMode, CompletionWatch } from './completion-watch.js';
import type { DriverQueue } from './driver-queue.js';
import type { VirtioDriver } from './virtio-driver.js';

/** What a lane is told when it is made. */
export interface DriverLaneOptions {
  mode: CompletionMode;
  /** Called once, with what broke the lane from within. */
  onBroken(error: RingbellError): void;
}

/** One virtqueue of a driven device on the caller's event loop: who waits for what is on it, and how it ends. */
export abstract class DriverLane {
  readonly queue: DriverQueue;
  readonly engine: Engine;
  /** What broke the lane, or that it was closed. */
  error: RingbellError | undefined;
  /** The queue is being reset: nothing is put on its ring, or taken off it. */
  protected paused = false;
  protected readonly watch: CompletionWatch;
  readonly #onBroken: (error: RingbellError) => void;

  constructor(queue: DriverQueue, options: DriverLaneOptions) {
    this.queue = queue;
    this.engine = queue.memory.aperture.engine;
    this.#onBroken = options.onBroken;
    this.watch = new CompletionWatch(queue, options.mode, () => {
      if (!this.error && !this.paused) this.look();
    });
  }

  /** Resolves once nothing is on its way that closing should wait for. */
  abstract drained(): Promise<void>;

  /** Whether what is on its way keeps the process alive. */
  hold(holds: boolean): void {
    this.watch.hold(holds);
    this.settle();
  }

  /**
   * Resets the queue and starts it again with `size` entries. What the device has given back by then ends as ever; what it has
   * not is put on the new ring. What comes meanwhile waits. Rejects with what broke or closed the lane: a queue of which
   * nobody knows whether it runs breaks it.
   */
  async reset(driver: VirtioDriver, size: number): Promise<void> {
    if (this.error) throw this.error;
    const { queue } = this;
    this.paused = true;
    try {
      await driver.resetQueue(queue);
      // Whatever has failed the lane meanwhile may have given its memory back.
      if (this.error) throw this.error;
      this.takeUsed();
      if (this.error) throw this.error;
      this.recall();
      queue.restart(size);
      this.restarted();
      await driver.enableQueue(queue);
    } catch (error) {
      const failure = this.trapped(error);
      throw this.error ?? (failure instanceof RingbellError ? this.break(failure) : failure);
    } finally {
      this.paused = false;
    }
    if (this.error) throw this.error;
    this.watch.restart();
    this.resume();
  }

  /** Gives the lane up: everything on its way fails. The error to be thrown. */
  break(cause: RingbellError): RingbellError {
    if (!this.error) {
      this.fail(new RingbellError('ERR_DEVICE_BROKEN', `the device is broken: ${cause.message}`, { cause }));
      this.#onBroken(cause);
    }
    return this.error as unknown as RingbellError;
  }

  /** Everything on its way fails with `error`, and what comes later too. Slots stay taken: the device may still write. */
  fail(error: RingbellError): void {
    if (this.error) return;
    this.error = error;
    this.failAll(error);
    this.settle();
  }

  close(): void {
    this.watch.close();
  }

  /** One turn: takes completions and moves up what waits; ends with `settle`. */
  protected abstract look(): void;
  /** Takes all that the device has given back, of a queue that it has let go of. What breaks the lane is thrown, or only its `error`. */
  protected abstract takeUsed(): void;
  /** Remembers what the device has not given back. */
  protected abstract recall(): void;
  /** The queue has as many slots as it will have, none of them in use. */
  protected abstract restarted(): void;
  /** Puts what was recalled, and what has come meanwhile, on the ring. */
  protected abstract resume(): void;
  /** Sees to it that the next completion is noticed while anybody waits. */
  protected abstract settle(): void;
  /** Fails everybody who waits. */
  protected abstract failAll(error: RingbellError): void;

  /** What a call into the engine threw: a trap has broken the lane, anything else is as it was. */
  protected trapped(error: unknown): unknown {
    if (!(error instanceof RuntimeError)) return error;
    return this.break(
      new RingbellError('ERR_TRAP', `queue ${this.queue.index}: ${error.message}`, { cause: error }),
    );
  }
}
