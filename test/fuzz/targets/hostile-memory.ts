import { VIRTQ_DESC_SIZE } from '../../../assembly/virtio.js';
import { DRIVER_BYTES, DRIVER_IOVA, DRIVER_LINEAR, type Ring } from '../../engine/fixture.js';
import type { Region } from '../../virtqueue/regions.js';
import type { Choices } from '../choices.js';

/** A region larger than the memory behind it: only translated, never touched. Lengths in it can add up to 2^32. */
const HUGE: Region = { iova: 0x10_0000_0000n, bytes: 0xf000_0000, linear: DRIVER_LINEAR, access: 3 };
/** Two adjacent regions apart in linear memory, the second one read-only; tables are put across their boundary. */
const END = DRIVER_IOVA + BigInt(DRIVER_BYTES);
const BOUNDARY = END + 4096n;
const LOW = DRIVER_LINEAR + 0x40000;
const HIGH = DRIVER_LINEAR + 0x60000;

/** What a hostile driver's addresses are translated by: every permission, neighbours, both ends of the address space. */
export const REGIONS: readonly Region[] = [
  { iova: DRIVER_IOVA, bytes: DRIVER_BYTES, linear: DRIVER_LINEAR, access: 3 },
  { iova: END, bytes: 4096, linear: LOW, access: 3 },
  { iova: BOUNDARY, bytes: 4096, linear: HIGH, access: 1 },
  { iova: 0x1000n, bytes: 4096, linear: DRIVER_LINEAR + 0x80000, access: 1 },
  { iova: 0x2000n, bytes: 4096, linear: DRIVER_LINEAR + 0x82000, access: 2 },
  { iova: 2n ** 64n - 4096n, bytes: 4096, linear: DRIVER_LINEAR + 0x90000, access: 3 },
  HUGE,
];

/** Offsets in driver memory: where buffers begin, where tables lie. */
const BUFFERS = 0x20000;
const TABLES = 0x18000;
/** Bytes between two tables: the longest, of a queue of 16, and what a misplaced one covers. */
const TABLE_STEP = 512;
const TABLE_COUNT = 4;

const EDGES = [
  ...REGIONS.slice(0, -1).flatMap(({ iova, bytes }) => [
    iova,
    iova + BigInt(bytes) - 8n,
    BigInt.asUintN(64, iova + BigInt(bytes)),
  ]),
  // Where the difference of two offsets changes its sign.
  ...REGIONS.map(({ iova }) => BigInt.asUintN(64, iova + 2n ** 63n - 16n)),
  0n,
  2n ** 64n - 1n,
];

/** Forgets whatever earlier cases have left where tables are read from. */
export function wipeMemory(ring: Ring): void {
  ring.u8.fill(0, ring.desc, ring.buffers);
  ring.u8.fill(0, DRIVER_LINEAR + TABLES, DRIVER_LINEAR + TABLES + TABLE_COUNT * TABLE_STEP + 64);
  ring.u8.fill(0, LOW + 4096 - 64, LOW + 4096);
  ring.u8.fill(0, HIGH, HIGH + TABLE_STEP);
}

/** Address and length of a buffer: mostly sound, so that deep rules are reached. */
export function hostileBuffer(choices: Choices): { iova: bigint; bytes: number } {
  let iova = DRIVER_IOVA + BigInt(BUFFERS + choices.below(0x1000));
  let bytes = 1 + choices.below(64);
  switch (choices.below(10)) {
    case 9:
      iova = BigInt.asUintN(64, choices.pick(EDGES) + BigInt(choices.below(16)));
      break;
    case 8:
      iova = HUGE.iova + BigInt(choices.below(4096));
      bytes = choices.pick([bytes, 0x80000000, 0x7fffffff, 0xe0000000]);
      break;
    case 7:
      bytes = choices.pick([4096, 9000, 2 ** 31, 0xffffffff, 0]);
      break;
  }
  return { iova, bytes };
}

/** An indirect table: what its descriptor says of it, and where its entries are to be written by `write`. */
export function hostileTable(
  ring: Ring,
  choices: Choices,
  write: (table: number, index: number, entries: number, mayNest: boolean) => void,
): { iova: bigint; bytes: number } {
  const count = 1 + choices.below(choices.once(8) ? 20 : 4);
  let table = DRIVER_LINEAR + TABLES + choices.below(TABLE_COUNT) * TABLE_STEP + choices.below(2) * 4;
  let iova = ring.iova(table);
  let torn = false;
  switch (choices.below(10)) {
    case 9:
      // Across the boundary of two regions: the first entry, and half of the second, before it.
      torn = true;
      table = LOW + 4096 - 24;
      iova = BOUNDARY - 24n;
      break;
    case 8:
      iova = ring.iova(ring.desc);
      break;
  }
  const bytes = choices.once(16) ? choices.below(80) : count * VIRTQ_DESC_SIZE;
  const entries = Math.min(count, ring.size + 1);
  const mayNest = choices.once(8);
  for (let i = 0; i < entries; i++) write(table, i, entries, mayNest);
  // What was written behind the boundary in linear memory belongs to the region that follows in the driver's addresses.
  if (torn) ring.u8.copyWithin(HIGH, LOW + 4096, LOW + 4096 + entries * VIRTQ_DESC_SIZE);
  return { iova, bytes };
}
