/** Bit of a place that carries the wrap counter. */
const WRAP = 0x8000;

/** A descriptor of a packed ring on the lap that a wrap counter stands for ("Driver and Device Ring Wrap Counters"). */
export class PackedPlace {
  index: number;
  wrap: boolean;
  readonly #size: number;

  constructor(size: number, index = 0, wrap = true) {
    this.#size = size;
    this.index = index;
    this.wrap = wrap;
  }

  /** As event suppression and vring bases carry it. */
  get value(): number {
    return this.index | (this.wrap ? WRAP : 0);
  }

  copy(): PackedPlace {
    return new PackedPlace(this.#size, this.index, this.wrap);
  }

  advance(descriptors: number): void {
    for (; descriptors > 0; descriptors--) {
      this.index++;
      if (this.index < this.#size) continue;
      this.index = 0;
      this.wrap = !this.wrap;
    }
  }

  /** Descriptors from here to `other`, which is less than two laps ahead. */
  to(other: PackedPlace): number {
    const place = this.copy();
    let steps = 0;
    for (; place.value !== other.value; steps++) place.advance(1);
    return steps;
  }

  /** Whether moving from here to `after` passes the place `event`. */
  passes(event: number, after: PackedPlace): boolean {
    for (const place = this.copy(); place.value !== after.value; place.advance(1))
      if (place.value === event) return true;
    return false;
  }
}
