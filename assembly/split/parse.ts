// The fast path: a burst of available chains into the chain and segment tables. It recognises chains of one, two and three
// descriptors, direct or in an indirect table, that lie wholly in the current region; whatever is not plainly right goes,
// untouched, to chainParse, which alone judges. Measured against walking each chain in a loop, this is what brings
// WebAssembly ahead of compiled C++: two descriptors are translated per vector, every check of a chain ends in one test, and
// the loops hold no call, so that all they need stays in registers. Conditions are separate statements where one would do:
// V8 turns those into branches, but a condition with || into values that it computes and tests.
//
// Each field of a descriptor is read once: address and length by the 128-bit load, flags and next by a 32-bit load. The
// driver may write in between; nothing that was checked is read again.

import {
  CHAIN_SIZE,
  SEGMENT_SIZE,
  VQ_CHAINS,
  VQ_DESC,
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
} from '../layout';
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from '../virtio';
import { chainParse, NO_ROOM, refuseTooManySegments } from './chain';

/** Segments that the fast path may write for one chain. */
const FAST_SEGMENTS: u32 = 3;

/**
 * Lanes with their sign set where [offset, offset + bytes) leaves the region, or has no bytes. Offsets are modulo 2^64. The
 * last place where the bytes would fit counts too: below 0, an offset just under 2^63 would wrap the difference to above it.
 */
// @ts-ignore: decorator
@inline
function faults(offsets: v128, lengths: v128, regionBytes: v128): v128 {
  const last = i64x2.sub(regionBytes, lengths);
  const outside = v128.or(v128.or(i64x2.sub(last, offsets), last), offsets);
  return v128.or(outside, i64x2.add(lengths, i64x2.splat(-1)));
}

/** Readable count | count << 16 of n descriptors, given how many of them are writable. */
// @ts-ignore: decorator
@inline
function counts(n: u32, writable: u32): u32 {
  return (n << 16) + n - writable;
}

// @ts-ignore: decorator
@inline
function writes(link: u32): u32 {
  return (link >> 1) & 1;
}

/**
 * Takes one chain of one, two or three descriptors, the first at `p0`, if it lies wholly in the region and keeps every rule:
 * writes its segments and returns its counts as in the chain table. 0 for any other.
 */
// @ts-ignore: decorator
@inline
function parseChain(
  table: usize,
  entries: u32,
  p0: usize,
  segment: usize,
  base: v128,
  limit: v128,
  linear: v128,
  deny: u32,
): u32 {
  const low32 = i64x2.splat(0xffff_ffff);
  const link0 = load<u32>(p0, 12);
  const d0 = v128.load(p0);
  if (!(link0 & (VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT))) {
    // Lane 0 is the address, lane 1 swapped below it the length; lane 1 of the results is not used.
    const swapped = v128.shuffle<u64>(d0, d0, 1, 0);
    const offset = i64x2.sub(d0, base);
    const fault = faults(offset, v128.and(swapped, low32), limit);
    if (i64x2.extract_lane(fault, 0) < 0) return 0;
    if (link0 & deny) return 0;
    v128.store(segment, v128.or(i64x2.add(offset, linear), i64x2.shl(swapped, 32)));
    return counts(1, writes(link0));
  }
  if (link0 & VIRTQ_DESC_F_INDIRECT) return 0;
  const next0 = link0 >> 16;
  if (next0 >= entries) return 0;
  const p1 = table + (next0 << 4);
  const link1 = load<u32>(p1, 12);
  const d1 = v128.load(p1);
  if (link1 & VIRTQ_DESC_F_INDIRECT) return 0;
  const words = v128.shuffle<u64>(d0, d1, 1, 3);
  const lengths = v128.and(words, low32);
  const offsets = i64x2.sub(v128.shuffle<u64>(d0, d1, 0, 2), base);
  const fault = faults(offsets, lengths, limit);
  const both = i64x2.add(lengths, v128.shuffle<u64>(lengths, lengths, 1, 0));
  const pair = v128.or(i64x2.add(offsets, linear), i64x2.shl(words, 32));
  if (!(link1 & VIRTQ_DESC_F_NEXT)) {
    // A total of 2^32 or more turns the difference negative; a readable descriptor after a writable one is refused.
    const overflow = i64x2.sub(low32, both);
    const order = link0 & ~link1 & VIRTQ_DESC_F_WRITE;
    if (i64x2.bitmask(v128.or(fault, overflow)) | ((link0 | link1) & deny) | order) return 0;
    v128.store(segment, pair);
    return counts(2, writes(link0) + writes(link1));
  }
  const next1 = link1 >> 16;
  if (next1 >= entries) return 0;
  if (entries < FAST_SEGMENTS) return 0;
  const p2 = table + (next1 << 4);
  const link2 = load<u32>(p2, 12);
  const d2 = v128.load(p2);
  if (link2 & (VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT)) return 0;
  const words2 = v128.shuffle<u64>(d2, d2, 1, 1);
  const length2 = v128.and(words2, low32);
  const offset2 = i64x2.sub(v128.shuffle<u64>(d2, d2, 0, 0), base);
  const overflow = i64x2.sub(low32, i64x2.add(length2, both));
  const all = v128.or(v128.or(faults(offset2, length2, limit), overflow), fault);
  const order = ((link0 & ~link1) | (link1 & ~link2)) & VIRTQ_DESC_F_WRITE;
  if (i64x2.bitmask(all) | ((link0 | link1 | link2) & deny) | order) return 0;
  v128.store(segment, pair);
  v128.store(segment, v128.or(i64x2.add(offset2, linear), i64x2.shl(words2, 32)), 16);
  return counts(3, writes(link0) + writes(link1) + writes(link2));
}

