import { PendingCall } from './pending-call.js';

/** A promise of one `send`, kept by its frames. */
export class Transmission extends PendingCall {
  readonly #frames: readonly Uint8Array[];
  /** Next one in the queue of those with frames that wait for a slot. */
  next: Transmission | undefined;
  #taken = 0;
  #remaining: number;

  constructor(frames: readonly Uint8Array[]) {
    super();
    this.#frames = frames;
    this.#remaining = frames.length;
    if (frames.length === 0) this.succeed();
  }

  /** The next frame that has no slot yet; undefined when all have one, or need none any more. */
  take(): Uint8Array | undefined {
    return this.settled ? undefined : this.#frames[this.#taken++];
  }

  /** Takes note that the device gave one frame back. */
  completed(): void {
    if (--this.#remaining === 0) this.succeed();
  }
}
