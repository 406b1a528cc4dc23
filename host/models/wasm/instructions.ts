import { type BinaryReader, refusal } from './binary-reader.js';

/**
 * What follows the opcode of each instruction, by opcode, as a string of: 'n' a LEB128 number, 'b' a byte, 'f' 4 bytes, 'd' 8
 * bytes, 'v' 16 bytes, 'N' a vector of numbers. WebAssembly's "Index of Instructions"; what is not here is not known here.
 */
const PLAIN = table([
  [0x00, 0x01, ''],
  [0x02, 0x04, 'n'],
  [0x05, 0x05, ''],
  [0x0b, 0x0b, ''],
  [0x0c, 0x0d, 'n'],
  [0x0e, 0x0e, 'Nn'],
  [0x0f, 0x0f, ''],
  [0x10, 0x10, 'n'],
  [0x11, 0x11, 'nn'],
  [0x1a, 0x1b, ''],
  [0x1c, 0x1c, 'N'],
  [0x20, 0x26, 'n'],
  [0x28, 0x3e, 'nn'],
  [0x3f, 0x40, 'n'],
  [0x41, 0x42, 'n'],
  [0x43, 0x43, 'f'],
  [0x44, 0x44, 'd'],
  [0x45, 0xc4, ''],
  [0xd0, 0xd0, 'n'],
  [0xd1, 0xd1, ''],
  [0xd2, 0xd2, 'n'],
]);
/** Prefix 0xfc: conversions, bulk memory, tables. */
const BULK = table([
  [0, 7, ''],
  [8, 8, 'nn'],
  [9, 9, 'n'],
  [10, 10, 'nn'],
  [11, 11, 'n'],
  [12, 12, 'nn'],
  [13, 13, 'n'],
  [14, 14, 'nn'],
  [15, 17, 'n'],
]);
/** Prefix 0xfd: vectors. */
const VECTOR = table([
  [0, 11, 'nn'],
  [12, 13, 'v'],
  [14, 20, ''],
  [21, 34, 'b'],
  [35, 83, ''],
  [84, 91, 'nnb'],
  [92, 93, 'nn'],
  [94, 0x113, ''],
]);
/** Prefix 0xfe: atomic operations. */
const ATOMIC = table([
  [0x00, 0x02, 'nn'],
  [0x03, 0x03, 'b'],
  [0x10, 0x4e, 'nn'],
]);
const PREFIXED = new Map([
  [0xfc, BULK],
  [0xfd, VECTOR],
  [0xfe, ATOMIC],
]);
/** Bytes of what has a fixed length. */
const FIXED: Record<string, number> = { b: 1, f: 4, d: 8, v: 16 };

const MEMORY_GROW = 0x40;
const END = 0x0b;

/** Instructions that a model's module must not have: opcode behind the prefix, name. */
const REFUSED_BULK = new Map([
  [8, 'memory.init'],
  [10, 'memory.copy'],
  [11, 'memory.fill'],
]);

function table(ranges: [first: number, last: number, immediates: string][]): Map<number, string> {
  const entries = ranges.flatMap(([first, last, immediates]) =>
    Array.from({ length: last - first + 1 }, (_, i) => [first + i, immediates] as const),
  );
  return new Map(entries);
}

/** Passes over one instruction: its opcode, if that has no prefix. Throws ERR_MODULE for one that a model must not have. */
function passInstruction(reader: BinaryReader): number {
  const prefix = reader.byte();
  const prefixed = PREFIXED.get(prefix);
  const opcode = prefixed ? reader.u32() : prefix;
  const bulk = prefixed === BULK ? REFUSED_BULK.get(opcode) : undefined;
  if (bulk !== undefined)
    throw refusal(`${bulk}, whose faults would end the process: compile it with --disable bulk-memory`);
  if (prefix === MEMORY_GROW)
    throw refusal("memory.grow, which comes with objects, arrays and strings: the memory is the device's");
  const immediates = (prefixed ?? PLAIN).get(opcode);
  if (immediates === undefined)
    throw refusal(`an instruction that is not known here (${prefix.toString(16)} ${opcode.toString(16)})`);
  for (const immediate of immediates) {
    if (immediate === 'n') reader.skipNumbers(1);
    else if (immediate === 'N') reader.skipNumbers(reader.u32());
    else reader.skip(FIXED[immediate]!);
  }
  return prefix;
}

/** Passes over a constant expression. Throws ERR_MODULE as above. */
export function passExpression(reader: BinaryReader): void {
  while (passInstruction(reader) !== END);
}

/** Passes over the body of a function, all of `body`. Throws ERR_MODULE as above. */
export function passBody(body: BinaryReader): void {
  // Locals: how many, of which type.
  body.vector(() => body.skipNumbers(2));
  while (!body.done) passInstruction(body);
}
