/** Times that giving up the CPU is left out, after it has brought nothing. */
const PAUSE = 64;
/** Milliseconds; more is not the turn of a driver that fills its ring, but of somebody who computes. */
const TURN_LIMIT_MS = 5;

/**
 * Gives the driver its turn before a queue thread goes to sleep. On a CPU that both share, the driver that was just
 * interrupted is ready to run: when it has run, there is something in the ring, and neither a kick nor a wait was needed. On
 * a CPU that nobody else wants, giving it up returns at once and brings nothing, and is then left out for a while; the same
 * where somebody else takes the turn, and long.
 */
export class TurnGiver {
  readonly #yield: () => void;
  #given = false;
  #left = 0;

  /** `yieldCpu` lets others run that wait for this thread's CPU. */
  constructor(yieldCpu: () => void) {
    this.#yield = yieldCpu;
  }

  /** To be called when there is nothing to do: whether to look again before sleeping, because others had their turn. */
  give(): boolean {
    if (this.#given) {
      this.#given = false;
      this.#left = PAUSE;
      return false;
    }
    if (this.#left > 0) {
      this.#left--;
      return false;
    }
    const start = performance.now();
    this.#yield();
    if (performance.now() - start > TURN_LIMIT_MS) this.#left = PAUSE;
    else this.#given = true;
    return true;
  }

  /** To be called when there was something to do. */
  taken(): void {
    this.#given = false;
  }
}
