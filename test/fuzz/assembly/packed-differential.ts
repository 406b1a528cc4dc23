// The fast path of packed rings against the complete one, as split-differential.ts does it for split ones: rings of any size,
// from any place on, in order and not, with and without tables, over regions that change.

import { NO_ROOM } from '../../../assembly/chain';
import {
  CHAIN_SIZE,
  IOTLB_ENTRY_IOVA,
  SEGMENT_BYTES,
  SEGMENT_SIZE,
  VERDICT_TOO_MANY_SEGMENTS,
  VQ_CHAINS,
  VQ_DESC,
  VQ_F_IN_ORDER,
  VQ_F_INDIRECT_DESC,
  VQ_F_PACKED,
  VQ_FAULT_IOVA,
  VQ_FLAGS,
  VQ_IOTLB,
  VQ_LAST_AVAIL,
  VQ_MISS,
  VQ_SEGMENTS,
  VQ_SEGMENTS_CAPACITY,
  VQ_SIZE,
  VQ_USED,
  VQ_VERDICT,
  VQ_WRITABLE,
} from '../../../assembly/layout';
import { devicePop } from '../../../assembly/device';
import { chainParse, nextHead } from '../../../assembly/packed/chain';
import { advance, availableOwner, indexOf, OWNER_MASK, retreat } from '../../../assembly/packed/position';
import { FEW } from '../../../assembly/segments';
import {
  PVIRTQ_DESC_ID,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../../../assembly/virtio';
import { linkOf, putBuffer, putTable, TABLE_SHIFT, TABLE_STEP, TABLES } from './descriptors';
import { begin, mix, step } from './random';
import { changeRegion, entryOf, makeCurrent, usualRegion } from './regions';

/** The most chains of a burst: twice and a half what is taken four at a time. */
const CHAINS: u32 = 10;
/** The longest ring, which has room for BEHIND more descriptors. */
const LONGEST: u32 = 13;
/** Descriptors behind the end of the ring, for a parser that goes on there. */
const BEHIND: u32 = 3;
/** Bit of the owner's two flags in those of a descriptor. */
const OWNER_SHIFT: u32 = 16;

/** As that of split rings. */
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
    make(vq, other, regions, home, tables, tablesIova, begin(seed, i));
    // Chains one and two by themselves first (packed/few.ts), then all of them.
    const start = load<u32>(vq, VQ_LAST_AVAIL);
    if (!agree(vq, other, FEW)) return i;
    rewind(vq, start);
    rewind(other, start);
    if (!agree(vq, other, CHAINS)) return i;
  }
  return end;
}

/** Makes the ring of `state`. */
function make(
  vq: usize,
  other: usize,
  regions: u32,
  home: u32,
  tables: usize,
  tablesIova: u64,
  state: u64,
): void {
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  const ring: usize = load<u32>(vq, VQ_DESC);
  state = step(state);
  const random = mix(state);
  const size: u32 = 1 + <u32>(random & 0xff) % LONGEST;
  const indirect = (random >> 8 & 1) != 0;
  const flags: u32 = VQ_F_PACKED | (indirect ? VQ_F_INDIRECT_DESC : 0) | ((random >> 9 & 1) != 0 ? VQ_F_IN_ORDER : 0);
  const capacity: u32 = (random >> 10 & 7) != 0 ? 64 : 3 + (<u32>(random >> 13) & 7);
  const position = (<u32>(random >> 16) & 0xff) % size | (<u32>(random >> 24) & 1) << 15;
  // What the device has not given back, its driver cannot offer: half of the time it has given everything back.
  const outstanding = (random >> 25 & 1) != 0 ? 0 : (<u32>(random >> 26) & 0xff) % (size + 1);
  const used = retreat(position, outstanding, size);
  configure(vq, size, flags, capacity, position, used);
  configure(other, size, flags, capacity, position, used);
  state = step(state);
  const usual = usualRegion(regions, home, mix(state));
  if ((random >> 34 & 1) != 0) makeCurrent(vq, regions, usual, random >> 35);
  state = step(state);
  const more = mix(state);
  if ((more & 15) == 0) changeRegion(iotlb, regions, home, more >> 4);
  const withTables = indirect || (more >> 42 & 15) == 0;
  // Of single descriptors in a row four are taken at a time: half of the rings have little else.
  const singles = (more >> 46 & 1) != 0;
  let place = position;
  for (let i: u32 = 0; i < size; i++) {
    const owner = availableOwner(place);
    state = descriptor(ring, indexOf(place), size, iotlb, regions, home, usual, withTables ? tablesIova : 0, singles, owner, state);
    place = advance(place, 1, size);
  }
  for (let i: u32 = 0; i < BEHIND; i++)
    state = descriptor(ring, size + i, size, iotlb, regions, home, usual, 0, singles, availableOwner(position), state);
  if (!withTables) return;
  // One of the tables; the others are as an earlier ring has left them.
  const at = tables + (<u32>(more >> 47) % TABLES) * TABLE_STEP + (<u32>(more >> 49) & 1) * TABLE_SHIFT;
  const inner = (more >> 50 & 7) == 0 ? tablesIova : 0;
  for (let i: u32 = 0; i < 5; i++)
    state = descriptor(at, i, size, iotlb, regions, home, usual, inner, false, 0, state);
}

