// The fast path of a packed ring: as that of a split one (split/parse.ts says why it is built as it is). A chain lies in
// consecutive descriptors, so that there is nothing to follow; one that goes on at the start of the ring, or might, is left to
// chainParse.

import { NO_ROOM, refuseTooManySegments } from '../chain';
import {
  CHAIN_SIZE,
  SEGMENT_BYTES,
  SEGMENT_SIZE,
  VQ_CHAINS,
  VQ_DESC,
  VQ_F_IN_ORDER,
  VQ_F_INDIRECT_DESC,
  VQ_FLAGS,
  VQ_LAST_AVAIL,
  VQ_REGION_BYTES,
  VQ_REGION_DENY,
  VQ_REGION_IOVA,
  VQ_REGION_LINEAR,
  VQ_SEGMENTS,
  VQ_SEGMENTS_CAPACITY,
  VQ_SIZE,
  VQ_WRITABLE,
} from '../layout';
import { FAST_SEGMENTS, fourSegments, oneSegment, threeSegments, twoSegments } from '../segments';
import {
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_SIZE,
} from '../virtio';
import { chainParse, nextHead, offerable } from './chain';
import { advance, availableOwner, indexOf, OWNER_MASK, positionOf } from './position';

/** Flags in the word of a descriptor's buffer id and flags. */
export const NEXT: u32 = VIRTQ_DESC_F_NEXT << 16;
export const INDIRECT: u32 = VIRTQ_DESC_F_INDIRECT << 16;
/** Where the same word of the descriptors behind lies. Bytes. */
const SECOND_ID: usize = VIRTQ_DESC_SIZE + PVIRTQ_DESC_ID;
const THIRD_ID: usize = 2 * VIRTQ_DESC_SIZE + PVIRTQ_DESC_ID;
const FOURTH_ID: usize = 3 * VIRTQ_DESC_SIZE + PVIRTQ_DESC_ID;
/** Bit of VIRTQ_DESC_F_WRITE in that word. */
const WRITE_BIT: i32 = 17;

/**
 * Takes chains from `at` on for as long as they are available, direct and plainly right, and moves VQ_LAST_AVAIL behind them:
 * the place reached. A place is a chain of the burst | linear address of its first segment << 32.
 */
function parseDirect(vq: usize, at: u64, count: u32): u64 {
  return load<u32>(vq, VQ_FLAGS) & VQ_F_IN_ORDER ? direct(vq, at, count, true) : direct(vq, at, count, false);
}

/** The same, compiled twice: only in order the bytes that the device may write are noted. */
// @ts-ignore: decorator
@inline
function direct(vq: usize, at: u64, count: u32, inOrder: bool): u64 {
  const size = load<u32>(vq, VQ_SIZE);
  const ring: usize = load<u32>(vq, VQ_DESC);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const end = segmentsEnd(vq);
  const base = i64x2.splat(load<u64>(vq, VQ_REGION_IOVA));
  const limit = i64x2.splat(load<u64>(vq, VQ_REGION_BYTES));
  const linear = i64x2.splat(load<u64>(vq, VQ_REGION_LINEAR));
  const deny = load<u32>(vq, VQ_REGION_DENY);
  let room = offerable(vq);
  let index = indexOf(load<u32>(vq, VQ_LAST_AVAIL));
  let owner = availableOwner(load<u32>(vq, VQ_LAST_AVAIL));
  const writable: usize = load<u32>(vq, VQ_WRITABLE);
  let k = <u32>at;
  let segment = <usize>(at >> 32);
  // Four at a time until that fails once: to try again for each chain would cost more than it brings.
  while (k + 4 <= count && index + 4 <= size && room >= 4 && segment < end) {
    const p = ring + (index << 4);
    const word0 = atomic.load<u32>(p, PVIRTQ_DESC_ID);
    const word1 = atomic.load<u32>(p, SECOND_ID);
    const word2 = atomic.load<u32>(p, THIRD_ID);
    const word3 = atomic.load<u32>(p, FOURTH_ID);
    const odd = (word0 ^ owner) | (word1 ^ owner) | (word2 ^ owner) | (word3 ^ owner);
    if (odd & (OWNER_MASK | INDIRECT | NEXT)) break;
    const words = fourWords(word0, word1, word2, word3);
    const lengths = fourSegments(p, (word0 | word1 | word2 | word3) >> 16, segment, base, limit, linear, deny);
    if (!v128.any_true(lengths)) break;
    const writes = v128.and(i32x4.shr_u(words, WRITE_BIT), i32x4.splat(1));
    const heads = v128.or(v128.and(words, i32x4.splat(0xffff)), i32x4.splat(1 << 16));
    const counts = i32x4.sub(i32x4.splat((1 << 16) | 1), writes);
    v128.store(chains + k * CHAIN_SIZE, v128.shuffle<u32>(heads, counts, 0, 4, 1, 5));
    v128.store(chains + k * CHAIN_SIZE, v128.shuffle<u32>(heads, counts, 2, 6, 3, 7), 16);
    if (inOrder) v128.store(writable + (k << 2), v128.and(lengths, i32x4.neg(writes)));
    k += 4;
    room -= 4;
    segment += 4 * SEGMENT_SIZE;
    index += 4;
    if (index == size) {
      index = 0;
      owner ^= OWNER_MASK;
    }
  }
  for (; k < count; k++) {
    const p0 = ring + (index << 4);
    // An atomic load: what the driver wrote before these flags is read after them. Pairs with its store of the first head.
    const word0 = atomic.load<u32>(p0, PVIRTQ_DESC_ID);
    if ((word0 ^ owner) & (OWNER_MASK | INDIRECT)) break;
    if (segment > end) break;
    const chain = parseList(p0, word0, size - index, segment, base, limit, linear, deny);
    const taken = <u32>(chain >> 32);
    if (taken == 0) break;
    const descriptors = taken >> 16;
    if (room < descriptors) break;
    room -= descriptors;
    store<u64>(chains + k * CHAIN_SIZE, chain);
    if (inOrder) store<u32>(writable + (k << 2), writableBytes(segment, taken));
    segment += descriptors * SEGMENT_SIZE;
    index += descriptors;
    if (index == size) {
      index = 0;
      owner ^= OWNER_MASK;
    }
  }
  store<u32>(vq, positionOf(index, owner), VQ_LAST_AVAIL);
  return <u64>k | (<u64>segment << 32);
}

