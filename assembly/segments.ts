// The fast path's arithmetic, for rings of either format: one, two or three descriptors, which a format's parse.ts has found
// to be a chain, become segments if they lie wholly in the current region and keep every rule. Two descriptors are translated
// per vector, and every check of a chain ends in one test.
//
// Each field of a descriptor is read once: address and length here, by a 128-bit load, the word of its flags by the caller.

import { VQ_REGION_BYTES, VQ_REGION_DENY, VQ_REGION_IOVA, VQ_REGION_LINEAR } from './layout';
import { VIRTQ_DESC_F_WRITE } from './virtio';

/** Segments that the fast path may write for one chain. */
export const FAST_SEGMENTS: u32 = 3;
/** Chains: of a burst of so many or less each is taken by itself (few.ts). */
export const FEW: u32 = 2;

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
function writes(flags: u32): u32 {
  return (flags >> 1) & 1;
}

/**
 * Writes the segment of the descriptor at `p`: the chain's counts, or 0 if it is for the slow path. `flags` has its flags in
 * the low half; `base`, `limit` and `linear` are VQ_REGION_IOVA, _BYTES and _LINEAR in both lanes, `deny` is VQ_REGION_DENY.
 */
// @ts-ignore: decorator
@inline
export function oneSegment(p: usize, flags: u32, segment: usize, base: v128, limit: v128, linear: v128, deny: u32): u32 {
  const d = v128.load(p);
  // Lane 0 is the address, lane 1 swapped below it the length; lane 1 of the results is not used.
  const swapped = v128.shuffle<u64>(d, d, 1, 0);
  const offset = i64x2.sub(d, base);
  const fault = faults(offset, v128.and(swapped, i64x2.splat(0xffff_ffff)), limit);
  if (i64x2.extract_lane(fault, 0) < 0) return 0;
  if (flags & deny) return 0;
  v128.store(segment, v128.or(i64x2.add(offset, linear), i64x2.shl(swapped, 32)));
  return counts(1, writes(flags));
}

/** The same without vectors, for one chain by itself: the region is read where it lies. */
// @ts-ignore: decorator
@inline
export function singleSegment(vq: usize, p: usize, flags: u32, segment: usize): u32 {
  const bytes = <u64>load<u32>(p, 8);
  const offset = load<u64>(p) - load<u64>(vq, VQ_REGION_IOVA);
  const last = load<u64>(vq, VQ_REGION_BYTES) - bytes;
  if (<i64>((last - offset) | last | offset | (bytes - 1)) < 0) return 0;
  if (flags & load<u32>(vq, VQ_REGION_DENY)) return 0;
  store<u64>(segment, (offset + load<u64>(vq, VQ_REGION_LINEAR)) | (bytes << 32));
  return counts(1, writes(flags));
}

/** The same for a chain of two descriptors. */
// @ts-ignore: decorator
@inline
export function twoSegments(
  p0: usize,
  p1: usize,
  flags0: u32,
  flags1: u32,
  segment: usize,
  base: v128,
  limit: v128,
  linear: v128,
  deny: u32,
): u32 {
  const low32 = i64x2.splat(0xffff_ffff);
  const d0 = v128.load(p0);
  const d1 = v128.load(p1);
  const words = v128.shuffle<u64>(d0, d1, 1, 3);
  const lengths = v128.and(words, low32);
  const offsets = i64x2.sub(v128.shuffle<u64>(d0, d1, 0, 2), base);
  // A total of 2^32 or more turns the difference negative; a readable descriptor after a writable one is refused.
  const overflow = i64x2.sub(low32, i64x2.add(lengths, v128.shuffle<u64>(lengths, lengths, 1, 0)));
  const order = flags0 & ~flags1 & VIRTQ_DESC_F_WRITE;
  const fault = v128.or(faults(offsets, lengths, limit), overflow);
  if (i64x2.bitmask(fault) | ((flags0 | flags1) & deny) | order) return 0;
  v128.store(segment, v128.or(i64x2.add(offsets, linear), i64x2.shl(words, 32)));
  return counts(2, writes(flags0) + writes(flags1));
}

/** The same for a chain of three descriptors. */
// @ts-ignore: decorator
@inline
export function threeSegments(
  p0: usize,
  p1: usize,
  p2: usize,
  flags0: u32,
  flags1: u32,
  flags2: u32,
  segment: usize,
  base: v128,
  limit: v128,
  linear: v128,
  deny: u32,
): u32 {
  const low32 = i64x2.splat(0xffff_ffff);
  const d0 = v128.load(p0);
  const d1 = v128.load(p1);
  const d2 = v128.load(p2);
  const words = v128.shuffle<u64>(d0, d1, 1, 3);
  const lengths = v128.and(words, low32);
  const offsets = i64x2.sub(v128.shuffle<u64>(d0, d1, 0, 2), base);
  const words2 = v128.shuffle<u64>(d2, d2, 1, 1);
  const length2 = v128.and(words2, low32);
  const offset2 = i64x2.sub(v128.shuffle<u64>(d2, d2, 0, 0), base);
  const both = i64x2.add(lengths, v128.shuffle<u64>(lengths, lengths, 1, 0));
  const overflow = i64x2.sub(low32, i64x2.add(length2, both));
  const fault = v128.or(v128.or(faults(offset2, length2, limit), overflow), faults(offsets, lengths, limit));
  const order = ((flags0 & ~flags1) | (flags1 & ~flags2)) & VIRTQ_DESC_F_WRITE;
  if (i64x2.bitmask(fault) | ((flags0 | flags1 | flags2) & deny) | order) return 0;
  v128.store(segment, v128.or(i64x2.add(offsets, linear), i64x2.shl(words, 32)));
  v128.store(segment, v128.or(i64x2.add(offset2, linear), i64x2.shl(words2, 32)), 16);
  return counts(3, writes(flags0) + writes(flags1) + writes(flags2));
}

/**
 * Writes the segments of four chains of one descriptor each, in a row from `p` on; `flags` has the flags of all of them. Their
 * lengths, in the lanes of an i32x4, or zeroes if one of them is for the slow path.
 */
// @ts-ignore: decorator
@inline
export function fourSegments(p: usize, flags: u32, segment: usize, base: v128, limit: v128, linear: v128, deny: u32): v128 {
  const low32 = i64x2.splat(0xffff_ffff);
  const d0 = v128.load(p);
  const d1 = v128.load(p, 16);
  const d2 = v128.load(p, 32);
  const d3 = v128.load(p, 48);
  const words = v128.shuffle<u64>(d0, d1, 1, 3);
  const words2 = v128.shuffle<u64>(d2, d3, 1, 3);
  const offsets = i64x2.sub(v128.shuffle<u64>(d0, d1, 0, 2), base);
  const offsets2 = i64x2.sub(v128.shuffle<u64>(d2, d3, 0, 2), base);
  const fault = v128.or(
    faults(offsets, v128.and(words, low32), limit),
    faults(offsets2, v128.and(words2, low32), limit),
  );
  if (i64x2.bitmask(fault) | (flags & deny)) return i64x2.splat(0);
  v128.store(segment, v128.or(i64x2.add(offsets, linear), i64x2.shl(words, 32)));
  v128.store(segment, v128.or(i64x2.add(offsets2, linear), i64x2.shl(words2, 32)), 16);
  return v128.shuffle<u32>(words, words2, 0, 2, 4, 6);
}
