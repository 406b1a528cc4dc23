// The fast path: a burst of available chains into the chain and segment tables. It recognises chains of one, two and three
// descriptors, direct or in an indirect table, that lie wholly in the current region; whatever is not plainly right goes,
// untouched, to chainParse, which alone judges. Measured against walking each chain in a loop, this is what brings
// WebAssembly ahead of compiled C++: the vectors of segments.ts, and loops that hold no call, so that all they need stays in
// registers. Conditions are separate statements where one would do: V8 turns those into branches, but a condition with ||
// into values that it computes and tests.
//
// Each field of a descriptor is read once: flags and next by a 32-bit load here, the others in segments.ts. The driver may
// write in between; nothing that was checked is read again.

import { NO_ROOM, refuseTooManySegments } from '../chain';
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
import { FAST_SEGMENTS, oneSegment, threeSegments, twoSegments } from '../segments';
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT } from '../virtio';
import { chainParse } from './chain';

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
  const link0 = load<u32>(p0, 12);
  if (!(link0 & (VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT)))
    return oneSegment(p0, link0, segment, base, limit, linear, deny);
  if (link0 & VIRTQ_DESC_F_INDIRECT) return 0;
  const next0 = link0 >> 16;
  if (next0 >= entries) return 0;
  const p1 = table + (next0 << 4);
  const link1 = load<u32>(p1, 12);
  if (link1 & VIRTQ_DESC_F_INDIRECT) return 0;
  if (!(link1 & VIRTQ_DESC_F_NEXT))
    return twoSegments(p0, p1, link0, link1, segment, base, limit, linear, deny);
  const next1 = link1 >> 16;
  if (next1 >= entries) return 0;
  if (entries < FAST_SEGMENTS) return 0;
  const p2 = table + (next1 << 4);
  const link2 = load<u32>(p2, 12);
  if (link2 & (VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT)) return 0;
  return threeSegments(p0, p1, p2, link0, link1, link2, segment, base, limit, linear, deny);
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
