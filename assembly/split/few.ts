// Bursts of one chain or two, as a driver makes them that waits for each answer. What the fast path sets up for many chains
// (parse.ts) costs more than one of them, so that here each is taken by itself, by the same rules, in code that is part of its
// caller's and calls nothing. Whatever is out of the ordinary is left, untouched, to the complete pop or push that follows.

import {
  CHAIN_COUNTS,
  CHAIN_SIZE,
  IOTLB_GENERATION,
  SEGMENT_SIZE,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_F_INDIRECT_DESC,
  VQ_FLAGS,
  VQ_IN_FLIGHT,
  VQ_IOTLB,
  VQ_LAST_AVAIL,
  VQ_REGION_BYTES,
  VQ_REGION_DENY,
  VQ_REGION_GENERATION,
  VQ_REGION_IOVA,
  VQ_REGION_LINEAR,
  VQ_REPLAYING,
  VQ_SEGMENTS,
  VQ_SEGMENTS_CAPACITY,
  VQ_SHADOW_AVAIL,
  VQ_SIZE,
  VQ_USED,
  VQ_VERDICT,
} from '../layout';
import { countPublication } from '../notify';
import { FAST_SEGMENTS, FEW, singleSegment } from '../segments';
import {
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_USED_RING,
} from '../virtio';
import { interruptWanted, isWatched, publishIndex } from './device';
import { findTable, parseChain } from './parse';

/** Takes the chains that wait if they are FEW or less, or `max` is: how many; 0 if one of them is for the complete pop. */
// @ts-ignore: decorator
@inline
export function popFew(vq: usize, max: u32): u32 {
  if (load<u64>(vq, VQ_VERDICT) | <u64>load<u32>(vq, VQ_REPLAYING)) return 0;
  if (load<u32>(<usize>load<u32>(vq, VQ_IOTLB), IOTLB_GENERATION) != load<u32>(vq, VQ_REGION_GENERATION)) return 0;
  if (load<u32>(vq, VQ_SEGMENTS_CAPACITY) < FEW * FAST_SEGMENTS) return 0;
  const size = load<u32>(vq, VQ_SIZE);
  const driver: usize = load<u32>(vq, VQ_DRIVER);
  const available = load<u32>(vq, VQ_LAST_AVAIL);
  let waiting = (load<u32>(vq, VQ_SHADOW_AVAIL) - available) & 0xffff;
  if (waiting < max) {
    // As in the complete pop, which alone refuses an index.
    const index = <u32>atomic.load<u16>(driver, VIRTQ_AVAIL_IDX);
    waiting = (index - available) & 0xffff;
    if (waiting > min(FEW, size)) return 0;
    store<u32>(vq, index, VQ_SHADOW_AVAIL);
  }
  const count = min(waiting, max);
  const descriptors: usize = load<u32>(vq, VQ_DESC);
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  for (let k: u32 = 0; k < count; k++) {
    const head = <u32>load<u16>(driver + (((available + k) & (size - 1)) << 1), VIRTQ_AVAIL_RING);
    if (head >= size) return 0;
    let table = descriptors;
    let last = size - 1;
    let p = descriptors + (head << 4);
    let link = load<u32>(p, 12);
    if (link & VIRTQ_DESC_F_INDIRECT) {
      if (link & VIRTQ_DESC_F_NEXT) return 0;
      if (!(load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT_DESC)) return 0;
      const found = findTable(
        p,
        size,
        load<u64>(vq, VQ_REGION_IOVA),
        load<u64>(vq, VQ_REGION_BYTES),
        load<u64>(vq, VQ_REGION_LINEAR),
      );
      if (found == 0) return 0;
      table = <usize>(found >> 32);
      last = <u32>found;
      p = table;
      link = load<u32>(p, 12);
    }
    let taken: u32;
    if (!(link & (VIRTQ_DESC_F_INDIRECT | VIRTQ_DESC_F_NEXT))) taken = singleSegment(vq, p, link, segment);
    else
      taken = parseChain(
        table,
        last,
        p,
        link,
        segment,
        v128.load_splat<u64>(vq, VQ_REGION_IOVA),
        v128.load_splat<u64>(vq, VQ_REGION_BYTES),
        v128.load_splat<u64>(vq, VQ_REGION_LINEAR),
        load<u32>(vq, VQ_REGION_DENY),
      );
    if (taken == 0) return 0;
    store<u64>(chain, <u64>head | (<u64>taken << 32));
    chain += CHAIN_SIZE;
    segment += (taken >> 16) * SEGMENT_SIZE;
  }
  store<u32>(vq, (available + count) & 0xffff, VQ_LAST_AVAIL);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + count, VQ_IN_FLIGHT);
  return count;
}

/** Publishes the first entry of the chain table: 1 | NOTIFY_DUE; 0 if the complete push is to do it. */
export function pushOne(vq: usize): u32 {
  if (isWatched(vq)) return 0;
  const used = load<u32>(vq, VQ_USED);
  writeUsed(vq, used, load<u32>(vq, VQ_CHAINS));
  return publishFew(vq, used, 1);
}

/** The same for two entries. */
export function pushTwo(vq: usize): u32 {
  if (isWatched(vq)) return 0;
  const used = load<u32>(vq, VQ_USED);
  const chain: usize = load<u32>(vq, VQ_CHAINS);
  writeUsed(vq, used, chain);
  writeUsed(vq, used + 1, chain + CHAIN_SIZE);
  return publishFew(vq, used, 2);
}

/** Writes the used element of an index from an entry of the chain table. */
// @ts-ignore: decorator
@inline
function writeUsed(vq: usize, used: u32, chain: usize): void {
  const element: usize = load<u32>(vq, VQ_DEVICE) + (used & (load<u32>(vq, VQ_SIZE) - 1)) * CHAIN_SIZE;
  // By halves: the device model has just written one of them, and a CPU does not forward two stores to one load.
  const written = <u64>load<u32>(chain, CHAIN_COUNTS);
  store<u64>(element, <u64>load<u32>(chain) | (written << 32), VIRTQ_USED_RING);
}

/** Publishes the `count` used elements from index `used` on. */
// @ts-ignore: decorator
@inline
function publishFew(vq: usize, used: u32, count: u32): u32 {
  const next = (used + count) & 0xffff;
  store<u32>(vq, next, VQ_USED);
  publishIndex(vq, next);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - count, VQ_IN_FLIGHT);
  return count | countPublication(vq, count, interruptWanted(vq, next));
}
