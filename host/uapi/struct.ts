import { Codec } from './codec.js';

/** Where each member of a struct lies: its codec and its offset in bytes. Members of a union share an offset. */
export type Fields = Readonly<Record<string, readonly [codec: Codec<unknown, never>, offset: number]>>;

/** What decoding a struct with these fields gives. */
export type Values<F extends Fields> = {
  -readonly [K in keyof F]: F[K][0] extends Codec<infer T, never> ? T : never;
};

/** What encoding a struct with these fields takes: members left out stay zero, as with C's designated initializers. */
export type Initializer<F extends Fields> = {
  readonly [K in keyof F]?: F[K][0] extends Codec<infer _T, infer I> ? I : never;
};

/** The value that a codec decodes: `Decoded<typeof vduseVqInfo>`. */
export type Decoded<C> = C extends Codec<infer T, never> ? T : never;

/**
 * The codec of a C struct or union, from a table of its members. `set` stores the members that it is given and leaves
 * the others as they are.
 */
export class Struct<F extends Fields> extends Codec<Values<F>, Initializer<F>> {
  readonly fields: F;

  /** `name` is the struct's C name without `struct`, `size` its sizeof in bytes. */
  constructor(name: string, size: number, fields: F) {
    super(name, size);
    this.fields = fields;
  }

  /** One member of the struct that a buffer holds. */
  get<K extends keyof F & string>(bytes: Uint8Array, field: K): Values<F>[K] {
    const [codec, offset] = this.#member(field);
    return codec.read(this.viewOf(bytes), offset) as Values<F>[K];
  }

  override lengthOf(values: Initializer<F>): number {
    let length = this.size;
    for (const [field, value] of Object.entries(values)) {
      const [codec] = this.#member(field);
      length += codec.lengthOf(value as never) - codec.size;
    }
    return length;
  }

  override read(view: DataView, offset: number): Values<F> {
    const values: Record<string, unknown> = {};
    for (const [field, [codec, at]] of Object.entries(this.fields)) {
      values[field] = codec.read(view, offset + at);
    }
    return values as Values<F>;
  }

  override write(view: DataView, offset: number, values: Initializer<F>, path: string): void {
    for (const [field, value] of Object.entries(values)) {
      const [codec, at] = this.#member(field);
      codec.write(view, offset + at, value as never, `${path}.${field}`);
    }
  }

  #member(field: string): F[string] {
    if (!Object.hasOwn(this.fields, field)) throw new TypeError(`${this.name} has no member '${field}'`);
    return this.fields[field] as F[string];
  }
}

/** The codec of `struct name`, `size` bytes long. */
export function struct<const F extends Fields>(name: string, size: number, fields: F): Struct<F> {
  return new Struct(name, size, fields);
}
