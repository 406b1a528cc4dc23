/**
 * Where a case gets its randomness from: a number below a limit, again and again. Every choice is a pure function of the seed
 * and of the number of the case, and can be written down, so that a case is the list of its choices: played again from the
 * list, made shorter, kept. 0 is always the plainest choice, and what follows the end of a list.
 */
export class Choices {
  /** What has been chosen since `record`, as it would be replayed. */
  recorded: number[] | undefined;
  #replay: readonly number[] | undefined;
  #at = 0;
  #a = 0;
  #b = 0;
  #c = 0;
  #d = 0;

  /** Begins case `index` of the sequence of `seed`. */
  seed(seed: number, index: number): this {
    this.#replay = undefined;
    this.recorded = undefined;
    this.#a = seed >>> 0;
    this.#b = index >>> 0;
    this.#c = Math.floor(index / 2 ** 32) ^ 0x9e3779b9;
    this.#d = 1;
    for (let i = 0; i < 8; i++) this.#next();
    return this;
  }

  /** Writes the choices of this case down. */
  record(): this {
    this.recorded = [];
    return this;
  }

  /** Begins the case that these choices are. */
  replay(choices: readonly number[]): this {
    this.#replay = choices;
    this.#at = 0;
    this.recorded = undefined;
    return this;
  }

  /** A whole number from 0 to `limit` − 1; `limit` is at most 2^32. */
  below(limit: number): number {
    if (this.#replay) return (this.#replay[this.#at++] ?? 0) % limit;
    const value = Math.floor((this.#next() / 4294967296) * limit);
    this.recorded?.push(value);
    return value;
  }

  /** True once in `times`. */
  once(times: number): boolean {
    return this.below(times) === times - 1;
  }

  pick<T>(values: readonly T[]): T {
    return values[this.below(values.length)]!;
  }

  /** Chris Doty-Humphrey's sfc32. */
  #next(): number {
    const t = (this.#a + this.#b + this.#d) | 0;
    this.#d = (this.#d + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t;
    return t >>> 0;
  }
}
