import { RingbellError } from '../errors.js';
import { VHOST_ACCESS_RW } from '../uapi/vhost.js';

/** Memory that a device is to see: struct vhost_memory_region, with a permission. Whole pages of a shared file mapping. */
export interface MemoryRegion {
  iova: bigint;
  /** Bytes. */
  bytes: bigint;
  /** Process address of the first byte. */
  address: bigint;
  /** VHOST_ACCESS_*; read and write by default. */
  perm?: number;
}

/** One mapping of an address space: what one UPDATE makes, and an INVALIDATE takes whole. */
export type Mapping = Readonly<Required<MemoryRegion>>;

/** A message that maps. */
export interface Update {
  readonly kind: 'update';
  readonly mapping: Mapping;
  /** Some of it is mapped now, to the same memory, and goes with an invalidation before. */
  readonly stays: boolean;
}

/** A message that takes every mapping in a range, and touches no other. */
export interface Invalidation {
  readonly kind: 'invalidation';
  readonly iova: bigint;
  /** Bytes. */
  readonly bytes: bigint;
  /** What it takes, ascending. */
  readonly mappings: readonly Mapping[];
}

/** What makes one table of another. */
export interface TableDifference {
  /** In the order in which they have to be sent. */
  readonly steps: readonly (Update | Invalidation)[];
  /** Memory of mappings that have to be cut: it stays, but is not mapped between two of the steps. */
  readonly cut: readonly Mapping[];
}

/** What lies between two mappings that stay. */
interface Gap {
  readonly going: Mapping[];
  /** Parts of `going` that stay. */
  readonly cut: Mapping[];
  readonly pieces: Mapping[];
}

const IOVA_LIMIT = 2n ** 64n;

/** IOVA behind the last byte. */
export const endOf = ({ iova, bytes }: { iova: bigint; bytes: bigint }) => iova + bytes;

/** A mapping that a region asks for. */
export function mappingOf({ iova, bytes, address, perm = VHOST_ACCESS_RW }: MemoryRegion): Mapping {
  return { iova, bytes, address, perm };
}

/**
 * A memory table, ascending by IOVA. Throws ERR_ARGUMENT for regions that overlap, pass 2^64 or are not whole pages of
 * `pageSize` bytes: the kernel rounds what it pins to pages, and would show the device more than it was to see.
 */
export function memoryTable(regions: readonly MemoryRegion[], pageSize: number): Mapping[] {
  const table = regions.map(mappingOf).sort((a, b) => (a.iova < b.iova ? -1 : 1));
  for (const [index, mapping] of table.entries()) {
    const { iova, bytes, address, perm } = mapping;
    const refuse = (what: string) =>
      new RingbellError('ERR_ARGUMENT', `the region at IOVA 0x${iova.toString(16)} ${what}`);
    if (bytes <= 0n || [iova, bytes, address].some((value) => value < 0n || value % BigInt(pageSize)))
      throw refuse('is not whole pages');
    if (endOf(mapping) > IOVA_LIMIT || address + bytes > IOVA_LIMIT) throw refuse('passes 2^64');
    if (!Number.isInteger(perm) || perm < 1 || perm > VHOST_ACCESS_RW)
      throw refuse(`has no permission ${perm}`);
    if (index && endOf(table[index - 1]!) > iova) throw refuse('overlaps another');
  }
  return table;
}

/**
 * The fewest messages that make `table` of what is `mapped`, where no memory that stays may be touched and no mapping may
 * span two regions of the table, so that each can go by itself later. Both are interval trees, walked in order, which is
 * how two of them are compared.
 *
 * Why there are no fewer: a mapping stays if the table has all of its bytes, at the same addresses, in however many regions;
 * any other has to go, for the kernel cuts none. Between two that stay, one invalidation takes everything, and none can
 * take anything on both sides of one. What the table has besides falls into pieces, each in one region and between two
 * mappings that stay: one update makes a piece, and none can make two, as no update may overlap what is mapped.
 *
 * Their order: updates of ranges where nothing goes come first, for they can be undone without a trace. Then each
 * invalidation that makes room is followed by what it makes room for, first of all by what stays; invalidations that only take
 * come after. Last of all is an update of new memory, if there is one: its answer is the device's to the whole table.
 */
