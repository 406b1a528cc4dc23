/** Reads the binary format of WebAssembly, as far as the engine uses it: MVP, bulk memory, vectors, threads. */
export class WasmReader {
  readonly bytes: Uint8Array;
  at: number;

  constructor(bytes: Uint8Array, at: number) {
    this.bytes = bytes;
    this.at = at;
  }

  byte(): number {
    return this.bytes[this.at++]!;
  }

  /** LEB128. */
  unsigned(): number {
    let value = 0;
    for (let weight = 1; ; weight *= 128) {
      const byte = this.byte();
      value += (byte & 0x7f) * weight;
      if (byte < 0x80) return value;
    }
  }

  name(): string {
    const bytes = this.unsigned();
    this.at += bytes;
    return Buffer.from(this.bytes.subarray(this.at - bytes, this.at)).toString();
  }

  /** Skips the declarations of a function's locals. */
  locals(): void {
    for (let groups = this.unsigned(); groups > 0; groups--) {
      this.unsigned();
      this.byte();
    }
  }

  /** Skips an instruction with what belongs to it: its first byte. Throws for one that the engine has never had. */
  instruction(): number {
    const code = this.byte();
    if (code === 0xfc) this.#bulk();
    else if (code === 0xfd) this.#vector();
    else if (code === 0xfe) this.#atomic();
    else this.#plain(code);
    return code;
  }

  #plain(code: number): void {
    // block, loop, if; br, br_if, call, local.*, global.*; memory.size, memory.grow
    if (code >= 0x02 && code <= 0x04) this.#leb();
    else if (code === 0x0c || code === 0x0d || code === 0x10 || (code >= 0x20 && code <= 0x24)) this.#leb();
    else if (code === 0x0e) for (let labels = this.unsigned(); labels >= 0; labels--) this.#leb();
    else if (code === 0x11) this.#leb(2);
    else if (code === 0x1c) this.at += this.unsigned();
    else if (code >= 0x28 && code <= 0x3e) this.#leb(2);
    else if (code === 0x3f || code === 0x40) this.at++;
    // i32.const, i64.const, f32.const, f64.const
    else if (code === 0x41 || code === 0x42) this.#leb();
    else if (code === 0x43) this.at += 4;
    else if (code === 0x44) this.at += 8;
    else if (code > 0xc4) throw new Error(`instruction ${code.toString(16)}`);
  }

  /** memory.copy has two memories, memory.fill one; saturating conversions have nothing. */
  #bulk(): void {
    const code = this.unsigned();
    if (code === 10) this.at += 2;
    else if (code === 11) this.at++;
    else if (code > 7) throw new Error(`instruction fc ${code}`);
  }

  /** Loads and stores have alignment and offset, some of them a lane besides; constants and shuffles 16 bytes. */
  #vector(): void {
    const code = this.unsigned();
    if (code <= 11 || code === 92 || code === 93) this.#leb(2);
    else if (code === 12 || code === 13) this.at += 16;
    else if (code >= 21 && code <= 34) this.at++;
    else if (code >= 84 && code <= 91) {
      this.#leb(2);
      this.at++;
    }
  }

  /** All but the fence have alignment and offset. */
  #atomic(): void {
    if (this.unsigned() === 3) this.at++;
    else this.#leb(2);
  }

  /** Skips numbers in LEB128, of either sign. */
  #leb(count = 1): void {
    for (; count > 0; count--) while (this.byte() >= 0x80);
  }
}
