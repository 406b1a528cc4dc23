/** Addresses that a table remembers, at most: whoever sends from ever more of them has the oldest forgotten. */
const ENTRIES = 4096;
/** Milliseconds after which an address is forgotten that has sent nothing. */
const AGEING_MS = 300_000;

interface Entry<T> {
  place: T;
  /** Milliseconds, as performance.now counts them, at which the address was last seen. */
  seenAt: number;
}

/** Where addresses were last seen: 48-bit numbers, oldest first. */
export class MacTable<T> {
  readonly #entries = new Map<number, Entry<T>>();

  /** Addresses that it remembers. */
  get size(): number {
    return this.#entries.size;
  }

  /** Notes that `address` has sent something from `place`. */
  learn(address: number, place: T, now: number): void {
    // Behind all others: the map keeps the order of insertion.
    this.#entries.delete(address);
    this.#entries.set(address, { place, seenAt: now });
    if (this.#entries.size > ENTRIES) this.#forgetOldest();
  }

  /** Where an address is; undefined for one that was never seen, or too long ago. */
  find(address: number, now: number): T | undefined {
    const entry = this.#entries.get(address);
    if (!entry) return undefined;
    if (now - entry.seenAt <= AGEING_MS) return entry.place;
    this.#entries.delete(address);
    return undefined;
  }

  /** Forgets every address of a place that is no more. */
  forget(place: T): void {
    for (const [address, entry] of this.#entries) if (entry.place === place) this.#entries.delete(address);
  }

  #forgetOldest(): void {
    const [oldest] = this.#entries.keys();
    this.#entries.delete(oldest!);
  }
}

/** The address of six bytes at `offset`, as a number. */
export function macAt(frame: Uint8Array, offset: number): number {
  const high = (frame[offset]! << 8) | frame[offset + 1]!;
  const low =
    ((frame[offset + 2]! << 24) |
      (frame[offset + 3]! << 16) |
      (frame[offset + 4]! << 8) |
      frame[offset + 5]!) >>>
    0;
  return high * 2 ** 32 + low;
}