export function tableDifference(mapped: readonly Mapping[], table: readonly Mapping[]): TableDifference {
  const gaps = findGaps(mapped, table);
  const additions: Update[] = [];
  const replacements: (Update | Invalidation)[] = [];
  const removals: Invalidation[] = [];
  for (const { going, cut, pieces } of gaps) {
    const updates = pieces.map((mapping): Update => {
      return { kind: 'update', mapping, stays: cut.some((part) => overlap(part, mapping)) };
    });
    if (!going.length) {
      additions.push(...updates);
      continue;
    }
    const { iova } = going[0]!;
    const range = { iova, bytes: endOf(going.at(-1)!) - iova };
    const inside = updates.filter(({ mapping }) => overlap(mapping, range));
    additions.push(...updates.filter((update) => !inside.includes(update)));
    const invalidation: Invalidation = { kind: 'invalidation', ...range, mappings: going };
    if (!inside.length) removals.push(invalidation);
    else
      replacements.push(
        invalidation,
        ...inside.filter(({ stays }) => stays),
        ...inside.filter(({ stays }) => !stays),
      );
  }
  const steps = [...additions, ...replacements, ...removals];
  const last = steps.findLastIndex((step) => step.kind === 'update' && !step.stays);
  if (last >= 0) steps.push(...steps.splice(last, 1));
  return { steps, cut: gaps.flatMap(({ cut }) => cut) };
}

/** The gaps that the mappings leave that stay, ascending: what goes there, and what is to come. */
function findGaps(mapped: readonly Mapping[], table: readonly Mapping[]): Gap[] {
  const gaps: Gap[] = [newGap()];
  const kept: Mapping[] = [];
  let next = 0;
  for (const mapping of mapped) {
    while (next < table.length && endOf(table[next]!) <= mapping.iova) next++;
    const parts = partsThatStay(mapping, table, next);
    if (parts.reduce((sum, { bytes }) => sum + bytes, 0n) === mapping.bytes) {
      kept.push(mapping);
      gaps.push(newGap());
    } else {
      gaps.at(-1)!.going.push(mapping);
      gaps.at(-1)!.cut.push(...parts);
    }
  }
  let gap = 0;
  for (const region of table) {
    let iova = region.iova;
    while (gap < kept.length && endOf(kept[gap]!) <= iova) gap++;
    for (; gap < kept.length && kept[gap]!.iova < endOf(region); gap++) {
      if (kept[gap]!.iova > iova) gaps[gap]!.pieces.push(part(region, iova, kept[gap]!.iova));
      iova = endOf(kept[gap]!);
      // It goes on in the next region, which must find it again.
      if (iova > endOf(region)) break;
    }
    if (iova < endOf(region)) gaps[gap]!.pieces.push(part(region, iova, endOf(region)));
  }
  return gaps;
}

/** What the table has of a mapping, at the same addresses and with the same permission. `next`: the first region that can have any. */
function partsThatStay(mapping: Mapping, table: readonly Mapping[], next: number): Mapping[] {
  const parts: Mapping[] = [];
  for (let index = next; index < table.length && table[index]!.iova < endOf(mapping); index++) {
    const region = table[index]!;
    if (region.address - region.iova !== mapping.address - mapping.iova || region.perm !== mapping.perm)
      continue;
    const start = region.iova > mapping.iova ? region.iova : mapping.iova;
    const end = endOf(region) < endOf(mapping) ? endOf(region) : endOf(mapping);
    parts.push(part(mapping, start, end));
  }
  return parts;
}

function newGap(): Gap {
  return { going: [], cut: [], pieces: [] };
}

/** The bytes of a mapping from IOVA `start` to before `end`. */
function part({ iova, address, perm }: Mapping, start: bigint, end: bigint): Mapping {
  return { iova: start, bytes: end - start, address: address + (start - iova), perm };
}

function overlap(a: { iova: bigint; bytes: bigint }, b: { iova: bigint; bytes: bigint }): boolean {
  return a.iova < endOf(b) && b.iova < endOf(a);
}
