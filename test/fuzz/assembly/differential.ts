// The fast path against the complete one, at the speed of the engine: random rings are made, taken as a burst (split/parse.ts),
// or as one chain or two (split/few.ts), and each chain is judged once more, alone, by split/chain.ts. Whatever a burst has taken must be what the complete path
// makes of it, segment by segment; what it has not taken must be refused there for the same reason.

import { NO_ROOM } from '../../../assembly/chain';
import {
  CHAIN_COUNTS,
  CHAIN_SIZE,
  IOTLB_ENTRIES,
  IOTLB_ENTRY_BYTES,
  IOTLB_ENTRY_DENY,
  IOTLB_ENTRY_IOVA,
  IOTLB_ENTRY_LINEAR,
  IOTLB_ENTRY_SIZE,
  IOTLB_GENERATION,
  SEGMENT_SIZE,
  VERDICT_TOO_MANY_SEGMENTS,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DRIVER,
  VQ_F_INDIRECT_DESC,
  VQ_FAULT_IOVA,
  VQ_FLAGS,
  VQ_LAST_AVAIL,
  VQ_MISS,
  VQ_REGION_BYTES,
  VQ_REGION_DENY,
  VQ_REGION_GENERATION,
  VQ_REGION_IOVA,
  VQ_REGION_LINEAR,
  VQ_SEGMENTS,
  VQ_SEGMENTS_CAPACITY,
  VQ_SHADOW_AVAIL,
  VQ_SIZE,
  VQ_VERDICT,
} from '../../../assembly/layout';
import { FEW } from '../../../assembly/segments';
import { chainParse } from '../../../assembly/split/chain';
import { popFew } from '../../../assembly/split/few';
import { parseBurst } from '../../../assembly/split/parse';
import { VIRTQ_AVAIL_RING, VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_WRITE, VIRTQ_DESC_SIZE } from '../../../assembly/virtio';

/** What `alike` answers where a chain is not: more than any capacity. */
const DIFFERENT: u32 = 0xffff_ffff;
/** Chains of a ring, and the largest queue: what the fixture has room for. */
const CHAINS: u32 = 8;
/** Indirect tables, each of TABLE_ENTRIES descriptors. */
const TABLES: u32 = 4;
const TABLE_ENTRIES: u32 = 20;
/** Bytes between the tables: they are unaligned half of the time. */
const TABLE_STEP: u32 = TABLE_ENTRIES * VIRTQ_DESC_SIZE + 16;

/**
 * Plays `count` rings of the sequence of `seed`: the number of the first one on which the paths differ, or `count`. `vq` and
 * `other` are two queues over the same rings, each with tables of its own; `regions` entries of the IOTLB are in use, most addresses lie in number `home`.
 * `tables` is driver memory, linear, of TABLES · TABLE_STEP bytes; `tablesIova` its IOVA.
 */
export function differ(
  vq: usize,
  other: usize,
  ring: usize,
  iotlb: usize,
  regions: u32,
  home: u32,
  tables: usize,
  tablesIova: u64,
  seed: u64,
  count: u32,
): u32 {
  let state = seed;
  for (let i: u32 = 0; i < count; i++) {
    state = make(vq, other, ring, iotlb, regions, home, tables, tablesIova, state);
    if (!agreeFew(vq, other, ring, iotlb)) return i;
    if (!agree(vq, other, ring + VIRTQ_AVAIL_RING)) return i;
  }
  return count;
}

