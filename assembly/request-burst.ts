// Bursts of asynchronous requests: one call takes chains with what is to be read of them, one gives chains back with what
// was written to them. A request block has its chain's bytes behind its descriptors; chains that are too long for that go
// one by one, and piece by piece, through request.ts.

import { chainMapped } from './chain';
import { copy } from './copy';
import { devicePeek, devicePublish, deviceTake } from './device';
import { flightTaken } from './flight-chains';
import {
  GIVE_REQUEST,
  GIVE_SIZE,
  GIVE_STATUS,
  GIVE_WRITTEN,
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  LONG_DUE,
  REQUEST_COUNT,
  REQUEST_DESCRIPTORS,
  REQUEST_READABLE,
  REQUEST_READABLE_COUNT,
  REQUEST_WRITABLE,
  REQUEST_WRITABLE_BYTES,
  TAKE_SIZE,
  VQ_FLIGHT,
  VQ_MISS,
  VQ_SNAPSHOT,
} from './layout';
import { bytesOf, note, requestFinish, stale, transfer } from './request';
import { VIRTQ_DESC_SIZE } from './virtio';

/** Takes up to `max` chains into the blocks of `bytes` bytes that the table at `table` names: how many, with LONG_DUE. */
export function requestTakeBurst(vq: usize, table: usize, max: u32, bytes: u32): u32 {
  const snapshot: usize = load<u32>(vq, VQ_SNAPSHOT);
  const recorded = load<u32>(vq, VQ_FLIGHT) != 0;
  for (let taken: u32 = 0; taken < max; taken++) {
    const next = devicePeek(vq, snapshot);
    const head = <u32>next;
    const counts = <u32>(next >> 32);
    if (counts == 0) return taken;
    const readable = counts & 0xffff;
    const count = counts >> 16;
    const readableBytes = bytesOf(snapshot, 0, readable);
    const writableBytes = bytesOf(snapshot, readable, count);
    // In u64: the lengths of a chain add up to almost 2^32.
    const descriptorBytes: usize = count * VIRTQ_DESC_SIZE;
    const from = REQUEST_DESCRIPTORS + <u64>descriptorBytes;
    const to = (from + readableBytes + 15) & ~15;
    if (to + writableBytes > <u64>bytes) return taken | LONG_DUE;
    if (!chainMapped(vq, head, snapshot, counts)) return taken;
    const entry = deviceTake(vq, head);
    if (entry == 0) return taken;
    const request: usize = load<u32>(table + taken * TAKE_SIZE);
    copy(request + REQUEST_DESCRIPTORS, snapshot, descriptorBytes);
    note(vq, request, head, entry, counts, readableBytes, writableBytes);
    const readableAt = request + <usize>from;
    const writableAt = request + <usize>to;
    store<u32>(request, <u32>readableAt, REQUEST_READABLE);
    store<u32>(request, <u32>writableAt, REQUEST_WRITABLE);
    transfer(vq, request, 0, readable, 0, readableAt, readableBytes, IOTLB_ACCESS_READ);
    // What another chain has left here is none of this driver's business.
    memory.fill(writableAt, 0, writableBytes);
    if (recorded) flightTaken(vq, request, readableAt);
  }
  return max;
}

/**
 * Gives back up to `count` requests of the table at `table` and publishes them: how many entries are done with, with
 * NOTIFY_DUE; fewer, with VQ_MISS, where nothing is mapped. Those from before a reset are done with, too.
 */
export function requestGiveBurst(vq: usize, table: usize, count: u32): u32 {
  let done: u32 = 0;
  let given: u32 = 0;
  for (; done < count; done++, table += GIVE_SIZE) {
    const request: usize = load<u32>(table, GIVE_REQUEST);
    if (stale(vq, request)) continue;
    const written = load<u32>(table, GIVE_WRITTEN);
    const status = load<u32>(table, GIVE_STATUS);
    // What was copied before a miss is copied again once there is a mapping. What a mapping does not permit any more is the
    // driver's loss.
    if (!copyOut(vq, request, 0, written) || !copyOut(vq, request, load<u32>(request, REQUEST_WRITABLE_BYTES) - status, status)) break;
    requestFinish(vq, request, written + status);
    given++;
  }
  return given ? done | devicePublish(vq, given) : done;
}

/** Copies `bytes` of the bytes to be written, from `offset` on, to the driver: false with a miss noted. */
// @ts-ignore: decorator
@inline
function copyOut(vq: usize, request: usize, offset: u32, bytes: u32): bool {
  if (bytes == 0) return true;
  const first = load<u32>(request, REQUEST_READABLE_COUNT);
  const from: usize = load<u32>(request, REQUEST_WRITABLE) + offset;
  transfer(vq, request, first, load<u32>(request, REQUEST_COUNT), offset, from, bytes, IOTLB_ACCESS_WRITE);
  return load<u32>(vq, VQ_MISS) == 0;
}