/**
 * Takes one list of one, two or three descriptors, the first at `p0` with `word0`, `left` descriptors before the end of the
 * ring, if it lies wholly in the region and keeps every rule: writes its segments and returns its entry of the chain table,
 * which has counts of 0 for any other.
 */
// @ts-ignore: decorator
@inline
export function parseList(
  p0: usize,
  word0: u32,
  left: u32,
  segment: usize,
  base: v128,
  limit: v128,
  linear: v128,
  deny: u32,
): u64 {
  if (!(word0 & NEXT)) {
    const taken = oneSegment(p0, word0 >> 16, segment, base, limit, linear, deny);
    return entryOf(word0, 1, taken);
  }
  if (left < FAST_SEGMENTS) return 0;
  const p1 = p0 + VIRTQ_DESC_SIZE;
  const word1 = load<u32>(p0, SECOND_ID);
  if (word1 & INDIRECT) return 0;
  if (!(word1 & NEXT)) {
    const taken = twoSegments(p0, p1, word0 >> 16, word1 >> 16, segment, base, limit, linear, deny);
    return entryOf(word1, 2, taken);
  }
  const p2 = p1 + VIRTQ_DESC_SIZE;
  const word2 = load<u32>(p0, THIRD_ID);
  if (word2 & (INDIRECT | NEXT)) return 0;
  const flags2 = word2 >> 16;
  const taken = threeSegments(p0, p1, p2, word0 >> 16, word1 >> 16, flags2, segment, base, limit, linear, deny);
  return entryOf(word2, 3, taken);
}

/** The chain table's entry of a chain of `descriptors` of the ring whose id is in `word`; its counts are 0 if it was not taken. */
// @ts-ignore: decorator
@inline
export function entryOf(word: u32, descriptors: u32, taken: u32): u64 {
  return <u64>((word & 0xffff) | (descriptors << 16)) | (<u64>taken << 32);
}

/** The same for chains of one descriptor that refers to an indirect table. */
function parseIndirect(vq: usize, at: u64, count: u32): u64 {
  const size = load<u32>(vq, VQ_SIZE);
  const ring: usize = load<u32>(vq, VQ_DESC);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const end = segmentsEnd(vq);
  const base = i64x2.splat(load<u64>(vq, VQ_REGION_IOVA));
  const limit = i64x2.splat(load<u64>(vq, VQ_REGION_BYTES));
  const linear = i64x2.splat(load<u64>(vq, VQ_REGION_LINEAR));
  const deny = load<u32>(vq, VQ_REGION_DENY);
  let room = offerable(vq);
  let index = indexOf(load<u32>(vq, VQ_LAST_AVAIL));
  let owner = availableOwner(load<u32>(vq, VQ_LAST_AVAIL));
  const writable: usize = load<u32>(vq, VQ_WRITABLE);
  let k = <u32>at;
  let segment = <usize>(at >> 32);
  for (; k < count; k++) {
    const descriptor = ring + (index << 4);
    const word = atomic.load<u32>(descriptor, PVIRTQ_DESC_ID);
    if ((word ^ owner ^ INDIRECT) & (OWNER_MASK | INDIRECT | NEXT)) break;
    if (segment > end) break;
    if (room == 0) break;
    const taken = parseTable(vq, descriptor, size, segment, base, limit, linear, deny);
    if (taken == 0) break;
    room--;
    store<u64>(chains + k * CHAIN_SIZE, entryOf(word, 1, taken));
    store<u32>(writable + (k << 2), writableBytes(segment, taken));
    segment += (taken >> 16) * SEGMENT_SIZE;
    if (++index == size) {
      index = 0;
      owner ^= OWNER_MASK;
    }
  }
  store<u32>(vq, positionOf(index, owner), VQ_LAST_AVAIL);
  return <u64>k | (<u64>segment << 32);
}

