import { RingbellError } from '../../errors.js';

/** The refusal of a module that cannot be understood, or that has what a model's must not have. */
export function refusal(what: string): RingbellError {
  return new RingbellError('ERR_MODULE', `the module of the model has ${what}`);
}

/**
 * Reads a WebAssembly binary, or a part of one, from front to back. JavaScript's engine has found it valid; where it has what
 * is not known here, ERR_MODULE is thrown sooner or later.
 */
export class BinaryReader {
  readonly #bytes: Uint8Array;
  #at: number;
  readonly #end: number;

  /** Over bytes [at, end) of `bytes`. */
  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
  }

  get done(): boolean {
    return this.#at >= this.#end;
  }

  byte(): number {
    if (this.done) throw refusal('a structure that is not known here');
    return this.#bytes[this.#at++]!;
  }

  /** An unsigned LEB128 of 32 bits. */
  u32(): number {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = this.byte();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
  }

  /** A signed LEB128 of 32 bits. */
  i32(): number {
    let value = 0;
    for (let shift = 0; ; ) {
      const byte = this.byte();
      value |= (byte & 0x7f) << shift;
      shift += 7;
      if (byte >= 0x80) continue;
      return shift < 32 && (byte & 0x40) !== 0 ? value | (-1 << shift) : value;
    }
  }

  /** Passes over LEB128 numbers, of whatever width. */
  skipNumbers(count: number): void {
    for (let i = 0; i < count; i++) while (this.byte() >= 0x80);
  }

  skip(bytes: number): void {
    this.#at += bytes;
  }

  name(): string {
    const bytes = this.u32();
    this.#at += bytes;
    return new TextDecoder().decode(this.#bytes.subarray(this.#at - bytes, this.#at));
  }

  /** Each member of a vector. */
  vector<T>(read: () => T): T[] {
    return Array.from({ length: this.u32() }, read);
  }

  /** A reader of what this one has left, which stays where it is. */
  rest(): BinaryReader {
    return new BinaryReader(this.#bytes, this.#at, this.#end);
  }

  /** A reader of the next `bytes` bytes, which this one passes over. */
  part(bytes: number): BinaryReader {
    this.#at += bytes;
    return new BinaryReader(this.#bytes, this.#at - bytes, this.#at);
  }
}
