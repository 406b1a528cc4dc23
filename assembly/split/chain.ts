// The complete path for one descriptor chain: every rule of "The Virtqueue Descriptor Table" and "Indirect Descriptors",
// spelled out. It alone gives verdicts; the fast path (parse.ts) only recognises what is plainly right.
//
// First the chain is copied into private memory, each field read exactly once, and its structure judged; only then are the
// private descriptors translated. The driver may rewrite its ring meanwhile: what was judged is what is used.

import { chainSegments, copyIn, refuse } from '../chain';
import { iotlbTranslate } from '../iotlb';
import {
  IOTLB_ACCESS_READ,
  VERDICT_ADDRESS_OVERFLOW,
  VERDICT_CHAIN_TOO_LONG,
  VERDICT_HEAD,
  VERDICT_INDIRECT_LENGTH,
  VERDICT_INDIRECT_NESTED,
  VERDICT_INDIRECT_NEXT,
  VERDICT_INDIRECT_NOT_NEGOTIATED,
  VERDICT_NEXT,
  VERDICT_ORDER,
  VERDICT_TOTAL_LENGTH,
  VERDICT_ZERO_LENGTH,
  VQ_DESC,
  VQ_F_INDIRECT_DESC,
  VQ_FLAGS,
  VQ_IOTLB,
  VQ_SIZE,
  VQ_SNAPSHOT,
} from '../layout';
import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE, VIRTQ_DESC_SIZE } from '../virtio';

/**
 * Copies the chain at `head` to `snapshot` (room for VQ_SIZE descriptors) and judges its structure. Returns readable
 * descriptors | descriptors << 16; 0 after a verdict or a miss (of an indirect table).
 */
export function chainSnapshot(vq: usize, head: u32, snapshot: usize): u32 {
  const size = load<u32>(vq, VQ_SIZE);
  if (head >= size) return refuse(vq, VERDICT_HEAD, head);
  // The table being walked: the queue's own, then at most one indirect table.
  let table: usize = load<u32>(vq, VQ_DESC);
  let tableIova: u64 = 0;
  let entries = size;
  let indirect = false;
  let index = head;
  let count: u32 = 0;
  let readable: u32 = 0;
  let total: u64 = 0;
  while (true) {
    let descriptor = table + index * VIRTQ_DESC_SIZE;
    const slot = snapshot + count * VIRTQ_DESC_SIZE;
    if (table == 0) {
      // An indirect table that crosses regions: entry by entry through private memory.
      if (!copyIn(vq, tableIova + <u64>index * VIRTQ_DESC_SIZE, slot, VIRTQ_DESC_SIZE, head)) return 0;
      descriptor = slot;
    }
    const iova = load<u64>(descriptor);
    const bytes = load<u32>(descriptor, 8);
    const link = load<u32>(descriptor, 12);
    const next = link >> 16;
    if (link & VIRTQ_DESC_F_INDIRECT) {
      if (indirect) return refuse(vq, VERDICT_INDIRECT_NESTED, head);
      if (!(load<u32>(vq, VQ_FLAGS) & VQ_F_INDIRECT_DESC))
        return refuse(vq, VERDICT_INDIRECT_NOT_NEGOTIATED, head);
      if (link & VIRTQ_DESC_F_NEXT) return refuse(vq, VERDICT_INDIRECT_NEXT, head);
      if (bytes == 0 || bytes % VIRTQ_DESC_SIZE) return refuse(vq, VERDICT_INDIRECT_LENGTH, head);
      entries = bytes / VIRTQ_DESC_SIZE;
      if (entries > size) return refuse(vq, VERDICT_CHAIN_TOO_LONG, head);
      if (iova + <u64>(bytes - 1) < iova) return refuse(vq, VERDICT_ADDRESS_OVERFLOW, head);
      // WRITE on a descriptor that refers to a table is ignored ("Indirect Descriptors", device requirements).
      table = iotlbTranslate(load<u32>(vq, VQ_IOTLB), iova, bytes, IOTLB_ACCESS_READ);
      tableIova = iova;
      indirect = true;
      index = 0;
      continue;
    }
    if (count == size) return refuse(vq, VERDICT_CHAIN_TOO_LONG, head);
    if (bytes == 0) return refuse(vq, VERDICT_ZERO_LENGTH, head);
    if (iova + <u64>(bytes - 1) < iova) return refuse(vq, VERDICT_ADDRESS_OVERFLOW, head);
    total += <u64>bytes;
    if (total >> 32) return refuse(vq, VERDICT_TOTAL_LENGTH, head);
    if (!(link & VIRTQ_DESC_F_WRITE)) {
      if (readable != count) return refuse(vq, VERDICT_ORDER, head);
      readable++;
    }
    store<u64>(slot, iova);
    store<u32>(slot, bytes, 8);
    store<u32>(slot, link & VIRTQ_DESC_F_WRITE, 12);
    count++;
    if (!(link & VIRTQ_DESC_F_NEXT)) return readable | (count << 16);
    if (next >= entries) return refuse(vq, VERDICT_NEXT, head);
    index = next;
  }
}

/** Snapshot and segments of one chain, in the queue's own scratch memory: chain counts as in the chain table, or 0, or NO_ROOM. */
export function chainParse(vq: usize, head: u32, segments: usize, room: u32): u32 {
  const snapshot: usize = load<u32>(vq, VQ_SNAPSHOT);
  const counts = chainSnapshot(vq, head, snapshot);
  return counts ? chainSegments(vq, head, snapshot, counts, segments, room) : 0;
}
