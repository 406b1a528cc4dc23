/**
 * How a C type lies in memory: the base of every codec, and the codecs of plain types. Little-endian, as the kernels are
 * that this package runs on.
 */

/**
 * The codec of one C type: `T` is what decoding gives, `I` what encoding takes.
 *
 * A value of the wrong JavaScript type is a TypeError, a value or a buffer of the wrong size a RangeError; both name the
 * field.
 */
export abstract class Codec<T, I = T> {
  /** The C type, for messages. */
  readonly name: string;
  /** sizeof, bytes. */
  readonly size: number;

  constructor(name: string, size: number) {
    this.name = name;
    this.size = size;
  }

  /** A new buffer that holds `value`. */
  encode(value: I): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.lengthOf(value));
    this.set(bytes, value);
    return bytes;
  }

  /** What the buffer holds from its first byte. */
  decode(bytes: Uint8Array): T {
    return this.read(this.viewOf(bytes), 0);
  }

  /** Stores `value` at the start of a buffer. */
  set(bytes: Uint8Array, value: I): void {
    this.write(this.viewOf(bytes), 0, value, this.name);
  }

  /** Bytes that `value` takes: `size`, or more where a flexible array member ends the type. */
  lengthOf(_value: I): number {
    return this.size;
  }

  abstract read(view: DataView, offset: number): T;

  /** `path` names the field in errors. */
  abstract write(view: DataView, offset: number, value: I, path: string): void;

  protected viewOf(bytes: Uint8Array): DataView {
    if (bytes.byteLength < this.size) {
      throw new RangeError(`${this.name}: takes ${this.size} bytes, the buffer has ${bytes.byteLength}`);
    }
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

class Integer extends Codec<number> {
  readonly #min: number;
  readonly #max: number;
  readonly #get: (view: DataView, offset: number) => number;
  readonly #set: (view: DataView, offset: number, value: number) => void;

  constructor(
    name: string,
    size: number,
    range: readonly [min: number, max: number],
    get: (view: DataView, offset: number) => number,
    set: (view: DataView, offset: number, value: number) => void,
  ) {
    super(name, size);
    [this.#min, this.#max] = range;
    this.#get = get;
    this.#set = set;
  }

  override read(view: DataView, offset: number): number {
    return this.#get(view, offset);
  }

  override write(view: DataView, offset: number, value: number, path: string): void {
    if (typeof value !== 'number') throw new TypeError(`${path}: expected a number, not a ${typeof value}`);
    if (!Number.isInteger(value) || value < this.#min || value > this.#max) {
      throw new RangeError(`${path}: ${value} is not a ${this.name} (${this.#min} to ${this.#max})`);
    }
    this.#set(view, offset, value);
  }
}

class BigInteger extends Codec<bigint> {
  override read(view: DataView, offset: number): bigint {
    return view.getBigUint64(offset, true);
  }

  override write(view: DataView, offset: number, value: bigint, path: string): void {
    if (typeof value !== 'bigint') throw new TypeError(`${path}: expected a bigint, not a ${typeof value}`);
    if (BigInt.asUintN(64, value) !== value) {
      throw new RangeError(`${path}: ${value} is not a ${this.name} (0 to 2^64 − 1)`);
    }
    view.setBigUint64(offset, value, true);
  }
}

/** __u8. */
export const u8: Codec<number> = new Integer(
  'u8',
  1,
  [0, 0xff],
  (view, offset) => view.getUint8(offset),
  (view, offset, value) => view.setUint8(offset, value),
);

/** __u16. */
export const u16: Codec<number> = new Integer(
  'u16',
  2,
  [0, 0xffff],
  (view, offset) => view.getUint16(offset, true),
  (view, offset, value) => view.setUint16(offset, value, true),
);

/** __u32, unsigned int. */
export const u32: Codec<number> = new Integer(
  'u32',
  4,
  [0, 0xffff_ffff],
  (view, offset) => view.getUint32(offset, true),
  (view, offset, value) => view.setUint32(offset, value, true),
);

/** int: file descriptors, −1 for none. */
export const s32: Codec<number> = new Integer(
  's32',
  4,
  [-0x8000_0000, 0x7fff_ffff],
  (view, offset) => view.getInt32(offset, true),
  (view, offset, value) => view.setInt32(offset, value, true),
);

/** __u64: addresses, sizes, feature masks. */
export const u64: Codec<bigint> = new BigInteger('u64', 8);

class CharArray extends Codec<string> {
  override read(view: DataView, offset: number): string {
    const bytes = Buffer.from(view.buffer, view.byteOffset + offset, this.size);
    const end = bytes.indexOf(0);
    return bytes.toString('utf8', 0, end < 0 ? this.size : end);
  }

  override write(view: DataView, offset: number, value: string, path: string): void {
    if (typeof value !== 'string') throw new TypeError(`${path}: expected a string, not a ${typeof value}`);
    const text = Buffer.from(value, 'utf8');
    if (text.length >= this.size || text.includes(0)) {
      throw new RangeError(`${path}: takes at most ${this.size - 1} bytes of UTF-8 without a NUL`);
    }
    const bytes = Buffer.from(view.buffer, view.byteOffset + offset, this.size);
    bytes.fill(0).set(text);
  }
}

/** char[size], NUL-terminated UTF-8. */
export function char(size: number): Codec<string> {
  return new CharArray(`char[${size}]`, size);
}

class FixedArray<T, I> extends Codec<T[], readonly I[]> {
  readonly #element: Codec<T, I>;
  readonly #count: number;

  constructor(element: Codec<T, I>, count: number) {
    super(`${element.name}[${count}]`, element.size * count);
    this.#element = element;
    this.#count = count;
  }

  override read(view: DataView, offset: number): T[] {
    return Array.from({ length: this.#count }, (_, index) =>
      this.#element.read(view, offset + index * this.#element.size),
    );
  }

  override write(view: DataView, offset: number, value: readonly I[], path: string): void {
    if (value.length !== this.#count) {
      throw new RangeError(`${path}: takes ${this.#count} elements, not ${value.length}`);
    }
    value.forEach((element, index) => {
      this.#element.write(view, offset + index * this.#element.size, element, `${path}[${index}]`);
    });
  }
}

/** `count` elements, one behind the other. */
export function array<T, I>(element: Codec<T, I>, count: number): Codec<T[], readonly I[]> {
  return new FixedArray(element, count);
}

class FlexibleArray extends Codec<Uint8Array> {
  override lengthOf(value: Uint8Array): number {
    return value.byteLength;
  }

  override read(view: DataView, offset: number): Uint8Array {
    return new Uint8Array(view.buffer, view.byteOffset + offset, view.byteLength - offset);
  }

  override write(view: DataView, offset: number, value: Uint8Array, path: string): void {
    if (!(value instanceof Uint8Array)) throw new TypeError(`${path}: expected a Uint8Array`);
    const room = this.read(view, offset);
    if (value.byteLength > room.byteLength) {
      throw new RangeError(`${path}: ${value.byteLength} bytes, the buffer has room for ${room.byteLength}`);
    }
    room.set(value);
  }
}

/** A C flexible array member (`__u8 buf[]`): the rest of the buffer. Decoding gives a view of it, not a copy. */
export const flexible: Codec<Uint8Array> = new FlexibleArray('u8[]', 0);