/**
 * Takes chains from `at` on for as long as they are direct and plainly right: the place behind them. A place is a chain of
 * the burst | linear address of its first segment << 32.
 */
function parseDirect(vq: usize, ring: usize, at: u64, count: u32): u64 {
  const size = load<u32>(vq, VQ_SIZE);
  const descriptors: usize = load<u32>(vq, VQ_DESC);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const end = segmentsEnd(vq);
  const base = i64x2.splat(load<u64>(vq, VQ_REGION_IOVA));
  const limit = i64x2.splat(load<u64>(vq, VQ_REGION_BYTES));
  const linear = i64x2.splat(<u64>load<u32>(vq, VQ_REGION_LINEAR));
  const deny = load<u32>(vq, VQ_REGION_DENY);
  let k = <u32>at;
  let segment = <usize>(at >> 32);
  let index = load<u32>(vq, VQ_LAST_AVAIL) + k;
  for (; k < count; k++, index++) {
    const head = <u32>load<u16>(ring + ((index & (size - 1)) << 1));
    if (head >= size) break;
    if (segment > end) break;
    const taken = parseChain(descriptors, size, descriptors + (head << 4), segment, base, limit, linear, deny);
    if (taken == 0) break;
    store<u64>(chains + k * CHAIN_SIZE, <u64>head | (<u64>taken << 32));
    segment += (taken >> 16) * SEGMENT_SIZE;
  }
  return <u64>k | (<u64>segment << 32);
}

/** The same for chains of one descriptor that refers to an indirect table. */
function parseIndirect(vq: usize, ring: usize, at: u64, count: u32): u64 {
  const size = load<u32>(vq, VQ_SIZE);
  const descriptors: usize = load<u32>(vq, VQ_DESC);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const end = segmentsEnd(vq);
  const regionIova = load<u64>(vq, VQ_REGION_IOVA);
  const regionBytes = load<u64>(vq, VQ_REGION_BYTES);
  const regionLinear = <u64>load<u32>(vq, VQ_REGION_LINEAR);
  const base = i64x2.splat(regionIova);
  const limit = i64x2.splat(regionBytes);
  const linear = i64x2.splat(regionLinear);
  const deny = load<u32>(vq, VQ_REGION_DENY);
  let k = <u32>at;
  let segment = <usize>(at >> 32);
  let index = load<u32>(vq, VQ_LAST_AVAIL) + k;
  for (; k < count; k++, index++) {
    const head = <u32>load<u16>(ring + ((index & (size - 1)) << 1));
    if (head >= size) break;
    if (segment > end) break;
    const descriptor = descriptors + (head << 4);
    const link = load<u32>(descriptor, 12);
    if ((link & (VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT)) != VIRTQ_DESC_F_INDIRECT) break;
    const bytes = <u64>load<u32>(descriptor, 8);
    const offset = load<u64>(descriptor) - regionIova;
    const last = regionBytes - bytes;
    if (<i64>((last - offset) | last | offset | (bytes - 1)) < 0) break;
    if (bytes & 15) break;
    const entries = <u32>bytes >> 4;
    if (entries > size) break;
    const table = <usize>(offset + regionLinear);
    const taken = parseChain(table, entries, table, segment, base, limit, linear, deny);
    if (taken == 0) break;
    store<u64>(chains + k * CHAIN_SIZE, <u64>head | (<u64>taken << 32));
    segment += (taken >> 16) * SEGMENT_SIZE;
  }
  return <u64>k | (<u64>segment << 32);
}

/** The last place at which there is room for a chain of the fast path. */
// @ts-ignore: decorator
@inline
function segmentsEnd(vq: usize): usize {
  return load<u32>(vq, VQ_SEGMENTS) + (load<u32>(vq, VQ_SEGMENTS_CAPACITY) - FAST_SEGMENTS) * SEGMENT_SIZE;
}

/**
 * Parses chains [0, count) behind VQ_LAST_AVAIL, whose heads are in the ring of u16 at `ring`: how many were taken; fewer
 * than `count` if one was refused or has no room.
 */
export function parseBurst(vq: usize, ring: usize, count: u32): u32 {
  const end = load<u32>(vq, VQ_SEGMENTS) + load<u32>(vq, VQ_SEGMENTS_CAPACITY) * SEGMENT_SIZE;
  let at = parseDirect(vq, ring, <u64>load<u32>(vq, VQ_SEGMENTS) << 32, count);
  while (<u32>at < count) {
    if (load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT_DESC) {
      const before = <u32>at;
      at = parseIndirect(vq, ring, at, count);
      if (<u32>at == count) break;
      if (<u32>at != before) {
        at = parseDirect(vq, ring, at, count);
        continue;
      }
    }
    const k = <u32>at;
    const segment = <u32>(at >> 32);
    const index = load<u32>(vq, VQ_LAST_AVAIL) + k;
    const head = <u32>load<u16>(ring + ((index & (load<u32>(vq, VQ_SIZE) - 1)) << 1));
    const taken = chainParse(vq, head, segment, (end - segment) / SEGMENT_SIZE);
    if (taken == NO_ROOM && k == 0) refuseTooManySegments(vq, head);
    if (taken == 0 || taken == NO_ROOM) return k;
    store<u64>(load<u32>(vq, VQ_CHAINS) + k * CHAIN_SIZE, <u64>head | (<u64>taken << 32));
    at = parseDirect(vq, ring, <u64>(k + 1) | (<u64>(segment + (taken >> 16) * SEGMENT_SIZE) << 32), count);
  }
  return <u32>at;
}
