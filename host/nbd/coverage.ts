/** Which bytes of a range have come: in pieces that never overlap, in any order. */
export class Coverage {
  /** Pieces, ascending, never touching: their starts, and their ends. */
  readonly #starts: number[] = [];
  readonly #ends: number[] = [];
  readonly #limit: number;
  #bytes = 0;

  /** Holds `limit` pieces that do not touch at most. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Bytes of all pieces. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Adds [start, end): false, and nothing is added, if it overlaps a piece or there would be too many. */
  add(start: number, end: number): boolean {
    const index = this.#after(start);
    const before = index - 1;
    if (before >= 0 && this.#ends[before]! > start) return false;
    if (index < this.#starts.length && this.#starts[index]! < end) return false;
    const touchesBefore = before >= 0 && this.#ends[before] === start;
    const touchesAfter = index < this.#starts.length && this.#starts[index] === end;
    if (!touchesBefore && !touchesAfter && this.#starts.length === this.#limit) return false;
    this.#bytes += end - start;
    if (touchesBefore && touchesAfter) {
      this.#ends[before] = this.#ends[index]!;
      this.#starts.splice(index, 1);
      this.#ends.splice(index, 1);
    } else if (touchesBefore) this.#ends[before] = end;
    else if (touchesAfter) this.#starts[index] = start;
    else {
      this.#starts.splice(index, 0, start);
      this.#ends.splice(index, 0, end);
    }
    return true;
  }

  /** Index of the first piece that starts at `offset` or behind it. */
  #after(offset: number): number {
    let low = 0;
    let high = this.#starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle]! < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
