import { PendingCall } from './pending-call.js';

/** The promise of one `read` of entropy: bytes that come piece by piece, whichever. */
export class EntropyRead extends PendingCall {
  readonly bytes: Uint8Array;
  /** Next one in the line of those that wait. */
  next: EntropyRead | undefined;
  #filled = 0;

  constructor(bytes: number) {
    super();
    this.bytes = new Uint8Array(bytes);
    if (bytes === 0) this.succeed();
  }

  /** Bytes that it still wants. */
  get missing(): number {
    return this.settled ? 0 : this.bytes.length - this.#filled;
  }

  /** Takes of `payload` what it still wants: how much that is. */
  take(payload: Uint8Array): number {
    const taken = payload.subarray(0, this.missing);
    this.bytes.set(taken, this.#filled);
    this.#filled += taken.length;
    if (this.#filled === this.bytes.length) this.succeed();
    return taken.length;
  }
}