function configure(vq: usize, size: u32, flags: u32, capacity: u32, position: u32, used: u32): void {
  store<u32>(vq, size, VQ_SIZE);
  store<u32>(vq, flags, VQ_FLAGS);
  store<u32>(vq, capacity, VQ_SEGMENTS_CAPACITY);
  store<u32>(vq, position, VQ_LAST_AVAIL);
  store<u32>(vq, used, VQ_USED);
  store<u32>(vq, 0, VQ_VERDICT);
  store<u32>(vq, 0, VQ_MISS);
}

/** Back to before a burst that began at `position`, whatever became of it. */
function rewind(vq: usize, position: u32): void {
  store<u32>(vq, position, VQ_LAST_AVAIL);
  store<u32>(vq, 0, VQ_VERDICT);
  store<u32>(vq, 0, VQ_MISS);
}

/** Writes descriptor `index`, which is available with `owner`, or nearly: the state behind it. */
function descriptor(
  table: usize,
  index: u32,
  size: u32,
  iotlb: usize,
  regions: u32,
  home: u32,
  usual: u32,
  tablesIova: u64,
  singles: bool,
  owner: u32,
  state: u64,
): u64 {
  state = step(state);
  const random = mix(state);
  state = step(state);
  const more = mix(state);
  const at = table + index * VIRTQ_DESC_SIZE;
  let flags: u32;
  if (tablesIova != 0 && (random & 1) != 0) flags = putTable(at, tablesIova, size, more);
  else {
    putBuffer(at, iotlb, regions, usual, random >> 8, more);
    flags = linkOf(random >> 30);
    if (singles && (random >> 34 & 15) != 0) flags &= ~VIRTQ_DESC_F_NEXT;
    if ((random >> 40 & 63) == 0) flags = <u32>(random >> 46) & (VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_INDIRECT);
    // A table is read, and the largest region has no memory behind most of it.
    if (flags & VIRTQ_DESC_F_INDIRECT)
      store<u64>(at, load<u64>(entryOf(iotlb, home), IOTLB_ENTRY_IOVA) + (more & 0xffff));
  }
  let word = <u32>(more & 0xffff) | (flags << 16) | owner;
  if ((random >> 49 & 31) == 0) word ^= <u32>(random >> 54) << OWNER_SHIFT & OWNER_MASK;
  store<u32>(at, word, PVIRTQ_DESC_ID);
  return state;
}

/** Whether a burst of `vq` is what the chains are one by one, for `other`. */
function agree(vq: usize, other: usize, most: u32): bool {
  const size = load<u32>(vq, VQ_SIZE);
  const start = load<u32>(vq, VQ_LAST_AVAIL);
  const inOrder = (load<u32>(vq, VQ_FLAGS) & VQ_F_IN_ORDER) != 0;
  const taken = devicePop(vq, most);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const writable: usize = load<u32>(vq, VQ_WRITABLE);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  let room = load<u32>(vq, VQ_SEGMENTS_CAPACITY);
  const alone: usize = load<u32>(other, VQ_SEGMENTS);
  let alike = true;
  let i: u32 = 0;
  for (; i < most; i++) {
    const word = nextHead(other);
    const chain = word == 0 ? 0 : chainParse(other, word, alone, room);
    if (i == taken) {
      alike = word == 0 ? sound(vq) : refusedAlike(vq, other, <u32>(chain >> 32), i);
      break;
    }
    const counts = <u32>(chain >> 32);
    alike = counts != 0 && counts != NO_ROOM && load<u64>(chains + i * CHAIN_SIZE) == chain;
    let bytes: u32 = 0;
    for (let s: u32 = 0; alike && s < counts >> 16; s++, segment += SEGMENT_SIZE) {
      alike = load<u64>(segment) == load<u64>(alone + s * SEGMENT_SIZE);
      if (s >= (counts & 0xffff)) bytes += load<u32>(segment, SEGMENT_BYTES);
    }
    if (!alike || (inOrder && load<u32>(writable + (i << 2)) != bytes)) return false;
    room -= counts >> 16;
    store<u32>(other, advance(load<u32>(other, VQ_LAST_AVAIL), <u32>chain >> 16, size), VQ_LAST_AVAIL);
  }
  if (load<u32>(vq, VQ_LAST_AVAIL) != load<u32>(other, VQ_LAST_AVAIL)) return false;
  // Left where the burst began, for whoever looks at the ring once more.
  store<u32>(other, start, VQ_LAST_AVAIL);
  return alike && (i < most || sound(vq));
}

// @ts-ignore: decorator
@inline
function sound(vq: usize): bool {
  return (load<u32>(vq, VQ_VERDICT) | load<u32>(vq, VQ_MISS)) == 0;
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
