// Split virtqueue, driver side. Every request has a slot: fixed descriptors (of the table, or an indirect table) and a
// fixed piece of shared memory, so that nothing is ever read back from memory that the device can write except used
// entries and status, and those are checked against private state.

import {
  DQ_AVAIL,
  DQ_DESC,
  DQ_DEVICE,
  DQ_DOORBELL,
  DQ_DRIVER,
  DQ_FLAGS,
  DQ_FREE,
  DQ_FREE_STACK,
  DQ_INDEX,
  DQ_IOVA_DELTA,
  DQ_LAST_USED,
  DQ_SIGNALLED_AVAIL,
  DQ_SIZE,
  DQ_SLOT_MEMORY,
  DQ_SLOT_STATE,
  DQ_SLOTS,
  DQ_VERDICT,
  DQ_VERDICT_HEAD,
  NOTIFY_DUE,
  SLOT_DESCRIPTORS,
  SLOT_INDIRECT,
  SLOT_SIZE,
  SLOT_STATE_BUSY,
  SLOT_STATE_SIZE,
  VERDICT_USED_ID,
  VERDICT_USED_INDEX,
  VQ_F_EVENT_IDX,
  VQ_F_INDIRECT_DESC,
  VQ_HOSTILE_CHAINS,
  VQ_KICKS,
  VQ_KICKS_SUPPRESSED,
} from '../layout';
import { add, needEvent } from '../notify';
import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_AVAIL_FLAGS,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_SIZE,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_USED_FLAGS,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
} from '../virtio';

/** Empties the rings and frees every slot. The configuration must be there, and the device must not be running. */
export function driverStart(dq: usize): void {
  const size = load<u32>(dq, DQ_SIZE);
  const slots = load<u32>(dq, DQ_SLOTS);
  memory.fill(load<u32>(dq, DQ_DESC), 0, size * VIRTQ_DESC_SIZE);
  memory.fill(load<u32>(dq, DQ_DRIVER), 0, VIRTQ_AVAIL_RING + size * 2 + 2);
  memory.fill(load<u32>(dq, DQ_DEVICE), 0, VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE + 2);
  memory.fill(load<u32>(dq, DQ_SLOT_STATE), 0, slots * SLOT_STATE_SIZE);
  const stack: usize = load<u32>(dq, DQ_FREE_STACK);
  for (let slot: u32 = 0; slot < slots; slot++) store<u16>(stack + (slot << 1), <u16>(slots - 1 - slot));
  store<u32>(dq, slots, DQ_FREE);
  store<u32>(dq, 0, DQ_AVAIL);
  store<u32>(dq, 0, DQ_LAST_USED);
  store<u32>(dq, 0, DQ_SIGNALLED_AVAIL);
  store<u32>(dq, 0, DQ_VERDICT);
  store<u32>(dq, 0, DQ_VERDICT_HEAD);
  driverDisarm(dq);
}

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

/** Shared memory of a slot. */
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

/** Where the descriptors of a slot are written: its indirect table, or its group in the descriptor table. */
// @ts-ignore: decorator
@inline
export function slotDescriptors(dq: usize, slot: u32): usize {
  return load<u32>(dq, DQ_FLAGS) & VQ_F_INDIRECT_DESC
    ? slotMemory(dq, slot) + SLOT_INDIRECT
    : load<u32>(dq, DQ_DESC) + slot * (SLOT_DESCRIPTORS * VIRTQ_DESC_SIZE);
}

/** Writes one descriptor in two stores; `next` is an index in the table it stands in. */
// @ts-ignore: decorator
@inline
export function writeDescriptor(at: usize, iova: u64, bytes: u32, flags: u32, next: u32): void {
  store<u64>(at, iova);
  store<u64>(at, <u64>bytes | (<u64>(flags | (next << 16)) << 32), 8);
}

/** Makes `slot`, whose `count` descriptors are written, the entry at available index `index`; visible once published. */
// @ts-ignore: decorator
@inline
export function offerSlot(dq: usize, slot: u32, count: u32, index: u32): void {
  let head = slot;
  if (load<u32>(dq, DQ_FLAGS) & VQ_F_INDIRECT_DESC) {
    const table = <u64>(slotMemory(dq, slot) + SLOT_INDIRECT) + load<u64>(dq, DQ_IOVA_DELTA);
    writeDescriptor(load<u32>(dq, DQ_DESC) + slot * VIRTQ_DESC_SIZE, table, count * VIRTQ_DESC_SIZE, VIRTQ_DESC_F_INDIRECT, 0);
  } else head = slot * SLOT_DESCRIPTORS;
  offerHead(dq, head, index);
}

/** Makes a chain the entry at available index `index`; visible once published. */
// @ts-ignore: decorator
@inline
export function offerHead(dq: usize, head: u32, index: u32): void {
  const ring: usize = load<u32>(dq, DQ_DRIVER) + VIRTQ_AVAIL_RING;
  store<u16>(ring + ((index & (load<u32>(dq, DQ_SIZE) - 1)) << 1), <u16>head);
}

