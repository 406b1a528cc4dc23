// The fast path of split rings against the complete one, at the speed of the engine: random rings are made, taken as a burst
// (split/parse.ts), and each chain is judged once more, alone, by split/chain.ts. Whatever a burst has taken must be what the
// complete path makes of it, segment by segment; what it has not taken must be refused there for the same reason.

import { NO_ROOM } from '../../../assembly/chain';
import {
  CHAIN_COUNTS,
  CHAIN_SIZE,
  IOTLB_ENTRY_IOVA,
  SEGMENT_SIZE,
  VERDICT_TOO_MANY_SEGMENTS,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DRIVER,
  VQ_F_INDIRECT_DESC,
  VQ_FAULT_IOVA,
  VQ_FLAGS,
  VQ_IOTLB,
  VQ_LAST_AVAIL,
  VQ_MISS,
  VQ_SEGMENTS,
  VQ_SEGMENTS_CAPACITY,
  VQ_SHADOW_AVAIL,
  VQ_SIZE,
  VQ_VERDICT,
} from '../../../assembly/layout';
import { devicePop } from '../../../assembly/device';
import { chainParse } from '../../../assembly/split/chain';
import { FEW } from '../../../assembly/segments';
import { VIRTQ_AVAIL_IDX, VIRTQ_AVAIL_RING, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_SIZE } from '../../../assembly/virtio';
import { linkOf, putBuffer, putTable, TABLE_SHIFT, TABLE_STEP, TABLES } from './descriptors';
import { begin, mix, step } from './random';
import { changeRegion, entryOf, makeCurrent, usualRegion } from './regions';

/** The most chains of a burst. */
const CHAINS: u32 = 8;

/**
 * Plays rings [first, end) of the sequence of `seed`: the number of the first one on which the paths differ, or `end`. `vq`
 * and `other` are two queues over the same rings, each with tables of its own; `regions` entries of their IOTLB are in use, most
 * addresses lie in number `home`. `tables` is driver memory, linear, of TABLES · TABLE_STEP bytes; `tablesIova` its IOVA.
 */
export function differ(
  vq: usize,
  other: usize,
  regions: u32,
  home: u32,
  tables: usize,
  tablesIova: u64,
  seed: u64,
  first: u32,
  end: u32,
): u32 {
  for (let i = first; i < end; i++) {
    const count = make(vq, other, regions, home, tables, tablesIova, begin(seed, i));
    // Chains one and two by themselves first (split/few.ts), then all of them.
    if (!agree(vq, other, FEW)) return i;
    rewind(vq, other, count);
    if (!agree(vq, other, count)) return i;
  }
  return end;
}

/** Makes the ring of `state`: how many chains of it are available. */
function make(
  vq: usize,
  other: usize,
  regions: u32,
  home: u32,
  tables: usize,
  tablesIova: u64,
  state: u64,
): u32 {
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  const driver: usize = load<u32>(vq, VQ_DRIVER);
  state = step(state);
  const random = mix(state);
  const size: u32 = 2 << (<u32>random & 3);
  const flags: u32 = random & 4 ? VQ_F_INDIRECT_DESC : 0;
  // Segments: plenty, or hardly enough.
  const capacity: u32 = random & 0x38 ? 64 : 3 + (<u32>(random >> 6) & 7);
  const last = <u32>(random >> 32) & 0xffff;
  configure(vq, size, flags, capacity, last);
  configure(other, size, flags, capacity, last);
  // The region that was current on the ring before, which may have gone since; or another.
  state = step(state);
  const usual = usualRegion(regions, home, mix(state));
  if ((random >> 12 & 1) != 0) makeCurrent(vq, regions, usual, random >> 13);
  if ((random >> 48 & 15) == 0) {
    state = step(state);
    changeRegion(iotlb, regions, home, mix(state));
  }
  const table: usize = load<u32>(vq, VQ_DESC);
  const withTables = flags != 0 || (random >> 28 & 15) == 0;
  const outer = withTables ? tablesIova : 0;
  for (let i: u32 = 0; i < size; i++)
    state = descriptor(table, i, size, size, iotlb, regions, home, usual, outer, state);
  if (withTables) {
    // One of the tables; the others are as an earlier ring has left them.
    const at = tables + (<u32>(random >> 53) % TABLES) * TABLE_STEP + (<u32>(random >> 52) & 1) * TABLE_SHIFT;
    const entries = min<u32>(2 + (<u32>(random >> 55) & 3), size);
    const inner = (random >> 57 & 7) == 0 ? tablesIova : 0;
    for (let i: u32 = 0; i < entries; i++)
      state = descriptor(at, i, entries, size, iotlb, regions, home, usual, inner, state);
  }
  const count = min(size, CHAINS);
  for (let i: u32 = 0; i < count; i++) {
    state = step(state);
    const pick = mix(state);
    const head = (pick & 63) == 0 ? size + (<u32>(pick >> 8) & 1) * (65535 - size) : <u32>(pick >> 16) & (size - 1);
    store<u16>(driver + VIRTQ_AVAIL_RING + (((last + i) & (size - 1)) << 1), <u16>head);
  }
  store<u16>(driver, <u16>(last + count), VIRTQ_AVAIL_IDX);
  return count;
}

