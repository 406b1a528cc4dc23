// Packed virtqueue, driver side ("Packed Virtqueues"): what driver.ts does on a ring of this format. A chain takes the next
// descriptors of the ring, one if it lies in an indirect table; its buffer id is its slot.
//
// Of what is published together the first chain's first flags are written last: the device reads heads in order, and sees all
// or none. Until then they are held in the queue's block.

import {
  DQ_AVAIL,
  DQ_BATCH_END,
  DQ_BATCH_WRITTEN,
  DQ_DESC,
  DQ_DEVICE,
  DQ_DRIVER,
  DQ_FLAGS,
  DQ_FREE,
  DQ_HELD,
  DQ_HELD_AT,
  DQ_IOVA_DELTA,
  DQ_LAST_USED,
  DQ_ORDER,
  DQ_ORDER_FIRST,
  DQ_ORDER_NEXT,
  DQ_SIGNALLED_AVAIL,
  DQ_SIZE,
  DQ_SLOTS,
  FRAME_SIZE,
  SLOT_INDIRECT,
  SLOT_STATE_DESCRIPTORS,
  SLOT_STATE_WRITABLE,
  VERDICT_USED_ID,
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_F_INDIRECT_DESC,
} from '../layout';
import { buffer, driverBreak, endSlot, inFlight, slotMemory, slotState } from '../slots';
import {
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  PVIRTQ_EVENT_SUPPRESS_SIZE,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_SIZE,
} from '../virtio';
import { advance, availableOwner, FIRST_POSITION, indexOf, OWNER_MASK, passes, usedOwner } from './position';

/** Empties the ring and both event suppression structures. */
export function start(dq: usize): void {
  memory.fill(load<u32>(dq, DQ_DESC), 0, load<u32>(dq, DQ_SIZE) * VIRTQ_DESC_SIZE);
  memory.fill(load<u32>(dq, DQ_DRIVER), 0, PVIRTQ_EVENT_SUPPRESS_SIZE);
  memory.fill(load<u32>(dq, DQ_DEVICE), 0, PVIRTQ_EVENT_SUPPRESS_SIZE);
  store<u32>(dq, FIRST_POSITION, DQ_AVAIL);
  store<u32>(dq, FIRST_POSITION, DQ_LAST_USED);
  store<u32>(dq, FIRST_POSITION, DQ_SIGNALLED_AVAIL);
  store<u32>(dq, 0, DQ_HELD_AT);
  store<u32>(dq, 0, DQ_ORDER_FIRST);
  store<u32>(dq, 0, DQ_ORDER_NEXT);
  store<u32>(dq, 0, DQ_BATCH_END);
}

/** Writes the descriptors of `slot`. */
// @ts-ignore: decorator
@inline
export function offer(dq: usize, slot: u32, count: u32, first: v128, second: v128, third: v128): void {
  let descriptors: u32 = 1;
  if (load<u32>(dq, DQ_FLAGS) & VQ_F_INDIRECT_DESC) {
    const table = slotMemory(dq, slot) + SLOT_INDIRECT;
    v128.store(table, descriptor(first, 0));
    if (count > 1) v128.store(table, descriptor(second, 0), VIRTQ_DESC_SIZE);
    if (count > 2) v128.store(table, descriptor(third, 0), 2 * VIRTQ_DESC_SIZE);
    const iova = <u64>table + load<u64>(dq, DQ_IOVA_DELTA);
    append(dq, buffer(iova, count * VIRTQ_DESC_SIZE, VIRTQ_DESC_F_INDIRECT), slot);
  } else {
    descriptors = count;
    append(dq, first, count > 1 ? slot | NEXT : slot);
    if (count > 1) append(dq, second, count > 2 ? slot | NEXT : slot);
    if (count > 2) append(dq, third, slot);
  }
  store<u32>(slotState(dq, slot), descriptors, SLOT_STATE_DESCRIPTORS);
  if (load<u32>(dq, DQ_FLAGS) & VQ_F_IN_ORDER) {
    const next = load<u32>(dq, DQ_ORDER_NEXT);
    store<u16>(<usize>load<u32>(dq, DQ_ORDER) + (next << 1), <u16>slot);
    store<u32>(dq, following(dq, next), DQ_ORDER_NEXT);
  }
}

