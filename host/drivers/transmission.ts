import { PendingCall } from './pending-call.js';

/** A promise of one `send`, kept by its payloads. */
export class Transmission extends PendingCall {
  readonly #payloads: readonly Uint8Array[];
  /** Next one in the queue of those with payloads that wait for a slot. */
  next: Transmission | undefined;
  #taken = 0;
  #remaining: number;

  constructor(payloads: readonly Uint8Array[]) {
    super();
    this.#payloads = payloads;
    this.#remaining = payloads.length;
    if (payloads.length === 0) this.succeed();
  }

  /** The next payload that has no slot yet; undefined when all have one, or need none any more. */
  take(): Uint8Array | undefined {
    return this.settled ? undefined : this.#payloads[this.#taken++];
  }

  /** Takes note that the device gave one payload back. */
  completed(): void {
    if (--this.#remaining === 0) this.succeed();
  }
}
