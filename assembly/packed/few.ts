// Bursts of one chain or two on a packed ring: as on a split one (split/few.ts).

import { dirtyTracked } from '../dirty';
import {
  CHAIN_COUNTS,
  CHAIN_SIZE,
  IOTLB_GENERATION,
  SEGMENT_SIZE,
  VQ_CHAINS,
  VQ_DESC,
  VQ_F_IN_ORDER,
  VQ_F_INDIRECT_DESC,
  VQ_FLAGS,
  VQ_HELD_AT,
  VQ_IN_FLIGHT,
  VQ_IOTLB,
  VQ_LAST_AVAIL,
  VQ_LOG,
  VQ_REGION_BYTES,
  VQ_REGION_DENY,
  VQ_REGION_GENERATION,
  VQ_REGION_IOVA,
  VQ_REGION_LINEAR,
  VQ_REPLAYING,
  VQ_SEGMENTS,
  VQ_SEGMENTS_CAPACITY,
  VQ_SIGNALLED_USED,
  VQ_SIZE,
  VQ_USED,
  VQ_VERDICT,
  VQ_WRITABLE,
} from '../layout';
import { countPublication } from '../notify';
import { FAST_SEGMENTS, FEW, singleSegment } from '../segments';
import { PVIRTQ_DESC_ID, PVIRTQ_DESC_LEN, VIRTQ_DESC_SIZE } from '../virtio';
import { offerable } from './chain';
import { interruptWanted, publishDescriptor, usedDescriptor } from './device';
import { entryOf, INDIRECT, NEXT, parseList, parseTable, writableBytes } from './parse';
import { advance, availableOwner, indexOf, OWNER_MASK, usedOwner } from './position';

/**
 * Takes the chains that wait if `max` is FEW or less: how many; 0 if one of them is for the complete pop. How many wait is seen
 * only by looking at each, so that a larger `max` is always for the complete pop.
 */
// @ts-ignore: decorator
@inline
export function popFew(vq: usize, max: u32): u32 {
  if (max > FEW) return 0;
  if (load<u64>(vq, VQ_VERDICT) | <u64>load<u32>(vq, VQ_REPLAYING)) return 0;
  if (load<u32>(<usize>load<u32>(vq, VQ_IOTLB), IOTLB_GENERATION) != load<u32>(vq, VQ_REGION_GENERATION)) return 0;
  if (load<u32>(vq, VQ_SEGMENTS_CAPACITY) < FEW * FAST_SEGMENTS) return 0;
  const size = load<u32>(vq, VQ_SIZE);
  const ring: usize = load<u32>(vq, VQ_DESC);
  const base = v128.load_splat<u64>(vq, VQ_REGION_IOVA);
  const limit = v128.load_splat<u64>(vq, VQ_REGION_BYTES);
  const linear = v128.load_splat<u64>(vq, VQ_REGION_LINEAR);
  const deny = load<u32>(vq, VQ_REGION_DENY);
  let room = offerable(vq);
  let position = load<u32>(vq, VQ_LAST_AVAIL);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  let k: u32 = 0;
  for (; k < max; k++) {
    const index = indexOf(position);
    const p = ring + index * VIRTQ_DESC_SIZE;
    // As in the other parsers: what the driver wrote before these flags is read after them.
    const word = atomic.load<u32>(p, PVIRTQ_DESC_ID);
    if ((word ^ availableOwner(position)) & OWNER_MASK) break;
    let chain: u64;
    if (word & INDIRECT) {
      if (word & NEXT) return 0;
      if (!(load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT_DESC)) return 0;
      chain = entryOf(word, 1, parseTable(vq, p, size, segment, base, limit, linear, deny));
    } else if (word & NEXT) chain = parseList(p, word, size - index, segment, base, limit, linear, deny);
    else chain = entryOf(word, 1, singleSegment(vq, p, word >> 16, segment));
    const taken = <u32>(chain >> 32);
    if (taken == 0) return 0;
    const descriptors = <u32>chain >> 16;
    if (room < descriptors) return 0;
    room -= descriptors;
    store<u64>(load<u32>(vq, VQ_CHAINS) + k * CHAIN_SIZE, chain);
    store<u32>(load<u32>(vq, VQ_WRITABLE) + (k << 2), writableBytes(segment, taken));
    segment += (taken >> 16) * SEGMENT_SIZE;
    position = advance(position, descriptors, size);
  }
  store<u32>(vq, position, VQ_LAST_AVAIL);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + k, VQ_IN_FLIGHT);
  return k;
}

/** Publishes the first entry of the chain table: 1 | NOTIFY_DUE; 0 if the complete push is to do it. */
export function pushOne(vq: usize): u32 {
  if (isWatched(vq)) return 0;
  const chain: usize = load<u32>(vq, VQ_CHAINS);
  const head = load<u32>(chain);
  const before = load<u32>(vq, VQ_USED);
  const size = load<u32>(vq, VQ_SIZE);
  const used = advance(before, head >> 16, size);
  return publishFew(vq, before, usedWord(head, chain, before), used, size, 1);
}

/** The same for two entries, which are one batch where the first may be left out (pushInOrder of device.ts). */
export function pushTwo(vq: usize): u32 {
  if (isWatched(vq)) return 0;
  const chain: usize = load<u32>(vq, VQ_CHAINS);
  const next = chain + CHAIN_SIZE;
  const head = load<u32>(chain);
  const nextHead = load<u32>(next);
  const before = load<u32>(vq, VQ_USED);
  const size = load<u32>(vq, VQ_SIZE);
  const second = advance(before, head >> 16, size);
  const used = advance(second, nextHead >> 16, size);
  if (load<u32>(vq, VQ_FLAGS) & VQ_F_IN_ORDER && load<u32>(chain, CHAIN_COUNTS) == load<u32>(load<u32>(vq, VQ_WRITABLE)))
    return publishFew(vq, before, usedWord(nextHead, next, before), used, size, 2);
  // Nobody looks at it until the first one is published.
  const at = load<u32>(vq, VQ_DESC) + indexOf(second) * VIRTQ_DESC_SIZE;
  store<u64>(at, usedWord(nextHead, next, second), PVIRTQ_DESC_LEN);
  return publishFew(vq, before, usedWord(head, chain, before), used, size, 2);
}

/** Whether a publication is noted besides, or a used descriptor waits for it. */
// @ts-ignore: decorator
@inline
function isWatched(vq: usize): bool {
  if (dirtyTracked(load<u32>(vq, VQ_IOTLB))) return true;
  return (load<u32>(vq, VQ_LOG) | load<u32>(vq, VQ_HELD_AT)) != 0;
}

/** What the used descriptor at a place says of an entry of the chain table. */
// @ts-ignore: decorator
@inline
function usedWord(head: u32, chain: usize, position: u32): u64 {
  return usedDescriptor(head & 0xffff, load<u32>(chain, CHAIN_COUNTS), usedOwner(position));
}

/** Publishes `count` chains, from place `before` to `used`, by the used descriptor of the first; the others are written. */
// @ts-ignore: decorator
@inline
function publishFew(vq: usize, before: u32, first: u64, used: u32, size: u32, count: u32): u32 {
  store<u32>(vq, used, VQ_USED);
  store<u32>(vq, used, VQ_SIGNALLED_USED);
  publishDescriptor(vq, indexOf(before), first);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - count, VQ_IN_FLIGHT);
  return count | countPublication(vq, count, interruptWanted(vq, before, used, size));
}
