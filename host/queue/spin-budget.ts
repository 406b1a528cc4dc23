/** Looks at an empty ring that a polling datapath takes at least and at most before it gives up; 8192 are some 40 µs. */
const SPINS_MINIMUM = 64;
const SPINS_MAXIMUM = 8192;
/** Looks that are added when looking has found something. */
const SPINS_STEP = 256;
/** Calls in which watching did not pay, before it is tried at full length again. */
const PROBE_INTERVAL = 64;

/**
 * How long a datapath watches an empty ring. Watching pays where the driver runs beside us, and robs it of its CPU where it
 * does not: for longer when that has found something, half as long when it has not, and every now and then for as long as
 * possible, because what was so need not stay so.
 */
export class SpinBudget {
  readonly #maximum: number;
  #spins: number;
  /** Calls in which watching did not pay. */
  #misses = 0;

  /** `pollers` is how many queues share the thread that polls, 0 for a queue that is not polled. */
  constructor(pollers: number) {
    this.#maximum = pollers > 0 ? Math.floor(SPINS_MAXIMUM / pollers) : 0;
    this.#spins = this.#maximum;
  }

  /** Looks for the next call; 0 for a queue that is not polled. */
  get spins(): number {
    return this.#spins;
  }

  /** Takes note of whether watching paid in the last call. */
  adapt(paid: boolean): void {
    if (this.#maximum === 0) return;
    if (paid) this.#spins = Math.min(this.#spins + SPINS_STEP, this.#maximum);
    else if (++this.#misses % PROBE_INTERVAL === 0) this.#spins = this.#maximum;
    else this.#spins = Math.max(this.#spins >> 1, SPINS_MINIMUM);
  }
}