/** Takes the chain in the table that the indirect descriptor at `p` refers to, as parseList: its counts, or 0. */
// @ts-ignore: decorator
@inline
export function parseTable(
  vq: usize,
  p: usize,
  size: u32,
  segment: usize,
  base: v128,
  limit: v128,
  linear: v128,
  deny: u32,
): u32 {
  const bytes = <u64>load<u32>(p, PVIRTQ_DESC_LEN);
  const offset = load<u64>(p) - load<u64>(vq, VQ_REGION_IOVA);
  const last = load<u64>(vq, VQ_REGION_BYTES) - bytes;
  if (<i64>((last - offset) | last | offset | (bytes - 1)) < 0) return 0;
  if (bytes & 15) return 0;
  const entries = <u32>bytes >> 4;
  if (entries > min(size, FAST_SEGMENTS)) return 0;
  const p0 = <usize>(offset + load<u64>(vq, VQ_REGION_LINEAR));
  const word0 = load<u32>(p0, PVIRTQ_DESC_ID);
  if (word0 & INDIRECT) return 0;
  const flags0 = word0 >> 16;
  if (entries == 1) return oneSegment(p0, flags0, segment, base, limit, linear, deny);
  const p1 = p0 + VIRTQ_DESC_SIZE;
  const word1 = load<u32>(p0, SECOND_ID);
  if (word1 & INDIRECT) return 0;
  const flags1 = word1 >> 16;
  if (entries == 2) return twoSegments(p0, p1, flags0, flags1, segment, base, limit, linear, deny);
  const word2 = load<u32>(p0, THIRD_ID);
  if (word2 & INDIRECT) return 0;
  return threeSegments(p0, p1, p1 + VIRTQ_DESC_SIZE, flags0, flags1, word2 >> 16, segment, base, limit, linear, deny);
}

/** Bytes of the writable ones of the segments at `segment`, whose counts are `counts`. */
// @ts-ignore: decorator
@inline
export function writableBytes(segment: usize, counts: u32): u32 {
  let bytes: u32 = 0;
  const end = segment + (counts >> 16) * SEGMENT_SIZE;
  for (let at = segment + (counts & 0xffff) * SEGMENT_SIZE; at < end; at += SEGMENT_SIZE) bytes += load<u32>(at, SEGMENT_BYTES);
  return bytes;
}

// @ts-ignore: decorator
@inline
function fourWords(first: u32, second: u32, third: u32, fourth: u32): v128 {
  const two = i32x4.replace_lane(i32x4.splat(first), 1, second);
  return i32x4.replace_lane(i32x4.replace_lane(two, 2, third), 3, fourth);
}

/** The last place at which there is room for a chain of the fast path. */
// @ts-ignore: decorator
@inline
function segmentsEnd(vq: usize): usize {
  return load<u32>(vq, VQ_SEGMENTS) + (load<u32>(vq, VQ_SEGMENTS_CAPACITY) - FAST_SEGMENTS) * SEGMENT_SIZE;
}

/** Parses up to `count` chains from VQ_LAST_AVAIL on, and moves it behind them: how many. */
export function parseBurst(vq: usize, count: u32): u32 {
  const end = load<u32>(vq, VQ_SEGMENTS) + load<u32>(vq, VQ_SEGMENTS_CAPACITY) * SEGMENT_SIZE;
  let at = parseDirect(vq, <u64>load<u32>(vq, VQ_SEGMENTS) << 32, count);
  while (<u32>at < count) {
    const word = nextHead(vq);
    if (word == 0) break;
    const k = <u32>at;
    if (load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT_DESC && word & INDIRECT) {
      at = parseIndirect(vq, at, count);
      if (<u32>at != k) {
        at = parseDirect(vq, at, count);
        continue;
      }
    }
    const segment = <u32>(at >> 32);
    const chain = chainParse(vq, word, segment, (end - segment) / SEGMENT_SIZE);
    const taken = <u32>(chain >> 32);
    if (taken == NO_ROOM && k == 0) refuseTooManySegments(vq, <u32>chain & 0xffff);
    if (taken == 0 || taken == NO_ROOM) break;
    store<u64>(load<u32>(vq, VQ_CHAINS) + k * CHAIN_SIZE, chain);
    store<u32>(load<u32>(vq, VQ_WRITABLE) + (k << 2), writableBytes(segment, taken));
    const position = load<u32>(vq, VQ_LAST_AVAIL);
    store<u32>(vq, advance(position, (<u32>chain) >> 16, load<u32>(vq, VQ_SIZE)), VQ_LAST_AVAIL);
    at = parseDirect(vq, <u64>(k + 1) | (<u64>(segment + (taken >> 16) * SEGMENT_SIZE) << 32), count);
  }
  return <u32>at;
}
