/** One who has a range, or waits for it. */
interface Holder {
  start: number;
  end: number;
  /** Those who have come later and wait for it. */
  waiters: (() => void)[];
}

/** Ranges of bytes that one at a time has: those that overlap take turns, in the order of the calls. */
export class RangeLock {
  /** In the order of the calls. */
  readonly #holders = new Set<Holder>();

  /** Runs `section` when everybody who has come earlier for a part of [start, end) has ended. */
  async run<T>(start: number, end: number, section: () => T | Promise<T>): Promise<T> {
    const earlier = [...this.#holders].filter((holder) => holder.start < end && start < holder.end);
    const own: Holder = { start, end, waiters: [] };
    this.#holders.add(own);
    try {
      if (earlier.length > 0)
        await Promise.all(
          earlier.map(({ waiters }) => new Promise<void>((resolve) => waiters.push(resolve))),
        );
      return await section();
    } finally {
      this.#holders.delete(own);
      for (const resolve of own.waiters) resolve();
    }
  }
}