function configure(vq: usize, size: u32, flags: u32, capacity: u32, last: u32): void {
  store<u32>(vq, size, VQ_SIZE);
  store<u32>(vq, flags, VQ_FLAGS);
  store<u32>(vq, capacity, VQ_SEGMENTS_CAPACITY);
  store<u32>(vq, last, VQ_LAST_AVAIL);
  store<u32>(vq, last, VQ_SHADOW_AVAIL);
  store<u32>(vq, 0, VQ_VERDICT);
  store<u32>(vq, 0, VQ_MISS);
}

/** Back to before a burst of FEW of the `count` chains, whatever became of it. */
function rewind(vq: usize, other: usize, count: u32): void {
  const index = <u32>load<u16>(<usize>load<u32>(vq, VQ_DRIVER), VIRTQ_AVAIL_IDX);
  const last = (index - count) & 0xffff;
  const size = load<u32>(vq, VQ_SIZE);
  const flags = load<u32>(vq, VQ_FLAGS);
  const capacity = load<u32>(vq, VQ_SEGMENTS_CAPACITY);
  configure(vq, size, flags, capacity, last);
  configure(other, size, flags, capacity, last);
}

/** Writes descriptor `index` of a table of `entries`: the state behind it. */
function descriptor(
  table: usize,
  index: u32,
  entries: u32,
  size: u32,
  iotlb: usize,
  regions: u32,
  home: u32,
  usual: u32,
  tablesIova: u64,
  state: u64,
): u64 {
  state = step(state);
  const random = mix(state);
  state = step(state);
  const more = mix(state);
  const at = table + index * VIRTQ_DESC_SIZE;
  let next = index + 1 < entries ? index + 1 : 0;
  if ((random & 15) == 0) next = (random & 16) != 0 ? <u32>(random >> 5) & 31 : size | (0xffff * (<u32>(random >> 5) & 1));
  let link: u32;
  if (tablesIova != 0 && (random >> 6 & 1) != 0) link = putTable(at, tablesIova, size, more);
  else {
    putBuffer(at, iotlb, regions, usual, random >> 8, more);
    link = linkOf(random >> 30);
    if ((random >> 40 & 63) == 0) {
      link = <u32>(random >> 46) & 0xffff;
      // A table is read, and the largest region has no memory behind most of it.
      if (link & VIRTQ_DESC_F_INDIRECT)
        store<u64>(at, load<u64>(entryOf(iotlb, home), IOTLB_ENTRY_IOVA) + (more & 0xffff));
    }
  }
  store<u16>(at, <u16>link, 12);
  store<u16>(at, <u16>next, 14);
  return state;
}

/** Whether a burst of `vq` is what the chains are one by one, for `other`. */
function agree(vq: usize, other: usize, count: u32): bool {
  const mask = load<u32>(vq, VQ_SIZE) - 1;
  const heads: usize = load<u32>(vq, VQ_DRIVER) + VIRTQ_AVAIL_RING;
  const last = load<u32>(vq, VQ_LAST_AVAIL);
  const taken = devicePop(vq, count);
  if (load<u32>(vq, VQ_LAST_AVAIL) != ((last + taken) & 0xffff)) return false;
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  let room = load<u32>(vq, VQ_SEGMENTS_CAPACITY);
  const alone: usize = load<u32>(other, VQ_SEGMENTS);
  for (let i: u32 = 0; i < count; i++) {
    const head = <u32>load<u16>(heads + (((last + i) & mask) << 1));
    const counts = chainParse(other, head, alone, room);
    if (i == taken) return refusedAlike(vq, other, counts, i);
    const produced = counts >> 16;
    if (counts == 0 || counts == NO_ROOM) return false;
    if (load<u32>(chains + i * CHAIN_SIZE) != head) return false;
    if (load<u32>(chains + i * CHAIN_SIZE, CHAIN_COUNTS) != counts) return false;
    for (let s: u32 = 0; s < produced; s++, segment += SEGMENT_SIZE)
      if (load<u64>(segment) != load<u64>(alone + s * SEGMENT_SIZE)) return false;
    room -= produced;
  }
  return taken == count && load<u32>(vq, VQ_VERDICT) == 0 && load<u32>(vq, VQ_MISS) == 0;
}

/** Whether chain `index`, of which chainParse says `counts`, ends a burst as it should. */
function refusedAlike(vq: usize, other: usize, counts: u32, index: u32): bool {
  const verdict = load<u32>(vq, VQ_VERDICT);
  if (counts == NO_ROOM) return index == 0 ? verdict == VERDICT_TOO_MANY_SEGMENTS : verdict == 0;
  if (counts != 0 || verdict != load<u32>(other, VQ_VERDICT)) return false;
  const miss = load<u32>(vq, VQ_MISS);
  if (miss != load<u32>(other, VQ_MISS)) return false;
  return miss == 0 || load<u64>(vq, VQ_FAULT_IOVA) == load<u64>(other, VQ_FAULT_IOVA);
}