/** VIRTQ_DESC_F_NEXT in the word of a descriptor's buffer id and flags. */
const NEXT: u32 = VIRTQ_DESC_F_NEXT << 16;

/** The descriptor of a buffer; `word` is its buffer id, with the flags that it has besides the buffer's in the high half. */
// @ts-ignore: decorator
@inline
function descriptor(from: v128, word: u32): v128 {
  const bytesAndFlags = i64x2.extract_lane(from, 1);
  return i64x2.replace_lane(from, 1, (bytesAndFlags & 0xffff_ffff) | ((bytesAndFlags >> 32) << 48) | (<u64>word << 32));
}

/** Writes the descriptor at DQ_AVAIL and moves on; holds the id and the flags of the first that is to be published. */
// @ts-ignore: decorator
@inline
function append(dq: usize, from: v128, word: u32): void {
  const position = load<u32>(dq, DQ_AVAIL);
  const index = indexOf(position);
  const at: usize = load<u32>(dq, DQ_DESC) + index * VIRTQ_DESC_SIZE;
  const whole = descriptor(from, word | availableOwner(position));
  if (load<u32>(dq, DQ_HELD_AT)) v128.store(at, whole);
  else {
    const lengthAndWord = i64x2.extract_lane(whole, 1);
    store<u64>(at, i64x2.extract_lane(whole, 0));
    store<u32>(at, <u32>lengthAndWord, PVIRTQ_DESC_LEN);
    store<u32>(dq, <u32>(lengthAndWord >> 32), DQ_HELD);
    store<u32>(dq, index + 1, DQ_HELD_AT);
  }
  store<u32>(dq, advance(position, 1, load<u32>(dq, DQ_SIZE)), DQ_AVAIL);
}

/** Makes visible what was offered: whether the device wants to be notified. */
export function publish(dq: usize): bool {
  const first = load<u32>(dq, DQ_DESC) + (load<u32>(dq, DQ_HELD_AT) - 1) * VIRTQ_DESC_SIZE;
  // All else before these flags, these flags before the suppression word. Pairs with the device's `arm`.
  atomic.store<u32>(first, load<u32>(dq, DQ_HELD), PVIRTQ_DESC_ID);
  store<u32>(dq, 0, DQ_HELD_AT);
  const avail = load<u32>(dq, DQ_AVAIL);
  const before = load<u32>(dq, DQ_SIGNALLED_AVAIL);
  store<u32>(dq, avail, DQ_SIGNALLED_AVAIL);
  const suppression = atomic.load<u32>(<usize>load<u32>(dq, DQ_DEVICE));
  const kind = suppression >> 16;
  if (kind == RING_EVENT_FLAGS_DESC && load<u32>(dq, DQ_FLAGS) & VQ_F_EVENT_IDX)
    return passes(suppression & 0xffff, before, avail, load<u32>(dq, DQ_SIZE));
  return kind != RING_EVENT_FLAGS_DISABLE;
}

/** Ends up to `max` requests, by the ring as it is now. */
export function reap(dq: usize, table: usize, max: u32): u32 {
  if (load<u32>(dq, DQ_FLAGS) & VQ_F_IN_ORDER) return reapBatches(dq, table, max);
  const limit = min(load<u32>(dq, DQ_SLOTS) - load<u32>(dq, DQ_FREE), max);
  let count: u32 = 0;
  for (; count < limit; count++, table += FRAME_SIZE) {
    const used = usedDescriptor(dq);
    if (used == NONE) break;
    const slot = <u32>(used >> 32);
    const written = <u32>used;
    if (!endSlot(dq, slot, slot, written)) break;
    store<u64>(table, <u64>slot | (<u64>written << 32));
    passSlot(dq, slot);
  }
  return count;
}

