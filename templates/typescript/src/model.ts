import { BlockModel } from 'ringbell';

const CAPACITY = 1048576;

/** The device: a disk in memory. */
export class Disk extends BlockModel {
  /** Bytes. */
  override readonly capacity = CAPACITY;
  override readonly id = '{{name}}'.slice(0, 20);
  readonly #bytes = new Uint8Array(CAPACITY);

  /** Fills `into` with the bytes at `offset`. May return a promise: other requests go on meanwhile. */
  override read(offset: number, into: Uint8Array): void {
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  /** Stores `from` at `offset`. */
  override write(offset: number, from: Uint8Array): void {
    this.#bytes.set(from, offset);
  }
}
