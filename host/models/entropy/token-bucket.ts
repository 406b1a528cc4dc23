/** Milliseconds of a second. */
const SECOND_MS = 1000;

/** Lets through a number of tokens a second, and at most `capacity` at once after a while in which nobody took any. */
export class TokenBucket {
  readonly capacity: number;
  readonly #perSecond: number;
  readonly #now: () => number;
  #tokens: number;
  /** Milliseconds: when there were that many tokens. */
  #since: number;

  /** Full at first. `now` tells the time in milliseconds. */
  constructor(perSecond: number, capacity: number, now: () => number = () => performance.now()) {
    this.capacity = capacity;
    this.#perSecond = perSecond;
    this.#now = now;
    this.#tokens = capacity;
    this.#since = now();
  }

  /** Takes `tokens`, `capacity` at most, if there are so many: 0. Else takes none: whole milliseconds until there are. */
  take(tokens: number): number {
    const now = this.#now();
    const earned = ((now - this.#since) * this.#perSecond) / SECOND_MS;
    this.#tokens = Math.min(this.capacity, this.#tokens + earned);
    this.#since = now;
    if (this.#tokens < tokens)
      return Math.max(1, Math.ceil(((tokens - this.#tokens) * SECOND_MS) / this.#perSecond));
    this.#tokens -= tokens;
    return 0;
  }
}