/** The same with VIRTIO_F_IN_ORDER: a used descriptor ends all requests up to its own, those before it written completely. */
function reapBatches(dq: usize, table: usize, max: u32): u32 {
  const limit = min(load<u32>(dq, DQ_SLOTS) - load<u32>(dq, DQ_FREE), max);
  const order: usize = load<u32>(dq, DQ_ORDER);
  let count: u32 = 0;
  while (count < limit) {
    // A batch of which a part did not fit the last table goes on.
    if (load<u32>(dq, DQ_BATCH_END) == 0) {
      const used = usedDescriptor(dq);
      if (used == NONE) break;
      const id = <u32>(used >> 32);
      if (!inFlight(dq, id)) {
        driverBreak(dq, VERDICT_USED_ID, id);
        break;
      }
      store<u32>(dq, id + 1, DQ_BATCH_END);
      store<u32>(dq, <u32>used, DQ_BATCH_WRITTEN);
    }
    const first = load<u32>(dq, DQ_ORDER_FIRST);
    const slot = <u32>load<u16>(order + (first << 1));
    const isLast = slot + 1 == load<u32>(dq, DQ_BATCH_END);
    const written = isLast ? load<u32>(dq, DQ_BATCH_WRITTEN) : load<u32>(slotState(dq, slot), SLOT_STATE_WRITABLE);
    if (!endSlot(dq, slot, slot, written)) break;
    store<u64>(table, <u64>slot | (<u64>written << 32));
    passSlot(dq, slot);
    store<u32>(dq, following(dq, first), DQ_ORDER_FIRST);
    if (isLast) store<u32>(dq, 0, DQ_BATCH_END);
    count++;
    table += FRAME_SIZE;
  }
  return count;
}

/** What usedDescriptor answers where there is none: no used descriptor has such an id. */
const NONE: u64 = u64.MAX_VALUE;

/**
 * Length | buffer id << 32 of the descriptor at DQ_LAST_USED if it is used, else NONE. The length counts without WRITE, too:
 * devices of QEMU and of Linux leave that flag out of every used descriptor.
 */
// @ts-ignore: decorator
@inline
function usedDescriptor(dq: usize): u64 {
  const position = load<u32>(dq, DQ_LAST_USED);
  // In one read, an atomic one: what the device wrote before these flags is read after them, and it may go on writing.
  const word = atomic.load<u64>(<usize>load<u32>(dq, DQ_DESC) + indexOf(position) * VIRTQ_DESC_SIZE, PVIRTQ_DESC_LEN);
  return ((<u32>(word >> 32) ^ usedOwner(position)) & OWNER_MASK) == 0 ? word & 0xffff_ffff_ffff : NONE;
}

/** Moves DQ_LAST_USED behind the descriptors of a slot. */
// @ts-ignore: decorator
@inline
function passSlot(dq: usize, slot: u32): void {
  const descriptors = load<u32>(slotState(dq, slot), SLOT_STATE_DESCRIPTORS);
  store<u32>(dq, advance(load<u32>(dq, DQ_LAST_USED), descriptors, load<u32>(dq, DQ_SIZE)), DQ_LAST_USED);
}

/** The place behind place `index` of the ring of DQ_SLOTS slots in order. */
// @ts-ignore: decorator
@inline
function following(dq: usize, index: u32): u32 {
  return index + 1 == load<u32>(dq, DQ_SLOTS) ? 0 : index + 1;
}

/** Whether a used descriptor waits, or the rest of a batch: 1 or 0. */
export function completed(dq: usize): u32 {
  if (load<u32>(dq, DQ_FREE) == load<u32>(dq, DQ_SLOTS)) return 0;
  return load<u32>(dq, DQ_BATCH_END) != 0 || usedDescriptor(dq) != NONE ? 1 : 0;
}

/** Asks the device for an interrupt once it has used the next request. */
export function arm(dq: usize): void {
  // The wish, an atomic store, is visible before the descriptor is read. Pairs with the device's `publish`.
  const suppression: u32 =
    load<u32>(dq, DQ_FLAGS) & VQ_F_EVENT_IDX
      ? load<u32>(dq, DQ_LAST_USED) | (RING_EVENT_FLAGS_DESC << 16)
      : RING_EVENT_FLAGS_ENABLE << 16;
  atomic.store<u32>(<usize>load<u32>(dq, DQ_DRIVER), suppression);
}

/** Asks the device for no interrupts. With EVENT_IDX too: a place left behind would be passed again two laps later. */
export function disarm(dq: usize): void {
  atomic.store<u32>(<usize>load<u32>(dq, DQ_DRIVER), RING_EVENT_FLAGS_DISABLE << 16);
}
