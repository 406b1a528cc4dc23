/** A WebAssembly binary, section by section: what a model's module must not have, no compiler writes on request. */

export const I32 = 0x7f;
export const I64 = 0x7e;

const u32 = (value: number): number[] =>
  value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...u32(value >>> 7)];
const i32 = (value: number): number[] =>
  value >= -64 && value < 64 ? [value & 0x7f] : [(value & 0x7f) | 0x80, ...i32(value >> 7)];
const name = (text: string): number[] => [...u32(text.length), ...new TextEncoder().encode(text)];
const vector = (members: number[][]): number[] => [...u32(members.length), ...members.flat()];
const section = (id: number, contents: number[]): number[] => [id, ...u32(contents.length), ...contents];

export interface Parts {
  /** Types of functions: parameters, results. */
  types?: [number[], number[]][];
  /** [module, name, kind and description]. */
  imports?: [string, string, number[]][];
  /** Index of the type of each function. */
  functions?: number[];
  /** Limits of a memory of its own. */
  memory?: number[];
  /** [type, mutable, initial value]. */
  globals?: [number, boolean, number][];
  /** [name, kind, index]. */
  exports?: [string, number, number][];
  start?: number;
  /** Instructions of each function, without the last end. */
  code?: number[][];
  /** Contents of an active segment at address 0. */
  data?: number[];
}

/** The import of a memory: least and most pages, shared or not. */
export const memoryImport = (least = 0, most = 65536, shared = true): [string, string, number[]] => [
  'env',
  'memory',
  [2, shared ? 3 : 1, ...u32(least), ...u32(most)],
];

/** The import of a function. */
export const functionImport = (module: string, field: string, type: number): [string, string, number[]] => [
  module,
  field,
  [0, type],
];

/** Puts a binary together. */
export function binary(parts: Parts): Uint8Array {
  const {
    types = [],
    imports = [],
    functions = [],
    memory,
    globals = [],
    exports = [],
    start,
    code = [],
    data,
  } = parts;
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(
      1,
      vector(
        types.map(([given, taken]) => [
          0x60,
          ...vector(given.map((t) => [t])),
          ...vector(taken.map((t) => [t])),
        ]),
      ),
    ),
    ...section(
      2,
      vector(
        imports.map(([module, field, description]) => [...name(module), ...name(field), ...description]),
      ),
    ),
    ...section(3, vector(functions.map(u32))),
    ...(memory ? section(5, vector([memory])) : []),
    ...section(
      6,
      vector(
        globals.map(([type, mutable, value]) => [
          type,
          mutable ? 1 : 0,
          type === I64 ? 0x42 : 0x41,
          ...i32(value),
          0x0b,
        ]),
      ),
    ),
    ...section(7, vector(exports.map(([field, kind, index]) => [...name(field), kind, ...u32(index)]))),
    ...(start === undefined ? [] : section(8, u32(start))),
    ...section(10, vector(code.map((body) => [...u32(body.length + 2), 0, ...body, 0x0b]))),
    ...(data ? section(11, vector([[0, 0x41, 0, 0x0b, ...vector(data.map((byte) => [byte]))]])) : []),
  ]);
}
