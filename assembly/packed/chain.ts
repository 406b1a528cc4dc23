// The complete path for one chain of a packed ring: every rule of "Scatter-Gather Support", "Next Flag: Descriptor Chaining"
// and "Indirect Flag: Scatter-Gather Support", spelled out. It alone gives verdicts; the fast path (parse.ts) only recognises
// what is plainly right.
//
// As of a split ring, the chain is copied into private memory first, each field read exactly once, and judged there.

import { chainSegments, copyIn, refuse } from '../chain';
import { iotlbTranslate } from '../iotlb';
import {
  IOTLB_ACCESS_READ,
  VERDICT_ADDRESS_OVERFLOW,
  VERDICT_AVAIL_INDEX,
  VERDICT_CHAIN_TOO_LONG,
  VERDICT_INDIRECT_LENGTH,
  VERDICT_INDIRECT_NESTED,
  VERDICT_INDIRECT_NEXT,
  VERDICT_INDIRECT_NOT_NEGOTIATED,
  VERDICT_ORDER,
  VERDICT_TOTAL_LENGTH,
  VERDICT_ZERO_LENGTH,
  VQ_DESC,
  VQ_F_INDIRECT_DESC,
  VQ_FLAGS,
  VQ_IOTLB,
  VQ_LAST_AVAIL,
  VQ_SIZE,
  VQ_SNAPSHOT,
  VQ_USED,
} from '../layout';
import {
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../virtio';
import { availableOwner, distance, indexOf, OWNER_MASK } from './position';

/** Buffer id | flags << 16 of the descriptor at VQ_LAST_AVAIL if it is available, else 0. */
// @ts-ignore: decorator
@inline
export function nextHead(vq: usize): u32 {
  const position = load<u32>(vq, VQ_LAST_AVAIL);
  // An atomic load: what the driver wrote before it set these flags is read after them.
  const word = atomic.load<u32>(load<u32>(vq, VQ_DESC) + indexOf(position) * VIRTQ_DESC_SIZE, PVIRTQ_DESC_ID);
  return ((word ^ availableOwner(position)) & OWNER_MASK) == 0 ? word : 0;
}

/** Descriptors that the driver may have made available beyond VQ_LAST_AVAIL: what the device has, it cannot offer. */
// @ts-ignore: decorator
@inline
export function offerable(vq: usize): u32 {
  const size = load<u32>(vq, VQ_SIZE);
  return size - distance(load<u32>(vq, VQ_USED), load<u32>(vq, VQ_LAST_AVAIL), size);
}

/**
 * Copies the chain at VQ_LAST_AVAIL, whose head nextHead has read as `word`, to `snapshot` (room for VQ_SIZE descriptors) and
 * judges its structure. Returns buffer id | descriptors of the ring << 16 | readable descriptors << 32 | descriptors << 48; 0
 * after a verdict or a miss (of an indirect table).
 */
export function chainSnapshot(vq: usize, word: u32, snapshot: usize): u64 {
  const size = load<u32>(vq, VQ_SIZE);
  const ring: usize = load<u32>(vq, VQ_DESC);
  const head = word & 0xffff;
  let index = indexOf(load<u32>(vq, VQ_LAST_AVAIL));
  // The indirect table, if the chain is one: its linear address where it lies in one piece, and its entries.
  let table: usize = 0;
  let tableIova: u64 = 0;
  let entries: u32 = 0;
  let count: u32 = 0;
  let readable: u32 = 0;
  let total: u64 = 0;
  while (true) {
    const slot = snapshot + count * VIRTQ_DESC_SIZE;
    let descriptor = ring + index * VIRTQ_DESC_SIZE;
    if (entries) {
      descriptor = table + count * VIRTQ_DESC_SIZE;
      if (table == 0) {
        // A table that crosses regions: entry by entry through private memory.
        if (!copyIn(vq, tableIova + <u64>count * VIRTQ_DESC_SIZE, slot, VIRTQ_DESC_SIZE, head)) return 0;
        descriptor = slot;
      }
    }
    // Once the head is available its followers are, by their place alone ("Next Flag").
    if (count != 0 || entries != 0) word = load<u32>(descriptor, PVIRTQ_DESC_ID);
    const flags = word >> 16;
    const iova = load<u64>(descriptor);
    const bytes = load<u32>(descriptor, PVIRTQ_DESC_LEN);
    if (flags & VIRTQ_DESC_F_INDIRECT) {
      if (entries) return refuse(vq, VERDICT_INDIRECT_NESTED, head);
      if (!(load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT_DESC)) return refuse(vq, VERDICT_INDIRECT_NOT_NEGOTIATED, head);
      if (flags & VIRTQ_DESC_F_NEXT || count) return refuse(vq, VERDICT_INDIRECT_NEXT, head);
      if (bytes == 0 || bytes % VIRTQ_DESC_SIZE) return refuse(vq, VERDICT_INDIRECT_LENGTH, head);
      entries = bytes / VIRTQ_DESC_SIZE;
      if (entries > size) return refuse(vq, VERDICT_CHAIN_TOO_LONG, head);
      if (iova + <u64>(bytes - 1) < iova) return refuse(vq, VERDICT_ADDRESS_OVERFLOW, head);
      // WRITE on a descriptor that refers to a table is ignored, as on a split ring.
      table = iotlbTranslate(load<u32>(vq, VQ_IOTLB), iova, bytes, IOTLB_ACCESS_READ);
      tableIova = iova;
      continue;
    }
    if (count == size) return refuse(vq, VERDICT_CHAIN_TOO_LONG, head);
    if (bytes == 0) return refuse(vq, VERDICT_ZERO_LENGTH, head);
    if (iova + <u64>(bytes - 1) < iova) return refuse(vq, VERDICT_ADDRESS_OVERFLOW, head);
    total += <u64>bytes;
    if (total >> 32) return refuse(vq, VERDICT_TOTAL_LENGTH, head);
    if (!(flags & VIRTQ_DESC_F_WRITE)) {
      if (readable != count) return refuse(vq, VERDICT_ORDER, head);
      readable++;
    }
    store<u64>(slot, iova);
    store<u32>(slot, bytes, 8);
    store<u32>(slot, flags & VIRTQ_DESC_F_WRITE, 12);
    count++;
    if (entries) {
      // NEXT has no meaning in a table: all of its entries are the chain.
      if (count == entries) break;
    } else {
      if (!(flags & VIRTQ_DESC_F_NEXT)) break;
      if (++index == size) index = 0;
    }
  }
  const taken: u32 = entries ? 1 : count;
  if (taken > offerable(vq)) return refuse(vq, VERDICT_AVAIL_INDEX, head);
  // The id of a list is that of its last descriptor; of a table, that of the descriptor which refers to it.
  const id = entries ? head : word & 0xffff;
  return <u64>(id | (taken << 16)) | (<u64>(readable | (count << 16)) << 32);
}

/**
 * Snapshot and segments of one chain, in the queue's own scratch memory: its entry of the chain table, 0, or NO_ROOM in the
 * high half.
 */
export function chainParse(vq: usize, word: u32, segments: usize, room: u32): u64 {
  const snapshot: usize = load<u32>(vq, VQ_SNAPSHOT);
  const judged = chainSnapshot(vq, word, snapshot);
  if (judged == 0) return 0;
  const counts = chainSegments(vq, <u32>judged & 0xffff, snapshot, <u32>(judged >> 32), segments, room);
  return counts ? (judged & 0xffff_ffff) | (<u64>counts << 32) : 0;
}
