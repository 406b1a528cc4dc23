// The regions that random rings are made over: those of targets/hostile-memory.ts, in the IOTLB, where they change.

import { iotlbMap, iotlbUnmap } from '../../../assembly/iotlb';
import {
  IOTLB_ACCESS_READ,
  IOTLB_ENTRIES,
  IOTLB_ENTRY_BYTES,
  IOTLB_ENTRY_DENY,
  IOTLB_ENTRY_IOVA,
  IOTLB_ENTRY_LINEAR,
  IOTLB_ENTRY_SIZE,
  IOTLB_GENERATION,
  VQ_IOTLB,
  VQ_REGION_BYTES,
  VQ_REGION_DENY,
  VQ_REGION_GENERATION,
  VQ_REGION_IOVA,
  VQ_REGION_LINEAR,
} from '../../../assembly/layout';
import { VIRTQ_DESC_F_WRITE } from '../../../assembly/virtio';

/** How far a region moves in linear memory. */
const MOVE: u32 = 4096;

/** Entry `index` of the IOTLB. */
// @ts-ignore: decorator
@inline
export function entryOf(iotlb: usize, index: u32): usize {
  return iotlb + IOTLB_ENTRIES + index * IOTLB_ENTRY_SIZE;
}

/** Puts another region in place of one of `regions`: other permissions, or another place. That at `home` stays where it is. */
export function changeRegion(iotlb: usize, regions: u32, home: u32, random: u64): void {
  const index = <u32>random % regions;
  const entry = entryOf(iotlb, index);
  const iova = load<u64>(entry, IOTLB_ENTRY_IOVA);
  const bytes = load<u64>(entry, IOTLB_ENTRY_BYTES);
  let linear = load<u32>(entry, IOTLB_ENTRY_LINEAR);
  if (index != home && (random >> 32 & 3) == 0) linear ^= MOVE;
  const access: u32 = (random >> 34 & 3) == 0 ? 1 + <u32>(random >> 36) % 2 : 3;
  iotlbUnmap(iotlb, iova, iova + bytes - 1);
  iotlbMap(iotlb, iova, bytes, linear, access);
}

/** Number of the region that most buffers of a ring lie in: mostly `home`, but rules about large regions are to be reached, too. */
export function usualRegion(regions: u32, home: u32, random: u64): u32 {
  return (random & 15) != 0 ? home : <u32>(random >> 4) % regions;
}

/** Makes any region that can be read the current one of a queue, or none: mostly that at `home`. */
export function makeCurrent(vq: usize, regions: u32, home: u32, random: u64): void {
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  const entry = entryOf(iotlb, (random & 1) != 0 ? home : <u32>(random >> 4) % regions);
  const deny = load<u32>(entry, IOTLB_ENTRY_DENY);
  const none = (deny & IOTLB_ACCESS_READ) != 0 || (random >> 36 & 15) == 0;
  store<u64>(vq, load<u64>(entry, IOTLB_ENTRY_IOVA), VQ_REGION_IOVA);
  store<u64>(vq, none ? 0 : load<u64>(entry, IOTLB_ENTRY_BYTES), VQ_REGION_BYTES);
  store<u32>(vq, load<u32>(entry, IOTLB_ENTRY_LINEAR), VQ_REGION_LINEAR);
  store<u32>(vq, deny & VIRTQ_DESC_F_WRITE, VQ_REGION_DENY);
  store<u32>(vq, load<u32>(iotlb, IOTLB_GENERATION), VQ_REGION_GENERATION);
}
