/** Bursts without giving a turn, at most, after turns that have brought nothing. */
const PAUSE_LIMIT = 64;
/** Microseconds; more is not the turn of a driver that fills its ring, but of somebody who computes. */
const TURN_LIMIT_MICROSECONDS = 5000;

/**
 * Gives the driver a turn after each burst. On a CPU that both share, the driver that was just interrupted is ready to run,
 * and so is one that was preempted while it filled its ring: when it has run, the next burst is larger, and neither a kick
 * nor a wait was needed. On a CPU that nobody else wants, giving it up returns at once and brings nothing; then, and where
 * somebody else takes the turn, and long, it is left out for one burst, for two, for four and so on.
 */
export class TurnGiver {
  readonly #yieldCpu: () => number;
  #given = false;
  /** Bursts that are left without a turn, and how many there will be the next time. */
  #left = 0;
  #pause = 1;

  /** `yieldCpu` lets others run that wait for this thread's CPU: the microseconds that it took. */
  constructor(yieldCpu: () => number) {
    this.#yieldCpu = yieldCpu;
  }

  /** To be called after a burst that served something. */
  give(): void {
    if (this.#given) this.#pause = 1;
    this.#given = false;
    if (this.#left > 0) {
      this.#left--;
      return;
    }
    if (this.#yieldCpu() > TURN_LIMIT_MICROSECONDS) this.#rest();
    else this.#given = true;
  }

  /** To be called when there was nothing to serve. */
  missed(): void {
    if (this.#given) this.#rest();
    this.#given = false;
  }

  #rest(): void {
    this.#left = this.#pause;
    this.#pause = Math.min(this.#pause * 2, PAUSE_LIMIT);
  }
}
