/** What a side would have written to memory: linear address and bytes, in order. */
export class Writes {
  readonly #writes: [linear: number, bytes: number, value: number][] = [];

  u16(linear: number, value: number): void {
    this.#writes.push([linear, 2, value]);
  }

  u32(linear: number, value: number): void {
    this.#writes.push([linear, 4, value]);
  }

  /** Makes the writes since the last call in `image`, a copy of memory from `base` on. */
  apply(image: DataView, base: number): void {
    for (const [linear, bytes, value] of this.#writes)
      if (bytes === 2) image.setUint16(linear - base, value, true);
      else image.setUint32(linear - base, value, true);
    this.#writes.length = 0;
  }
}
