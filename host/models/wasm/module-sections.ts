import { BinaryReader, refusal } from './binary-reader.js';
import { passBody, passExpression } from './instructions.js';

/** Ids of sections. */
const TYPE = 1;
const IMPORT = 2;
const FUNCTION = 3;
const MEMORY = 5;
const GLOBAL = 6;
const EXPORT = 7;
const START = 8;
const CODE = 10;
const DATA = 11;
/** Kinds of what is imported and exported, in the order of their numbers. */
const KINDS = ['function', 'table', 'memory', 'global', 'tag'] as const;
const VALUE_TYPES = new Map([
  [0x7f, 'i32'],
  [0x7e, 'i64'],
  [0x7d, 'f32'],
  [0x7c, 'f64'],
  [0x7b, 'v128'],
]);
const FUNCTION_TYPE = 0x60;
/** Magic and version. */
const HEADER_BYTES = 8;
const I32_CONST = 0x41;
const END = 0x0b;
/** Flags of limits. */
const BOUNDED = 1;
const SHARED = 2;

/** How large a memory or table is declared to be, in its units. */
export interface Limits {
  minimum: number;
  maximum: number | undefined;
  shared: boolean;
}

/** What is imported. */
export interface ModuleImport {
  module: string;
  name: string;
  kind: (typeof KINDS)[number];
  /** Of a memory. */
  limits: Limits | undefined;
}

/** What is exported. */
export interface ModuleExport {
  kind: (typeof KINDS)[number];
  /** Of a function: '(i32, i32) → i32'. Of a global: 'i32'. */
  type: string;
  /** Of an immutable i32 with a constant: that. */
  value: number | undefined;
}

/** What a WebAssembly module is made of, as far as a model's is judged by it. */
export interface ModuleSections {
  imports: ModuleImport[];
  exports: Map<string, ModuleExport>;
  /** It has a memory of its own. */
  memory: boolean;
  /** It has a function that runs when it is instantiated. */
  start: boolean;
  /** It writes to memory when it is instantiated, or can. */
  data: boolean;
}

interface Global {
  type: string;
  value: number | undefined;
}

/** Takes a valid module apart. Throws ERR_MODULE for what is not known here, and for instructions that no model may have. */
export function readSections(bytes: Uint8Array): ModuleSections {
  const sections = new Map<number, BinaryReader>();
  for (const reader = new BinaryReader(bytes, HEADER_BYTES); !reader.done; ) {
    const id = reader.byte();
    sections.set(id, reader.part(reader.u32()));
  }
  const types = readVector(sections.get(TYPE), readFunctionType);
  const functions: string[] = [];
  const globals: Global[] = [];
  const imports = readVector(sections.get(IMPORT), (reader) => readImport(reader, types, functions, globals));
  functions.push(...readVector(sections.get(FUNCTION), (reader) => types[reader.u32()]!));
  globals.push(...readVector(sections.get(GLOBAL), readGlobal));
  const exports = readVector(sections.get(EXPORT), (reader): [string, ModuleExport] => {
    const name = reader.name();
    const kind = KINDS[reader.byte()]!;
    const index = reader.u32();
    if (kind === 'function') return [name, { kind, type: functions[index]!, value: undefined }];
    if (kind === 'global') return [name, { kind, ...globals[index]! }];
    return [name, { kind, type: kind, value: undefined }];
  });
  readVector(sections.get(CODE), (reader) => passBody(reader.part(reader.u32())));
  return {
    imports,
    exports: new Map(exports),
    memory: readVector(sections.get(MEMORY), (reader) => readLimits(reader)).length > 0,
    start: sections.has(START),
    data: readVector(sections.get(DATA), () => true).length > 0,
  };
}

/** The members of a section that is a vector; none where there is no such section. */
function readVector<T>(reader: BinaryReader | undefined, read: (reader: BinaryReader) => T): T[] {
  return reader ? reader.vector(() => read(reader)) : [];
}

function readValueType(reader: BinaryReader): string {
  return VALUE_TYPES.get(reader.byte()) ?? 'reference';
}

function readFunctionType(reader: BinaryReader): string {
  if (reader.byte() !== FUNCTION_TYPE) throw refusal('types that are not known here');
  const parameters = reader.vector(() => readValueType(reader));
  const results = reader.vector(() => readValueType(reader));
  return `(${parameters.join(', ')}) → ${results.join(', ') || 'nothing'}`;
}

function readImport(
  reader: BinaryReader,
  types: readonly string[],
  functions: string[],
  globals: Global[],
): ModuleImport {
  const module = reader.name();
  const name = reader.name();
  const kind = KINDS[reader.byte()]!;
  let limits: Limits | undefined;
  if (kind === 'function') functions.push(types[reader.u32()]!);
  else if (kind === 'memory') limits = readLimits(reader);
  else if (kind === 'global') {
    globals.push({ type: readValueType(reader), value: undefined });
    reader.byte();
  } else {
    // The type of a table's elements; the attribute of a tag.
    reader.byte();
    if (kind === 'table') readLimits(reader);
    else reader.u32();
  }
  return { module, name, kind, limits };
}

function readLimits(reader: BinaryReader): Limits {
  const flags = reader.byte();
  const minimum = reader.u32();
  return { minimum, maximum: flags & BOUNDED ? reader.u32() : undefined, shared: (flags & SHARED) !== 0 };
}

/** A global with its initialiser, which is a constant expression. */
function readGlobal(reader: BinaryReader): Global {
  const type = readValueType(reader);
  const mutable = reader.byte() !== 0;
  const value = constantOf(reader.rest());
  passExpression(reader);
  return { type, value: mutable ? undefined : value };
}

/** The value of an expression that is one i32.const. */
function constantOf(reader: BinaryReader): number | undefined {
  if (reader.byte() !== I32_CONST) return undefined;
  const value = reader.i32();
  return reader.byte() === END ? value : undefined;
}
