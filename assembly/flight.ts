// Flight recorder: what a queue has done last, for whoever wants to know afterwards what led up to it. Each record is written
// once, from private memory; of memory of the other side it has the header of a request, which nothing here depends on. Here
// is the ring of records; flight-chains.ts and flight-slots.ts have what a device and what a driver write to it. A queue that
// is not recorded pays a load and a branch a burst.
//
// A reader may look at any time. It reads FLIGHT_NEXT, then the ring, then FLIGHT_CLAIMED: what lies less than a ring behind
// the latter was not written over meanwhile. The stores are plain ones, as those of counters; on a machine that reorders them
// a reader may see a record that is half old, but never one of a queue that has stopped.

import {
  FLIGHT_BROKEN,
  FLIGHT_CLAIMED,
  FLIGHT_F_FAULT,
  FLIGHT_MASK,
  FLIGHT_NEXT,
  FLIGHT_RECORD_HEAD,
  FLIGHT_RECORD_HEADER,
  FLIGHT_RECORD_KIND,
  FLIGHT_RECORD_READABLE,
  FLIGHT_RECORD_SIZE,
  FLIGHT_RECORD_TIME,
  FLIGHT_RECORD_VERDICT,
  FLIGHT_RECORDS,
  FLIGHT_TIME,
  VQ_FLIGHT,
} from './layout';

/** Says that `count` records are about to be written: the number of the first. */
// @ts-ignore: decorator
@inline
export function claim(flight: usize, count: u32): u64 {
  const next = load<u64>(flight, FLIGHT_NEXT);
  store<u64>(flight, next + <u64>count, FLIGHT_CLAIMED);
  return next;
}

/** Record `number`, with its time, its head and its counts written. */
// @ts-ignore: decorator
@inline
export function record(flight: usize, number: u64, head: u32, counts: u32): usize {
  const at = recordAt(flight, number);
  store<u64>(at, load<u64>(flight, FLIGHT_TIME), FLIGHT_RECORD_TIME);
  store<u64>(at, <u64>head | (<u64>counts << 32), FLIGHT_RECORD_HEAD);
  return at;
}

/** The rest of a record, but for its header. Bytes. */
// @ts-ignore: decorator
@inline
export function complete(at: usize, kind: u32, position: u32, readable: u32, writable: u32): void {
  store<u64>(at, <u64>readable | (<u64>writable << 32), FLIGHT_RECORD_READABLE);
  store<u64>(at, <u64>kind | (<u64>position << 32), FLIGHT_RECORD_KIND);
}

/** Shows readers the records before `next`. */
// @ts-ignore: decorator
@inline
export function commit(flight: usize, next: u64): void {
  store<u64>(flight, next, FLIGHT_NEXT);
}

/** Records what broke the queue of `block`; `fault` is the IOVA that it is about, if it is about one. */
export function flightBroken(block: usize, verdict: u32, head: u32, faulted: bool, fault: u64): void {
  const flight: usize = load<u32>(block, VQ_FLIGHT);
  const number = claim(flight, 1);
  const at = record(flight, number, head, 0);
  complete(at, FLIGHT_BROKEN | (faulted ? FLIGHT_F_FAULT : 0), 0, 0, 0);
  store<u16>(at, <u16>verdict, FLIGHT_RECORD_VERDICT);
  store<u64>(at, fault, FLIGHT_RECORD_HEADER);
  commit(flight, number + 1);
}

/**
 * Moves the record before the last `count` ones behind them: what broke the queue was recorded when it was found, before the
 * chains that had been found in order.
 */
export function sinkBroken(flight: usize, count: u32): void {
  const next = load<u64>(flight, FLIGHT_NEXT);
  const first = recordAt(flight, next - <u64>count - 1);
  const low = v128.load(first);
  const middle = v128.load(first, 16);
  const high = v128.load(first, 32);
  for (let number = next - <u64>count; number < next; number++)
    memory.copy(recordAt(flight, number - 1), recordAt(flight, number), FLIGHT_RECORD_SIZE);
  const last = recordAt(flight, next - 1);
  v128.store(last, low);
  v128.store(last, middle, 16);
  v128.store(last, high, 32);
}

// @ts-ignore: decorator
@inline
function recordAt(flight: usize, number: u64): usize {
  return flight + FLIGHT_RECORDS + (<u32>number & load<u32>(flight, FLIGHT_MASK)) * FLIGHT_RECORD_SIZE;
}
