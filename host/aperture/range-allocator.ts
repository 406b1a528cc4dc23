import { RingbellError } from '../errors.js';

/** First-fit allocation of [start, end) in multiples of `unit`; neighbours merge when freed. */
export class RangeAllocator {
  readonly #unit: number;
  /** Free ranges, ascending, never touching. */
  readonly #free: { start: number; end: number }[];

  constructor(start: number, end: number, unit: number) {
    this.#unit = unit;
    this.#free = [{ start, end }];
  }

  /** Start of `bytes` bytes (a multiple of the unit). Throws ERR_APERTURE_FULL. */
  allocate(bytes: number): number {
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || bytes % this.#unit)
      throw new RingbellError('ERR_ARGUMENT', `${bytes} is no multiple of ${this.#unit} bytes`);
    const index = this.#free.findIndex((range) => range.end - range.start >= bytes);
    const range = this.#free[index];
    if (!range) throw new RingbellError('ERR_APERTURE_FULL', `no ${bytes} contiguous bytes left`);
    const { start } = range;
    range.start += bytes;
    if (range.start === range.end) this.#free.splice(index, 1);
    return start;
  }

  /** Gives [start, start + bytes) back. It must have been allocated. */
  free(start: number, bytes: number): void {
    const end = start + bytes;
    let index = this.#free.findIndex((range) => range.start >= end);
    if (index < 0) index = this.#free.length;
    const before = this.#free[index - 1];
    const after = this.#free[index];
    const joinsBefore = before?.end === start;
    const joinsAfter = after?.start === end;
    if (joinsBefore && joinsAfter) {
      before.end = after.end;
      this.#free.splice(index, 1);
    } else if (joinsBefore) before.end = end;
    else if (joinsAfter) after.start = start;
    else this.#free.splice(index, 0, { start, end });
  }
}
