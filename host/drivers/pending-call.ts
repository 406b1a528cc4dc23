import { abortError } from '../errors.js';

/** One call of the application that waits for a device: a promise that is kept or broken once. */
export class PendingCall {
  readonly promise: Promise<void>;
  /** Whether the promise is kept or broken: then no more data of the application is moved for it. */
  settled = false;
  #resolve!: () => void;
  #reject!: (error: Error) => void;
  #unlisten: (() => void) | undefined;

  constructor() {
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** Rejects as soon as `signal` aborts, whatever the device does. */
  abortOn(signal: AbortSignal): void {
    if (this.settled) return;
    const abort = () => this.fail(abortError(signal));
    signal.addEventListener('abort', abort, { once: true });
    this.#unlisten = () => signal.removeEventListener('abort', abort);
  }

  /** Rejects at once. */
  fail(error: Error): void {
    if (this.#settle()) this.#reject(error);
  }

  /** Resolves, unless it has been rejected. */
  protected succeed(): void {
    if (this.#settle()) this.#resolve();
  }

  #settle(): boolean {
    if (this.settled) return false;
    this.settled = true;
    this.#unlisten?.();
    return true;
  }
}