/** Index of a slot's first descriptor, for the `next` fields: 0 in an indirect table of its own. */
// @ts-ignore: decorator
@inline
export function slotBase(dq: usize, slot: u32): u32 {
  return load<u32>(dq, DQ_FLAGS) & VQ_F_INDIRECT_DESC ? 0 : slot * SLOT_DESCRIPTORS;
}

/** Publishes the available index after `count` offers and notifies the device if it wants to be: NOTIFY_DUE or 0. */
export function driverPublish(dq: usize, count: u32): u32 {
  if (count == 0) return 0;
  const avail = (load<u32>(dq, DQ_AVAIL) + count) & 0xffff;
  store<u32>(dq, avail, DQ_AVAIL);
  // Entries before the index, the index before the suppression word. Pairs with the device's deviceArm.
  atomic.store<u16>(<usize>load<u32>(dq, DQ_DRIVER), <u16>avail, VIRTQ_AVAIL_IDX);
  const device: usize = load<u32>(dq, DQ_DEVICE);
  let wanted: bool;
  if (load<u32>(dq, DQ_FLAGS) & VQ_F_EVENT_IDX) {
    const event = <u32>atomic.load<u16>(device + VIRTQ_USED_RING + load<u32>(dq, DQ_SIZE) * VIRTQ_USED_ENTRY_SIZE);
    wanted = needEvent(event, avail, load<u32>(dq, DQ_SIGNALLED_AVAIL));
    store<u32>(dq, avail, DQ_SIGNALLED_AVAIL);
  } else {
    wanted = !(<u32>atomic.load<u16>(device, VIRTQ_USED_FLAGS) & VIRTQ_USED_F_NO_NOTIFY);
  }
  add(dq + (wanted ? VQ_KICKS : VQ_KICKS_SUPPRESSED), 1);
  if (!wanted) return 0;
  const doorbell = load<u32>(dq, DQ_DOORBELL);
  if (doorbell == 0) return NOTIFY_DUE;
  // A plain store: an atomic one would be a locked read-modify-write on device memory. The barrier was the index's.
  store<u16>(doorbell, <u16>load<u32>(dq, DQ_INDEX));
  return 0;
}

/** Asks the device for interrupts, then looks again: how many completions wait. 0: safe to sleep. */
export function driverArm(dq: usize): u32 {
  const driver: usize = load<u32>(dq, DQ_DRIVER);
  const last = load<u32>(dq, DQ_LAST_USED);
  // As in deviceArm: the wish is visible before used.idx is read. Pairs with devicePublish.
  if (load<u32>(dq, DQ_FLAGS) & VQ_F_EVENT_IDX) {
    atomic.store<u16>(driver + VIRTQ_AVAIL_RING + (load<u32>(dq, DQ_SIZE) << 1), <u16>last);
  } else {
    atomic.store<u16>(driver, 0, VIRTQ_AVAIL_FLAGS);
  }
  return completed(dq);
}

/** Asks the device for no interrupts. With EVENT_IDX a stale used_event does just that. */
export function driverDisarm(dq: usize): void {
  if (!(load<u32>(dq, DQ_FLAGS) & VQ_F_EVENT_IDX)) {
    atomic.store<u16>(<usize>load<u32>(dq, DQ_DRIVER), VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_AVAIL_FLAGS);
  }
}

/** Used entries that wait, by the ring as it is now. Breaks the queue when there are more than requests in flight. */
export function completed(dq: usize): u32 {
  if (load<u32>(dq, DQ_VERDICT)) return 0;
  const index = <u32>atomic.load<u16>(<usize>load<u32>(dq, DQ_DEVICE), VIRTQ_USED_IDX);
  const waiting = (index - load<u32>(dq, DQ_LAST_USED)) & 0xffff;
  if (waiting > load<u32>(dq, DQ_SLOTS) - load<u32>(dq, DQ_FREE)) {
    driverBreak(dq, VERDICT_USED_INDEX, index);
    return 0;
  }
  return waiting;
}

/** The slot that a used id names, if it is in flight; DQ_SLOTS and a verdict if not. */
export function usedSlot(dq: usize, id: u32): u32 {
  const indirect = load<u32>(dq, DQ_FLAGS) & VQ_F_INDIRECT_DESC;
  const slot = indirect ? id : id / SLOT_DESCRIPTORS;
  if ((indirect || id == slot * SLOT_DESCRIPTORS) && inFlight(dq, slot)) return slot;
  driverBreak(dq, VERDICT_USED_ID, id);
  return load<u32>(dq, DQ_SLOTS);
}

/** Whether there is such a slot, and a request holds it. */
// @ts-ignore: decorator
@inline
export function inFlight(dq: usize, slot: u32): bool {
  return slot < load<u32>(dq, DQ_SLOTS) && load<u32>(slotState(dq, slot), SLOT_STATE_BUSY) != 0;
}

/** Breaks the queue: the first verdict stays, nothing is reaped any more. */
export function driverBreak(dq: usize, verdict: u32, head: u32): void {
  if (load<u32>(dq, DQ_VERDICT)) return;
  store<u32>(dq, verdict, DQ_VERDICT);
  store<u32>(dq, head, DQ_VERDICT_HEAD);
  add(dq + VQ_HOSTILE_CHAINS, 1);
}
