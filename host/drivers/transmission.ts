import { abortError } from '../errors.js';

/** A promise of one `send`, kept by its frames. */
export class Transmission {
  readonly promise: Promise<void>;
  readonly #frames: readonly Uint8Array[];
  /** Whether the promise is kept or broken: then no more of its frames go to the ring. */
  settled = false;
  /** Next one in the queue of those with frames that wait for a slot. */
  next: Transmission | undefined;
  #taken = 0;
  #remaining: number;
  #resolve!: () => void;
  #reject!: (error: Error) => void;
  #unlisten: (() => void) | undefined;

  constructor(frames: readonly Uint8Array[]) {
    this.#frames = frames;
    this.#remaining = frames.length;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    if (frames.length === 0 && this.#settle()) this.#resolve();
  }

  /** The next frame that has no slot yet; undefined when all have one, or need none any more. */
  take(): Uint8Array | undefined {
    return this.settled ? undefined : this.#frames[this.#taken++];
  }

  /** Rejects as soon as `signal` aborts. */
  abortOn(signal: AbortSignal): void {
    if (this.settled) return;
    const abort = () => this.fail(abortError(signal));
    signal.addEventListener('abort', abort, { once: true });
    this.#unlisten = () => signal.removeEventListener('abort', abort);
  }

  /** Takes note that the device gave one frame back. */
  completed(): void {
    if (--this.#remaining === 0 && this.#settle()) this.#resolve();
  }

  /** Rejects at once. */
  fail(error: Error): void {
    if (this.#settle()) this.#reject(error);
  }

  #settle(): boolean {
    if (this.settled) return false;
    this.settled = true;
    this.#unlisten?.();
    return true;
  }
}