/** Vigna's splitmix64: the state moves by a constant. */
// @ts-ignore: decorator
@inline
function mix(state: u64): u64 {
  let z = state;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// @ts-ignore: decorator
@inline
function step(state: u64): u64 {
  return state + 0x9e3779b97f4a7c15;
}

/** Makes the ring of `state`: the state behind it. */
function make(
  vq: usize,
  other: usize,
  ring: usize,
  iotlb: usize,
  regions: u32,
  home: u32,
  tables: usize,
  tablesIova: u64,
  state: u64,
): u64 {
  state = step(state);
  const random = mix(state);
  const size: u32 = 2 << (<u32>random & 3);
  const flags: u32 = random & 4 ? VQ_F_INDIRECT_DESC : 0;
  // Segments: plenty, or hardly enough.
  const capacity: u32 = random & 0x38 ? 64 : 3 + (<u32>(random >> 6) & 7);
  const last = <u32>(random >> 32) & 0xffff;
  configure(vq, size, flags, capacity, last);
  configure(other, size, flags, capacity, last);
  // Any region may be the current one, as long as it can be read; or none.
  const current = (random >> 12 & 1) != 0 ? home : <u32>(random >> 16) % regions;
  const entry = iotlb + IOTLB_ENTRIES + current * IOTLB_ENTRY_SIZE;
  const deny = load<u32>(entry, IOTLB_ENTRY_DENY);
  store<u64>(vq, load<u64>(entry, IOTLB_ENTRY_IOVA), VQ_REGION_IOVA);
  store<u64>(vq, deny & 1 || (random >> 24 & 15) == 0 ? 0 : load<u64>(entry, IOTLB_ENTRY_BYTES), VQ_REGION_BYTES);
  store<u64>(vq, <u64>load<u32>(entry, IOTLB_ENTRY_LINEAR), VQ_REGION_LINEAR);
  store<u32>(vq, deny & VIRTQ_DESC_F_WRITE, VQ_REGION_DENY);
  const table: usize = load<u32>(vq, VQ_DESC);
  const withTables = flags != 0 || (random >> 28 & 15) == 0;
  const outer = withTables ? tablesIova : 0;
  for (let i: u32 = 0; i < size; i++)
    state = descriptor(table, i, size, size, iotlb, regions, home, outer, state);
  if (withTables) {
    const shift = <u32>(random >> 48) & 4;
    for (let t: u32 = 0; t < TABLES; t++) {
      const at = tables + t * TABLE_STEP + shift;
      const entries = min<u32>(2 + (<u32>(random >> (50 + t)) & 3), size);
      const inner = (random >> 54 & 7) == 0 ? tablesIova : 0;
      for (let i: u32 = 0; i < entries; i++)
        state = descriptor(at, i, entries, size, iotlb, regions, home, inner, state);
    }
  }
  for (let i: u32 = 0; i < CHAINS; i++) {
    state = step(state);
    const pick = mix(state);
    const head = (pick & 63) == 0 ? size + (<u32>(pick >> 8) & 1) * (65535 - size) : <u32>(pick >> 16) & (size - 1);
    store<u16>(ring + VIRTQ_AVAIL_RING + (((last + i) & (size - 1)) << 1), <u16>head);
  }
  return state;
}

function configure(vq: usize, size: u32, flags: u32, capacity: u32, last: u32): void {
  store<u32>(vq, size, VQ_SIZE);
  store<u32>(vq, flags, VQ_FLAGS);
  store<u32>(vq, capacity, VQ_SEGMENTS_CAPACITY);
  store<u32>(vq, last, VQ_LAST_AVAIL);
  store<u32>(vq, 0, VQ_VERDICT);
  store<u32>(vq, 0, VQ_MISS);
}

/** Writes descriptor `index` of a table of `entries`, mostly sound: the state behind it. */
function descriptor(
  table: usize,
  index: u32,
  entries: u32,
  size: u32,
  iotlb: usize,
  regions: u32,
  home: u32,
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
  if (tablesIova != 0 && (random >> 6 & 1) != 0) {
    const count = min<u32>(2 + (<u32>(more >> 2) & 3), size);
    let bytes = count * VIRTQ_DESC_SIZE;
    if ((more >> 4 & 15) == 0) bytes = <u32>(more >> 8) & 511;
    const iova = tablesIova + <u64>((<u32>more & 3) * TABLE_STEP) + <u64>(<u32>(more >> 17) & 4);
    const extra = (more >> 20 & 15) == 0 ? <u32>(more >> 24) & 3 : 0;
    put(at, iova, bytes, VIRTQ_DESC_F_INDIRECT | extra, next);
    return state;
  }
  const entry = iotlb + IOTLB_ENTRIES + ((random >> 8 & 7) != 0 ? home : <u32>(random >> 11) % regions) * IOTLB_ENTRY_SIZE;
  const start = load<u64>(entry, IOTLB_ENTRY_IOVA);
  const length = load<u64>(entry, IOTLB_ENTRY_BYTES);
  let iova = start + (more & 0xfff);
  let bytes = 1 + (<u32>(more >> 12) & 63);
  switch (<u32>(random >> 20) & 31) {
    case 0: iova = start + length - (more & 31); break;
    case 1: iova = start + (<u64>1 << 63) - (more & 31); break;
    case 2: iova = more; break;
    case 3: bytes = <u32>(more >> 32); break;
    case 4: bytes = <u32>1 << (<u32>(more >> 32) & 31); break;
    case 5: bytes = (more >> 40 & 1) != 0 ? 0 : 0x7fff_ffff + (<u32>(more >> 32) & 3); break;
    default: break;
  }
  // NEXT half of the time, WRITE rather at the end of a chain.
  let link = <u32>(random >> 30) & 1;
  if ((random >> 31 & 3) == 0 || (link == 0 && (random >> 33 & 1) != 0)) link |= VIRTQ_DESC_F_WRITE;
  if ((random >> 40 & 63) == 0) {
    link = <u32>(random >> 46) & 0xffff;
    // A table is read, and the largest region has no memory behind most of it.
    if (link & VIRTQ_DESC_F_INDIRECT)
      iova = load<u64>(iotlb + IOTLB_ENTRIES + home * IOTLB_ENTRY_SIZE, IOTLB_ENTRY_IOVA) + (more & 0xffff);
  }
  put(at, iova, bytes, link, next);
  return state;
}

// @ts-ignore: decorator
@inline
function put(at: usize, iova: u64, bytes: u32, flags: u32, next: u32): void {
  store<u64>(at, iova);
  store<u32>(at, bytes, 8);
  store<u16>(at, <u16>flags, 12);
  store<u16>(at, <u16>next, 14);
}

/** Whether a burst of `vq` is what the chains are one by one, for `other`. */
function agree(vq: usize, other: usize, heads: usize): bool {
  const size = load<u32>(vq, VQ_SIZE);
  const last = load<u32>(vq, VQ_LAST_AVAIL);
  const count = min(size, CHAINS);
  const taken = parseBurst(vq, heads, count);
  const room = alike(vq, other, heads, last, taken);
  if (room > load<u32>(vq, VQ_SEGMENTS_CAPACITY)) return false;
  if (taken == count) return isSound(vq);
  const head = <u32>load<u16>(heads + (((last + taken) & (size - 1)) << 1));
  return refusedAlike(vq, other, chainParse(other, head, load<u32>(other, VQ_SEGMENTS), room), taken);
}

/** The same of a burst of FEW, which judges nothing, and which is then put back. */
function agreeFew(vq: usize, other: usize, ring: usize, iotlb: usize): bool {
  const last = load<u32>(vq, VQ_LAST_AVAIL);
  store<u32>(vq, ring, VQ_DRIVER);
  store<u32>(vq, last + FEW, VQ_SHADOW_AVAIL);
  store<u32>(vq, load<u32>(iotlb, IOTLB_GENERATION), VQ_REGION_GENERATION);
  const taken = popFew(vq, FEW);
  if (load<u32>(vq, VQ_LAST_AVAIL) != ((last + taken) & 0xffff)) return false;
  store<u32>(vq, last, VQ_LAST_AVAIL);
  return alike(vq, other, ring + VIRTQ_AVAIL_RING, last, taken) <= load<u32>(vq, VQ_SEGMENTS_CAPACITY) && isSound(vq);
}

function isSound(vq: usize): bool {
  return load<u32>(vq, VQ_VERDICT) == 0 && load<u32>(vq, VQ_MISS) == 0;
}

/** Whether the `taken` chains of `vq` are what each is by itself: the segments that there is room for behind them, or DIFFERENT. */
function alike(vq: usize, other: usize, heads: usize, last: u32, taken: u32): u32 {
  const size = load<u32>(vq, VQ_SIZE);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  let room = load<u32>(vq, VQ_SEGMENTS_CAPACITY);
  const alone: usize = load<u32>(other, VQ_SEGMENTS);
  for (let i: u32 = 0; i < taken; i++) {
    const head = <u32>load<u16>(heads + (((last + i) & (size - 1)) << 1));
    const counts = chainParse(other, head, alone, room);
    const produced = counts >> 16;
    if (counts == 0 || counts == NO_ROOM) return DIFFERENT;
    if (load<u32>(chains + i * CHAIN_SIZE) != head) return DIFFERENT;
    if (load<u32>(chains + i * CHAIN_SIZE, CHAIN_COUNTS) != counts) return DIFFERENT;
    for (let s: u32 = 0; s < produced; s++, segment += SEGMENT_SIZE)
      if (load<u64>(segment) != load<u64>(alone + s * SEGMENT_SIZE)) return DIFFERENT;
    room -= produced;
  }
  return room;
}

function refusedAlike(vq: usize, other: usize, counts: u32, index: u32): bool {
  const verdict = load<u32>(vq, VQ_VERDICT);
  if (counts == NO_ROOM) return index == 0 ? verdict == VERDICT_TOO_MANY_SEGMENTS : verdict == 0;
  if (counts != 0 || verdict != load<u32>(other, VQ_VERDICT)) return false;
  const miss = load<u32>(vq, VQ_MISS);
  if (miss != load<u32>(other, VQ_MISS)) return false;
  return miss == 0 || load<u64>(vq, VQ_FAULT_IOVA) == load<u64>(other, VQ_FAULT_IOVA);
}
