// What a device writes to its flight recorder: chains that were taken, given back, or put back unseen.

import { claim, commit, complete, record, sinkBroken } from './flight';
import {
  CHAIN_COUNTS,
  CHAIN_SIZE,
  FLIGHT_F_HEADER,
  FLIGHT_HEADER_BYTES,
  FLIGHT_HEADERS,
  FLIGHT_POPPED,
  FLIGHT_PUSHED,
  FLIGHT_RECORD_HEADER,
  FLIGHT_RETURNED,
  REQUEST_COUNT,
  REQUEST_HEAD,
  REQUEST_READABLE_BYTES,
  REQUEST_READABLE_COUNT,
  REQUEST_WRITABLE_BYTES,
  SEGMENT_BYTES,
  SEGMENT_SIZE,
  VQ_CHAINS,
  VQ_F_PACKED,
  VQ_FLAGS,
  VQ_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_SEGMENTS,
  VQ_SIZE,
  VQ_USED,
  VQ_VERDICT,
} from './layout';
import { advance, retreat } from './packed/position';

/** Records the `count` chains of the chain table, which were just taken. */
export function flightPopped(vq: usize, count: u32): void {
  if (count == 0) return;
  const flight: usize = load<u32>(vq, VQ_FLIGHT);
  const headers = load<u32>(flight, FLIGHT_HEADERS) != 0;
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  let position = positionBefore(vq, load<u32>(vq, VQ_LAST_AVAIL), chain, count);
  let number = claim(flight, count);
  for (const end = chain + count * CHAIN_SIZE; chain < end; chain += CHAIN_SIZE, number++) {
    const head = load<u32>(chain);
    const counts = load<u32>(chain, CHAIN_COUNTS);
    const writable = segment + (counts & 0xffff) * SEGMENT_SIZE;
    const next = segment + (counts >> 16) * SEGMENT_SIZE;
    const at = record(flight, number, head, counts);
    let kind: u32 = FLIGHT_POPPED;
    if (headers && segment != writable && load<u32>(segment, SEGMENT_BYTES) >= <u32>FLIGHT_HEADER_BYTES) {
      v128.store(at, v128.load(load<u32>(segment)), FLIGHT_RECORD_HEADER);
      kind |= FLIGHT_F_HEADER;
    }
    complete(at, kind, position, bytesOf(segment, writable), bytesOf(writable, next));
    segment = next;
    position = positionBehind(vq, position, head);
  }
  commit(flight, number);
  // Only this pop can have broken the queue: a broken one takes nothing.
  if (load<u32>(vq, VQ_VERDICT)) sinkBroken(flight, count);
}

/** Records the first `count` entries of the chain table, which were just published. */
export function flightPushed(vq: usize, count: u32): void {
  const flight: usize = load<u32>(vq, VQ_FLIGHT);
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let position = positionBefore(vq, load<u32>(vq, VQ_USED), chain, count);
  let number = claim(flight, count);
  for (const end = chain + count * CHAIN_SIZE; chain < end; chain += CHAIN_SIZE, number++) {
    const head = load<u32>(chain);
    const at = record(flight, number, head, load<u32>(chain, CHAIN_COUNTS));
    complete(at, FLIGHT_PUSHED, position, 0, 0);
    position = positionBehind(vq, position, head);
  }
  commit(flight, number);
}

/** Records that chains [first, end) of the chain table are put back. They still count as taken. */
export function flightReturned(vq: usize, first: u32, end: u32): void {
  if (first == end) return;
  const flight: usize = load<u32>(vq, VQ_FLIGHT);
  const chain = load<u32>(vq, VQ_CHAINS) + first * CHAIN_SIZE;
  const position = positionBefore(vq, load<u32>(vq, VQ_LAST_AVAIL), chain, end - first);
  const number = claim(flight, 1);
  complete(record(flight, number, load<u32>(chain), end - first), FLIGHT_RETURNED, position, 0, 0);
  commit(flight, number + 1);
}

/** Records the chain in a request block, which was just taken; `header` is where a copy of its readable bytes lies, or 0. */
export function flightTaken(vq: usize, request: usize, header: usize): void {
  const flight: usize = load<u32>(vq, VQ_FLIGHT);
  const head = load<u32>(request, REQUEST_HEAD);
  const readable = load<u32>(request, REQUEST_READABLE_BYTES);
  const counts = load<u32>(request, REQUEST_READABLE_COUNT) | (load<u32>(request, REQUEST_COUNT) << 16);
  const number = claim(flight, 1);
  const at = record(flight, number, head, counts);
  let kind: u32 = FLIGHT_POPPED;
  if (load<u32>(flight, FLIGHT_HEADERS) != 0 && header != 0 && readable >= <u32>FLIGHT_HEADER_BYTES) {
    v128.store(at, v128.load(header), FLIGHT_RECORD_HEADER);
    kind |= FLIGHT_F_HEADER;
  }
  const last = load<u32>(vq, VQ_LAST_AVAIL);
  const position = isPacked(vq) ? retreat(last, head >> 16, load<u32>(vq, VQ_SIZE)) : (last - 1) & 0xffff;
  complete(at, kind, position, readable, load<u32>(request, REQUEST_WRITABLE_BYTES));
  commit(flight, number + 1);
}

/** Records one chain that is being given back by itself. */
export function flightGiven(vq: usize, head: u32, written: u32): void {
  const flight: usize = load<u32>(vq, VQ_FLIGHT);
  const number = claim(flight, 1);
  complete(record(flight, number, head, written), FLIGHT_PUSHED, load<u32>(vq, VQ_USED), 0, 0);
  commit(flight, number + 1);
}

/** The place in the ring before the `count` chains at `chain`, which end at `position`. */
// @ts-ignore: decorator
@inline
function positionBefore(vq: usize, position: u32, chain: usize, count: u32): u32 {
  if (!isPacked(vq)) return (position - count) & 0xffff;
  let descriptors: u32 = 0;
  for (let i: u32 = 0; i < count; i++) descriptors += load<u32>(chain + i * CHAIN_SIZE) >> 16;
  return retreat(position, descriptors, load<u32>(vq, VQ_SIZE));
}

/** The place behind a chain at `position`. */
// @ts-ignore: decorator
@inline
function positionBehind(vq: usize, position: u32, head: u32): u32 {
  return isPacked(vq) ? advance(position, head >> 16, load<u32>(vq, VQ_SIZE)) : (position + 1) & 0xffff;
}

// @ts-ignore: decorator
@inline
function isPacked(vq: usize): bool {
  return (load<u32>(vq, VQ_FLAGS) & VQ_F_PACKED) != 0;
}

/** Bytes of the segments from `segment` to `end`. */
// @ts-ignore: decorator
@inline
function bytesOf(segment: usize, end: usize): u32 {
  let bytes: u32 = 0;
  for (; segment < end; segment += SEGMENT_SIZE) bytes += load<u32>(segment, SEGMENT_BYTES);
  return bytes;
}
