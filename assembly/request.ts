// Asynchronous requests: chains that a device model holds while the queue goes on. A request keeps its descriptors as
// IOVAs in private memory and is translated again whenever bytes move, so that an IOTLB update never waits for a model
// and a late completion finds a refusal, not a fault.

import { copy } from './copy';
import { dirtyMark, dirtyTracked } from './dirty';
import { iotlbFind } from './iotlb';
import {
  CHAIN_SIZE,
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  IOTLB_ENTRY_BYTES,
  IOTLB_ENTRY_DENY,
  IOTLB_ENTRY_IOVA,
  IOTLB_ENTRY_LINEAR,
  REQUEST_COUNT,
  REQUEST_DESCRIPTORS,
  REQUEST_EPOCH,
  REQUEST_HEAD,
  REQUEST_READABLE_BYTES,
  REQUEST_READABLE_COUNT,
  REQUEST_WRITABLE_BYTES,
  VERDICT_HEAD_IN_FLIGHT,
  VQ_DEVICE,
  VQ_EPOCH,
  VQ_HEADS,
  VQ_IN_FLIGHT,
  VQ_IOTLB,
  VQ_LAST_AVAIL,
  VQ_SIZE,
  VQ_USED,
} from './layout';
import { breakQueue, chainMapped, chainSnapshot, noteMiss } from './split/chain';
import { available, devicePublish, headsRing } from './split/device';
import { logGive, logTake } from './split/in-flight';
import { VIRTQ_DESC_SIZE, VIRTQ_USED_RING } from './virtio';

/** Takes one chain into the block at `request` (room for REQUEST_DESCRIPTORS + VQ_SIZE + 1 descriptors): 1, or 0. */
export function requestTake(vq: usize, request: usize): u32 {
  if (available(vq, 1) == 0) return 0;
  const last = load<u32>(vq, VQ_LAST_AVAIL);
  const size = load<u32>(vq, VQ_SIZE);
  const head = <u32>load<u16>(headsRing(vq) + ((last & (size - 1)) << 1));
  const snapshot = request + REQUEST_DESCRIPTORS;
  const counts = chainSnapshot(vq, head, snapshot);
  if (counts == 0 || !chainMapped(vq, head, snapshot, counts)) return 0;
  // Judged after the snapshot, which has shown that the head is one of the table's.
  const held: usize = load<u32>(vq, VQ_HEADS) + head;
  if (load<u8>(held)) {
    breakQueue(vq, VERDICT_HEAD_IN_FLIGHT, head);
    return 0;
  }
  store<u8>(held, 1);
  logTake(vq, head);
  const readable = counts & 0xffff;
  const count = counts >> 16;
  let readableBytes: u32 = 0;
  let writableBytes: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const bytes = load<u32>(snapshot + i * VIRTQ_DESC_SIZE, 8);
    if (i < readable) readableBytes += bytes;
    else writableBytes += bytes;
  }
  store<u32>(request, head, REQUEST_HEAD);
  store<u32>(request, count, REQUEST_COUNT);
  store<u32>(request, readable, REQUEST_READABLE_COUNT);
  store<u32>(request, readableBytes, REQUEST_READABLE_BYTES);
  store<u32>(request, writableBytes, REQUEST_WRITABLE_BYTES);
  store<u32>(request, load<u32>(vq, VQ_EPOCH), REQUEST_EPOCH);
  store<u32>(vq, (last + 1) & 0xffff, VQ_LAST_AVAIL);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + 1, VQ_IN_FLIGHT);
  return 1;
}

/** Copies up to `bytes` readable bytes from `offset` of the chain to `to`: how many; fewer, with VQ_MISS, where nothing is mapped. */
export function requestRead(vq: usize, request: usize, offset: u32, to: usize, bytes: u32): u32 {
  return transfer(vq, request, 0, load<u32>(request, REQUEST_READABLE_COUNT), offset, to, bytes, IOTLB_ACCESS_READ);
}

/** Copies up to `bytes` bytes at `from` to the chain's writable bytes from `offset`: how many. */
export function requestWrite(vq: usize, request: usize, offset: u32, from: usize, bytes: u32): u32 {
  const first = load<u32>(request, REQUEST_READABLE_COUNT);
  return transfer(vq, request, first, load<u32>(request, REQUEST_COUNT), offset, from, bytes, IOTLB_ACCESS_WRITE);
}

/** Gives the chain back, not yet published. A request from before a reset is dropped: its ring is no longer there. */
export function requestFinish(vq: usize, request: usize, written: u32): void {
  if (stale(vq, request)) return;
  const head = load<u32>(request, REQUEST_HEAD);
  const used = load<u32>(vq, VQ_USED);
  const index = used & (load<u32>(vq, VQ_SIZE) - 1);
  const capped = min(written, load<u32>(request, REQUEST_WRITABLE_BYTES));
  const entry: usize = load<u32>(vq, VQ_DEVICE) + VIRTQ_USED_RING + index * CHAIN_SIZE;
  store<u64>(entry, <u64>head | (<u64>capped << 32));
  logGive(vq, head, used);
  store<u32>(vq, (used + 1) & 0xffff, VQ_USED);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - 1, VQ_IN_FLIGHT);
  store<u8>(<usize>load<u32>(vq, VQ_HEADS) + head, 0);
  // Given back once: a second finish of the same request finds it stale.
  store<u32>(request, load<u32>(request, REQUEST_EPOCH) - 1, REQUEST_EPOCH);
}

/** Publishes `count` requests that requestFinish gave back: NOTIFY_DUE or 0. */
export function requestPublish(vq: usize, count: u32): u32 {
  return devicePublish(vq, count);
}

// @ts-ignore: decorator
@inline
function stale(vq: usize, request: usize): bool {
  return load<u32>(request, REQUEST_EPOCH) != load<u32>(vq, VQ_EPOCH);
}

/** Moves bytes between private memory and descriptors [first, end) of the chain, translating piece by piece. */
function transfer(vq: usize, request: usize, first: u32, end: u32, offset: u32, at: usize, bytes: u32, access: u32): u32 {
  if (stale(vq, request)) return 0;
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  const marked = access == IOTLB_ACCESS_WRITE && dirtyTracked(iotlb);
  let moved: u32 = 0;
  for (let i = first; i < end && moved < bytes; i++) {
    const descriptor = request + REQUEST_DESCRIPTORS + i * VIRTQ_DESC_SIZE;
    const length = load<u32>(descriptor, 8);
    if (offset >= length) {
      offset -= length;
      continue;
    }
    let iova = load<u64>(descriptor) + <u64>offset;
    let left = min(length - offset, bytes - moved);
    offset = 0;
    while (left) {
      const entry = iotlbFind(iotlb, iova);
      if (entry == 0) {
        // Perhaps only not mapped yet, since an IOTLB update: a miss, as for a pop.
        noteMiss(vq, iova, access);
        return moved;
      }
      if (load<u32>(entry, IOTLB_ENTRY_DENY) & access) return moved;
      const inside = iova - load<u64>(entry, IOTLB_ENTRY_IOVA);
      const piece = <u32>min(<u64>left, load<u64>(entry, IOTLB_ENTRY_BYTES) - inside);
      const linear = <usize>load<u32>(entry, IOTLB_ENTRY_LINEAR) + <usize>inside;
      if (access == IOTLB_ACCESS_READ) copy(at, linear, piece);
      else copy(linear, at, piece);
      if (marked) dirtyMark(iotlb, linear, piece);
      iova += <u64>piece;
      at += piece;
      moved += piece;
      left -= piece;
    }
  }
  return moved;
}
