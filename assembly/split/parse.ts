// The fast path: a burst of available chains into the chain and segment tables. It recognises chains of one, two and three
// descriptors, direct or in an indirect table, that lie wholly in the current region; whatever is not plainly right goes,
// untouched, to chainParse, which alone judges. Measured against walking each chain in a loop, this is what brings
// WebAssembly level with compiled C: two descriptors are translated per vector, and every check of a chain ends in one test.
//
// Each field of a descriptor is read once: address and length by the 128-bit load, flags and next by a 32-bit load. The
// driver may write in between; nothing that was checked is read again.

import {
  CHAIN_SIZE,
  SEGMENT_SIZE,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DRIVER,
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
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from '../virtio';
import { chainParse, NO_ROOM, refuseTooManySegments } from './chain';

/** Segments that the fast path may write for one chain. */
const FAST_SEGMENTS: u32 = 3;

/** Lanes with their sign set where [offset, offset + bytes) leaves the region, or has no bytes. Offsets are modulo 2^64. */
// @ts-ignore: decorator
@inline
function faults(offsets: v128, lengths: v128, regionBytes: v128): v128 {
  const beyond = i64x2.sub(i64x2.sub(regionBytes, lengths), offsets);
  return v128.or(v128.or(beyond, offsets), i64x2.add(lengths, i64x2.splat(-1)));
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

/** Parses chains [0, count) behind VQ_LAST_AVAIL: how many were taken; fewer than `count` if one was refused or has no room. */
export function parseBurst(vq: usize, count: u32): u32 {
  const size = load<u32>(vq, VQ_SIZE);
  const mask = size - 1;
  const last = load<u32>(vq, VQ_LAST_AVAIL);
  const ring: usize = load<u32>(vq, VQ_DRIVER) + VIRTQ_AVAIL_RING;
  const descriptors: usize = load<u32>(vq, VQ_DESC);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const segments: usize = load<u32>(vq, VQ_SEGMENTS);
  const end = segments + load<u32>(vq, VQ_SEGMENTS_CAPACITY) * SEGMENT_SIZE;
  const indirectAllowed = load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT_DESC;
  const low32 = i64x2.splat(0xffff_ffff);
  let regionIova = load<u64>(vq, VQ_REGION_IOVA);
  let regionBytes = load<u64>(vq, VQ_REGION_BYTES);
  let regionLinear = <u64>load<u32>(vq, VQ_REGION_LINEAR);
  let deny = load<u32>(vq, VQ_REGION_DENY);
  let base = i64x2.splat(regionIova);
  let limit = i64x2.splat(regionBytes);
  let linear = i64x2.splat(regionLinear);
  let segment = segments;
  let k: u32 = 0;
  for (; k < count; k++) {
    const head = <u32>load<u16>(ring + (((last + k) & mask) << 1));
    // Readable segments | segments << 16 of the chain, 0 while it is not known to be right.
    let taken: u32 = 0;
    do {
      if (head >= size || segment + FAST_SEGMENTS * SEGMENT_SIZE > end) break;
      let table = descriptors;
      let entries = size;
      let p0 = descriptors + (head << 4);
      let link0 = load<u32>(p0, 12);
      if (link0 & VIRTQ_DESC_F_INDIRECT) {
        const bytes = <u64>load<u32>(p0, 8);
        const offset = load<u64>(p0) - regionIova;
        if (!indirectAllowed || link0 & VIRTQ_DESC_F_NEXT || bytes & 15) break;
        if (<i64>((regionBytes - bytes - offset) | offset | (bytes - 1)) < 0) break;
        entries = <u32>bytes >> 4;
        if (entries > size) break;
        table = <usize>(offset + regionLinear);
        p0 = table;
        link0 = load<u32>(p0, 12);
        if (link0 & VIRTQ_DESC_F_INDIRECT) break;
      }
      const d0 = v128.load(p0);
      if (!(link0 & VIRTQ_DESC_F_NEXT)) {
        // Lane 0 is the address, lane 1 swapped below it the length; lane 1 of the results is not used.
        const swapped = v128.shuffle<u64>(d0, d0, 1, 0);
        const offset = i64x2.sub(d0, base);
        const fault = faults(offset, v128.and(swapped, low32), limit);
        if (i64x2.extract_lane(fault, 0) < 0 || link0 & deny) break;
        v128.store(segment, v128.or(i64x2.add(offset, linear), i64x2.shl(swapped, 32)));
        taken = counts(1, writes(link0));
        break;
      }
      const next0 = link0 >> 16;
      if (next0 >= entries) break;
      const p1 = table + (next0 << 4);
      const link1 = load<u32>(p1, 12);
      const d1 = v128.load(p1);
      if (link1 & VIRTQ_DESC_F_INDIRECT) break;
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
        if (i64x2.bitmask(v128.or(fault, overflow)) | ((link0 | link1) & deny) | order) break;
        v128.store(segment, pair);
        taken = counts(2, writes(link0) + writes(link1));
        break;
      }
      const next1 = link1 >> 16;
      if (next1 >= entries || entries < FAST_SEGMENTS) break;
      const p2 = table + (next1 << 4);
      const link2 = load<u32>(p2, 12);
      const d2 = v128.load(p2);
      if (link2 & (VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT)) break;
      const words2 = v128.shuffle<u64>(d2, d2, 1, 1);
      const length2 = v128.and(words2, low32);
      const offset2 = i64x2.sub(v128.shuffle<u64>(d2, d2, 0, 0), base);
      const overflow = i64x2.sub(low32, i64x2.add(length2, both));
      const all = v128.or(v128.or(faults(offset2, length2, limit), overflow), fault);
      const order = ((link0 & ~link1) | (link1 & ~link2)) & VIRTQ_DESC_F_WRITE;
      if (i64x2.bitmask(all) | ((link0 | link1 | link2) & deny) | order) break;
      v128.store(segment, pair);
      v128.store(segment, v128.or(i64x2.add(offset2, linear), i64x2.shl(words2, 32)), 16);
      taken = counts(3, writes(link0) + writes(link1) + writes(link2));
    } while (false);

    if (taken == 0) {
      taken = chainParse(vq, head, segment, <u32>(end - segment) / SEGMENT_SIZE);
      if (taken == NO_ROOM && k == 0) refuseTooManySegments(vq, head);
      if (taken == 0 || taken == NO_ROOM) break;
      regionIova = load<u64>(vq, VQ_REGION_IOVA);
      regionBytes = load<u64>(vq, VQ_REGION_BYTES);
      regionLinear = <u64>load<u32>(vq, VQ_REGION_LINEAR);
      deny = load<u32>(vq, VQ_REGION_DENY);
      base = i64x2.splat(regionIova);
      limit = i64x2.splat(regionBytes);
      linear = i64x2.splat(regionLinear);
    }
    store<u64>(chains + k * CHAIN_SIZE, <u64>head | (<u64>taken << 32));
    segment += (taken >> 16) * SEGMENT_SIZE;
  }
  return k;
}
