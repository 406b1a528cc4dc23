// The slots of a driver's queue, whatever the format of its ring. Every request has one: a fixed piece of shared memory, and
// private state, so that nothing is ever read back from memory that the device can write except what it has used and the
// status, and those are checked against private state.

import { flightBroken } from './flight';
import {
  DQ_FLIGHT,
  DQ_FREE,
  DQ_FREE_STACK,
  DQ_SLOT_MEMORY,
  DQ_SLOT_STATE,
  DQ_SLOTS,
  DQ_VERDICT,
  DQ_VERDICT_HEAD,
  SLOT_SIZE,
  SLOT_STATE_BUSY,
  SLOT_STATE_SIZE,
  SLOT_STATE_WRITABLE,
  VERDICT_USED_ID,
  VERDICT_USED_LENGTH,
  VQ_HOSTILE_CHAINS,
} from './layout';
import { add } from './notify';

/** Takes a free slot. The caller has seen DQ_FREE > 0. */
// @ts-ignore: decorator
@inline
export function takeSlot(dq: usize): u32 {
  const free = load<u32>(dq, DQ_FREE) - 1;
  store<u32>(dq, free, DQ_FREE);
  return <u32>load<u16>(<usize>load<u32>(dq, DQ_FREE_STACK) + (free << 1));
}

/** Gives a slot back. */
// @ts-ignore: decorator
@inline
export function freeSlot(dq: usize, slot: u32): void {
  const free = load<u32>(dq, DQ_FREE);
  store<u16>(<usize>load<u32>(dq, DQ_FREE_STACK) + (free << 1), <u16>slot);
  store<u32>(dq, free + 1, DQ_FREE);
}

/** Shared memory of a block request's slot. */
// @ts-ignore: decorator
@inline
export function slotMemory(dq: usize, slot: u32): usize {
  return load<u32>(dq, DQ_SLOT_MEMORY) + slot * SLOT_SIZE;
}

/** Private state of a slot. */
// @ts-ignore: decorator
@inline
export function slotState(dq: usize, slot: u32): usize {
  return load<u32>(dq, DQ_SLOT_STATE) + slot * SLOT_STATE_SIZE;
}

/** One buffer of a chain for driverOffer: `bytes` bytes at `iova`, `flags` being VIRTQ_DESC_F_WRITE or 0. */
// @ts-ignore: decorator
@inline
export function buffer(iova: u64, bytes: u32, flags: u32): v128 {
  return i64x2.replace_lane(i64x2.splat(iova), 1, <u64>bytes | (<u64>flags << 32));
}

/** Whether there is such a slot, and a request holds it. */
// @ts-ignore: decorator
@inline
export function inFlight(dq: usize, slot: u32): bool {
  return slot < load<u32>(dq, DQ_SLOTS) && load<u32>(slotState(dq, slot), SLOT_STATE_BUSY) != 0;
}

/**
 * Ends the request of a slot of which the device says, by used id `id`, that it has written `written` bytes; false, and the
 * queue is broken, if no request holds the slot, or it has fewer bytes for the device to write.
 */
// @ts-ignore: decorator
@inline
export function endSlot(dq: usize, slot: u32, id: u32, written: u32): bool {
  if (!inFlight(dq, slot)) {
    driverBreak(dq, VERDICT_USED_ID, id);
    return false;
  }
  const state = slotState(dq, slot);
  if (written > load<u32>(state, SLOT_STATE_WRITABLE)) {
    driverBreak(dq, VERDICT_USED_LENGTH, id);
    return false;
  }
  store<u32>(state, 0, SLOT_STATE_BUSY);
  return true;
}

/** Breaks the queue: the first verdict stays, nothing is reaped any more. */
export function driverBreak(dq: usize, verdict: u32, head: u32): void {
  if (load<u32>(dq, DQ_VERDICT)) return;
  store<u32>(dq, verdict, DQ_VERDICT);
  store<u32>(dq, head, DQ_VERDICT_HEAD);
  add(dq + VQ_HOSTILE_CHAINS, 1);
  if (load<u32>(dq, DQ_FLIGHT)) flightBroken(dq, verdict, head, false, 0);
}
