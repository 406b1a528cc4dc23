import { WasmReader } from './wasm-reader.js';

/** Sections and instructions of the binary format, and what one reads on. */
const CUSTOM = 0;
const TYPE = 1;
const FUNCTION = 3;
const EXPORT = 7;
const CODE = 10;
const IF = 0x04;
const BR_IF = 0x0d;
const SELECT = 0x1b;
const SELECT_T = 0x1c;
const CALL = 0x10;
const I32_CONST = 0x41;
/** Bytes of the header: magic and version. */
const HEADER = 8;

/** Type of the function that counts: condition and number to condition. */
const COUNT_TYPE = [0x60, 2, 0x7f, 0x7f, 1, 0x7f];

/** Its body: stores 1 at `counters` + 2 · number + (condition ≠ 0), and gives the condition back. */
const countBody = (counters: number) => [
  0, // no locals
  0x20, 1, I32_CONST, 1, 0x74, // local.get 1, i32.const 1, i32.shl
  0x20, 0, I32_CONST, 0, 0x47, 0x6a, // local.get 0, i32.const 0, i32.ne, i32.add
  I32_CONST, 1, 0x3a, 0, ...unsigned(counters), // i32.const 1, i32.store8
  0x20, 0, 0x0b, // local.get 0, end
]; // biome-ignore format: an instruction after the other

/**
 * A module that notes which ways its conditions go: before each `if`, `br_if` and `select` the condition passes through a
 * function that stores to byte 2 · number + (condition ≠ 0) of the memory at `counters`. The module must import no function.
 */
export function countConditions(
  binary: Uint8Array,
  counters: number,
): { binary: Uint8Array; conditions: string[] } {
  const sections = [...sectionsOf(binary)];
  const names = functionNames(binary, sections);
  const conditions: string[] = [];
  const output = [...binary.subarray(0, HEADER)];
  for (const { id, start, end } of sections) {
    const reader = new WasmReader(binary, start);
    if (id === TYPE || id === FUNCTION) {
      const count = reader.unsigned();
      const rest = binary.subarray(reader.at, end);
      // The last type, and the last function, are the one that counts.
      const last = id === TYPE ? COUNT_TYPE : unsigned(typeCount(binary, sections));
      output.push(...section(id, [...unsigned(count + 1), ...rest, ...last]));
    } else if (id === CODE) {
      const count = reader.unsigned();
      const bodies: number[] = [];
      for (let index = 0; index < count; index++) {
        const bytes = reader.unsigned();
        const body = countIn(
          reader,
          reader.at + bytes,
          count,
          conditions,
          names.get(index) ?? `function ${index}`,
        );
        bodies.push(...unsigned(body.length), ...body);
      }
      const body = countBody(counters);
      output.push(...section(id, [...unsigned(count + 1), ...bodies, ...unsigned(body.length), ...body]));
    } else output.push(...section(id, [...binary.subarray(start, end)]));
  }
  return { binary: Uint8Array.from(output), conditions };
}

/** One function's body, up to `end`, with a call before each instruction that looks at a condition. */
function countIn(
  reader: WasmReader,
  end: number,
  counter: number,
  conditions: string[],
  name: string,
): number[] {
  const { bytes } = reader;
  const start = reader.at;
  reader.locals();
  const output = [...bytes.subarray(start, reader.at)];
  while (reader.at < end) {
    const at = reader.at;
    const instruction = reader.instruction();
    if (instruction === IF || instruction === BR_IF || instruction === SELECT || instruction === SELECT_T) {
      output.push(I32_CONST, ...signed(conditions.length), CALL, ...unsigned(counter));
      conditions.push(name);
    }
    output.push(...bytes.subarray(at, reader.at));
  }
  return output;
}

interface Section {
  id: number;
  start: number;
  end: number;
}

function* sectionsOf(binary: Uint8Array): Generator<Section> {
  for (const reader = new WasmReader(binary, HEADER); reader.at < binary.length; ) {
    const id = reader.byte();
    const bytes = reader.unsigned();
    yield { id, start: reader.at, end: reader.at + bytes };
    reader.at += bytes;
  }
}

function typeCount(binary: Uint8Array, sections: readonly Section[]): number {
  return new WasmReader(binary, sections.find(({ id }) => id === TYPE)!.start).unsigned();
}

/** What functions are called, by the name section, or as they are exported. */
function functionNames(binary: Uint8Array, sections: readonly Section[]): Map<number, string> {
  const names = new Map<number, string>();
  for (const { id, start, end } of sections) {
    const reader = new WasmReader(binary, start);
    if (id === EXPORT)
      for (let left = reader.unsigned(); left > 0; left--) {
        const name = reader.name();
        const isFunction = reader.byte() === 0;
        const index = reader.unsigned();
        if (isFunction && !names.has(index)) names.set(index, name);
      }
    if (id !== CUSTOM || reader.name() !== 'name') continue;
    while (reader.at < end) {
      const functions = reader.byte() === 1;
      const bytes = reader.unsigned();
      const next = reader.at + bytes;
      for (let left = functions ? reader.unsigned() : 0; left > 0; left--)
        names.set(reader.unsigned(), reader.name());
      reader.at = next;
    }
  }
  return names;
}

function section(id: number, contents: readonly number[]): number[] {
  return [id, ...unsigned(contents.length), ...contents];
}

/** LEB128. */
function unsigned(value: number): number[] {
  const low = value & 0x7f;
  return value < 0x80 ? [low] : [low | 0x80, ...unsigned(value >>> 7)];
}

/** LEB128 of a number from 0 on, with room for a sign. */
function signed(value: number): number[] {
  const low = value & 0x7f;
  return value < 0x40 ? [low] : [low | 0x80, ...signed(value >>> 7)];
}
