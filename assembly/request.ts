// Asynchronous requests: chains that a device model holds while the queue goes on. A request keeps its descriptors as
// IOVAs in private memory and is translated again whenever bytes move, so that an IOTLB update never waits for a model
// and a late completion finds a refusal, not a fault.

import { chainMapped, noteMiss } from './chain';
import { copy } from './copy';
import { deviceGive, devicePeek, devicePublish, deviceTake } from './device';
import { dirtyMark, dirtyTracked } from './dirty';
import { flightTaken } from './flight-chains';
import { iotlbFind } from './iotlb';
import {
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  IOTLB_ENTRY_BYTES,
  IOTLB_ENTRY_DENY,
  IOTLB_ENTRY_IOVA,
  IOTLB_ENTRY_LINEAR,
  REQUEST_COUNT,
  REQUEST_DESCRIPTORS,
  REQUEST_ENTRY,
  REQUEST_EPOCH,
  REQUEST_HEAD,
  REQUEST_READABLE_BYTES,
  REQUEST_READABLE_COUNT,
  REQUEST_WRITABLE_BYTES,
  VQ_EPOCH,
  VQ_FLIGHT,
  VQ_IOTLB,
  VQ_SIZE,
} from './layout';
import { VIRTQ_DESC_SIZE } from './virtio';

/** Takes one chain into the block at `request` (room for REQUEST_DESCRIPTORS + VQ_SIZE + 1 descriptors): 1, or 0. */
export function requestTake(vq: usize, request: usize): u32 {
  const snapshot = request + REQUEST_DESCRIPTORS;
  const next = devicePeek(vq, snapshot);
  const head = <u32>next;
  const counts = <u32>(next >> 32);
  if (counts == 0 || !chainMapped(vq, head, snapshot, counts)) return 0;
  const entry = deviceTake(vq, head);
  if (entry == 0) return 0;
  const readable = counts & 0xffff;
  const count = counts >> 16;
  note(vq, request, head, entry, counts, bytesOf(snapshot, 0, readable), bytesOf(snapshot, readable, count));
  if (load<u32>(vq, VQ_FLIGHT)) flightTaken(vq, request, 0);
  return 1;
}

/** Bytes of the descriptors [first, end) of a snapshot; of all of them less than 2^32. */
// @ts-ignore: decorator
@inline
export function bytesOf(snapshot: usize, first: u32, end: u32): u32 {
  let bytes: u32 = 0;
  for (let i = first; i < end; i++) bytes += load<u32>(snapshot + i * VIRTQ_DESC_SIZE, 8);
  return bytes;
}

/** Notes in a request block what was taken into it. */
// @ts-ignore: decorator
@inline
export function note(vq: usize, request: usize, head: u32, entry: u32, counts: u32, readableBytes: u32, writableBytes: u32): void {
  store<u32>(request, head, REQUEST_HEAD);
  store<u32>(request, entry, REQUEST_ENTRY);
  store<u32>(request, counts >> 16, REQUEST_COUNT);
  store<u32>(request, counts & 0xffff, REQUEST_READABLE_COUNT);
  store<u32>(request, readableBytes, REQUEST_READABLE_BYTES);
  store<u32>(request, writableBytes, REQUEST_WRITABLE_BYTES);
  store<u32>(request, load<u32>(vq, VQ_EPOCH), REQUEST_EPOCH);
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
  const bytes = min(written, load<u32>(request, REQUEST_WRITABLE_BYTES));
  deviceGive(vq, load<u32>(request, REQUEST_HEAD), load<u32>(request, REQUEST_ENTRY), bytes);
  // Given back once: a second finish of the same request finds it stale.
  store<u32>(request, load<u32>(request, REQUEST_EPOCH) - 1, REQUEST_EPOCH);
}

/** Publishes `count` requests that requestFinish gave back: NOTIFY_DUE or 0. */
export function requestPublish(vq: usize, count: u32): u32 {
  return devicePublish(vq, count);
}

// @ts-ignore: decorator
@inline
export function stale(vq: usize, request: usize): bool {
  return load<u32>(request, REQUEST_EPOCH) != load<u32>(vq, VQ_EPOCH);
}

/** Moves bytes between private memory and descriptors [first, end) of the chain, translating piece by piece. */
export function transfer(vq: usize, request: usize, first: u32, end: u32, offset: u32, at: usize, bytes: u32, access: u32): u32 {
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
