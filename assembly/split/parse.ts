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
 * Takes one chain of one, two or three descriptors, the first at `p0`, in a table whose last entry is number `last`, if it lies
 * wholly in the region and keeps every rule: writes its segments and returns its counts as in the chain table. 0 for any other.
 */
// @ts-ignore: decorator
@inline
export function parseChain(
  table: usize,
  last: u32,
  p0: usize,
  link0: u32,
  segment: usize,
  base: v128,
  limit: v128,
  linear: v128,
  deny: u32,
): u32 {
  if (!(link0 & (VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT)))
    return oneSegment(p0, link0, segment, base, limit, linear, deny);
  if (link0 & VIRTQ_DESC_F_INDIRECT) return 0;
  const next0 = link0 >> 16;
  if (next0 > last) return 0;
  const p1 = table + (next0 << 4);
  const link1 = load<u32>(p1, 12);
  if (link1 & VIRTQ_DESC_F_INDIRECT) return 0;
  if (!(link1 & VIRTQ_DESC_F_NEXT))
    return twoSegments(p0, p1, link0, link1, segment, base, limit, linear, deny);
  const next1 = link1 >> 16;
  if (next1 > last) return 0;
  if (last + 1 < FAST_SEGMENTS) return 0;
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
  const last = load<u32>(vq, VQ_SIZE) - 1;
  const descriptors: usize = load<u32>(vq, VQ_DESC);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const base = v128.load_splat<u64>(vq, VQ_REGION_IOVA);
  const limit = v128.load_splat<u64>(vq, VQ_REGION_BYTES);
  const linear = v128.load_splat<u64>(vq, VQ_REGION_LINEAR);
  const deny = load<u32>(vq, VQ_REGION_DENY);
  let segment = <usize>(at >> 32);
  let index = load<u32>(vq, VQ_LAST_AVAIL) + <u32>at;
  let chain = chains + <u32>at * CHAIN_SIZE;
  const end = chain + min(count - <u32>at, roomFor(vq, segment)) * CHAIN_SIZE;
  for (; chain < end; chain += CHAIN_SIZE, index++) {
    const head = <u32>load<u16>(ring + ((index & last) << 1));
    if (head > last) break;
    const p0 = descriptors + (head << 4);
    const taken = parseChain(descriptors, last, p0, load<u32>(p0, 12), segment, base, limit, linear, deny);
    if (taken == 0) break;
    store<u64>(chain, <u64>head | (<u64>taken << 32));
    segment += (taken >> 16) * SEGMENT_SIZE;
  }
  return <u64>((chain - chains) / CHAIN_SIZE) | (<u64>segment << 32);
}

/** The same for chains of one descriptor that refers to an indirect table. */
function parseIndirect(vq: usize, ring: usize, at: u64, count: u32): u64 {
  const size = load<u32>(vq, VQ_SIZE);
  const descriptors: usize = load<u32>(vq, VQ_DESC);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const regionIova = load<u64>(vq, VQ_REGION_IOVA);
  const regionBytes = load<u64>(vq, VQ_REGION_BYTES);
  const regionLinear = load<u64>(vq, VQ_REGION_LINEAR);
  const base = v128.load_splat<u64>(vq, VQ_REGION_IOVA);
  const limit = v128.load_splat<u64>(vq, VQ_REGION_BYTES);
  const linear = v128.load_splat<u64>(vq, VQ_REGION_LINEAR);
  const deny = load<u32>(vq, VQ_REGION_DENY);
  let segment = <usize>(at >> 32);
  let index = load<u32>(vq, VQ_LAST_AVAIL) + <u32>at;
  let chain = chains + <u32>at * CHAIN_SIZE;
  const end = chain + min(count - <u32>at, roomFor(vq, segment)) * CHAIN_SIZE;
  for (; chain < end; chain += CHAIN_SIZE, index++) {
    const head = <u32>load<u16>(ring + ((index & (size - 1)) << 1));
    if (head >= size) break;
    const descriptor = descriptors + (head << 4);
    const link = load<u32>(descriptor, 12);
    if ((link & (VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT)) != VIRTQ_DESC_F_INDIRECT) break;
    const found = findTable(descriptor, size, regionIova, regionBytes, regionLinear);
    if (found == 0) break;
    const table = <usize>(found >> 32);
    const first = load<u32>(table, 12);
    const taken = parseChain(table, <u32>found, table, first, segment, base, limit, linear, deny);
    if (taken == 0) break;
    store<u64>(chain, <u64>head | (<u64>taken << 32));
    segment += (taken >> 16) * SEGMENT_SIZE;
  }
  return <u64>((chain - chains) / CHAIN_SIZE) | (<u64>segment << 32);
}

/**
 * The table that the indirect descriptor at `p` refers to, if it lies wholly in the region and is no longer than the queue: its
 * linear address << 32 | number of its last entry; 0 for any other.
 */
// @ts-ignore: decorator
@inline
export function findTable(p: usize, size: u32, regionIova: u64, regionBytes: u64, regionLinear: u64): u64 {
  const bytes = <u64>load<u32>(p, 8);
  const offset = load<u64>(p) - regionIova;
  const last = regionBytes - bytes;
  if (<i64>((last - offset) | last | offset | (bytes - 1)) < 0) return 0;
  if (bytes & 15) return 0;
  const entries = bytes >> 4;
  if (entries > <u64>size) return 0;
  return ((offset + regionLinear) << 32) | (entries - 1);
}

/** Chains of the fast path that there is certainly room for behind `segment`. */
// @ts-ignore: decorator
@inline
function roomFor(vq: usize, segment: usize): u32 {
  return (load<u32>(vq, VQ_SEGMENTS) + load<u32>(vq, VQ_SEGMENTS_CAPACITY) * SEGMENT_SIZE - <u32>segment) / (FAST_SEGMENTS * SEGMENT_SIZE);
}

/** Where a burst begins: its first chain, and the first segment. */
// @ts-ignore: decorator
@inline
function firstPlace(vq: usize): u64 {
  return <u64>load<u32>(vq, VQ_SEGMENTS) << 32;
}

/**
 * Parses chains [0, count) behind VQ_LAST_AVAIL, whose heads are in the ring of u16 at `ring`: how many were taken; fewer
 * than `count` if one was refused or has no room.
 */
// @ts-ignore: decorator
@inline
export function parseBurst(vq: usize, ring: usize, count: u32): u32 {
  return parseRest(vq, ring, parseDirect(vq, ring, firstPlace(vq), count), count);
}

/** The same from `at` on, where the chain is not plainly right and direct: how many of the burst were taken. */
function parseRest(vq: usize, ring: usize, at: u64, count: u32): u32 {
  const end = load<u32>(vq, VQ_SEGMENTS) + load<u32>(vq, VQ_SEGMENTS_CAPACITY) * SEGMENT_SIZE;
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
