// Split virtqueue, driver side ("Split Virtqueues"): what driver.ts does on a ring of this format. Every slot has fixed
// descriptors: some of the table, or an indirect table.

import {
  DQ_AVAIL,
  DQ_DESC,
  DQ_DEVICE,
  DQ_DRIVER,
  DQ_FLAGS,
  DQ_FREE,
  DQ_IOVA_DELTA,
  DQ_LAST_USED,
  DQ_SIGNALLED_AVAIL,
  DQ_SIZE,
  DQ_SLOT_DESCRIPTORS,
  DQ_SLOTS,
  FRAME_SIZE,
  SLOT_INDIRECT,
  VERDICT_USED_ID,
  VERDICT_USED_INDEX,
  VQ_F_EVENT_IDX,
  VQ_F_INDIRECT_DESC,
} from '../layout';
import { needEvent } from '../notify';
import { buffer, driverBreak, endSlot, slotMemory } from '../slots';
import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_AVAIL_FLAGS,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_SIZE,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_USED_FLAGS,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
} from '../virtio';

/** Empties the three areas. */
export function start(dq: usize): void {
  const size = load<u32>(dq, DQ_SIZE);
  memory.fill(load<u32>(dq, DQ_DESC), 0, size * VIRTQ_DESC_SIZE);
  memory.fill(load<u32>(dq, DQ_DRIVER), 0, VIRTQ_AVAIL_RING + size * 2 + 2);
  memory.fill(load<u32>(dq, DQ_DEVICE), 0, VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE + 2);
  store<u32>(dq, 0, DQ_AVAIL);
  store<u32>(dq, 0, DQ_LAST_USED);
  store<u32>(dq, 0, DQ_SIGNALLED_AVAIL);
}

/** Writes the descriptors of `slot`, and its entry of the available ring. */
// @ts-ignore: decorator
@inline
export function offer(dq: usize, slot: u32, count: u32, first: v128, second: v128, third: v128): void {
  const head = slot * load<u32>(dq, DQ_SLOT_DESCRIPTORS);
  let at: usize = load<u32>(dq, DQ_DESC) + head * VIRTQ_DESC_SIZE;
  let index = head;
  if (load<u32>(dq, DQ_FLAGS) & VQ_F_INDIRECT_DESC) {
    const table = slotMemory(dq, slot) + SLOT_INDIRECT;
    v128.store(at, buffer(<u64>table + load<u64>(dq, DQ_IOVA_DELTA), count * VIRTQ_DESC_SIZE, VIRTQ_DESC_F_INDIRECT));
    at = table;
    index = 0;
  }
  if (count == 1) v128.store(at, first);
  else {
    v128.store(at, linked(first, index + 1));
    if (count == 2) v128.store(at, second, VIRTQ_DESC_SIZE);
    else {
      v128.store(at, linked(second, index + 2), VIRTQ_DESC_SIZE);
      v128.store(at, third, 2 * VIRTQ_DESC_SIZE);
    }
  }
  const avail = load<u32>(dq, DQ_AVAIL);
  const ring: usize = load<u32>(dq, DQ_DRIVER) + VIRTQ_AVAIL_RING;
  store<u16>(ring + ((avail & (load<u32>(dq, DQ_SIZE) - 1)) << 1), <u16>head);
  store<u32>(dq, (avail + 1) & 0xffff, DQ_AVAIL);
}

/** The descriptor of a buffer, which one stands behind at index `next` of its table; without one it is the buffer itself. */
// @ts-ignore: decorator
@inline
function linked(last: v128, next: u32): v128 {
  const link = <u64>(VIRTQ_DESC_F_NEXT | (next << 16)) << 32;
  return v128.or(last, i64x2.replace_lane(i64x2.splat(0), 1, link));
}

/** Makes DQ_AVAIL visible to the device: whether it wants to be notified. */
export function publish(dq: usize): bool {
  const avail = load<u32>(dq, DQ_AVAIL);
  // Entries before the index, the index before the suppression word. Pairs with the device's `arm`.
  atomic.store<u16>(<usize>load<u32>(dq, DQ_DRIVER), <u16>avail, VIRTQ_AVAIL_IDX);
  const device: usize = load<u32>(dq, DQ_DEVICE);
  if (!(load<u32>(dq, DQ_FLAGS) & VQ_F_EVENT_IDX))
    return !(<u32>atomic.load<u16>(device, VIRTQ_USED_FLAGS) & VIRTQ_USED_F_NO_NOTIFY);
  const event = <u32>atomic.load<u16>(device + VIRTQ_USED_RING + load<u32>(dq, DQ_SIZE) * VIRTQ_USED_ENTRY_SIZE);
  const wanted = needEvent(event, avail, load<u32>(dq, DQ_SIGNALLED_AVAIL));
  store<u32>(dq, avail, DQ_SIGNALLED_AVAIL);
  return wanted;
}

/** Ends up to `max` requests, by the used ring as it is now. */
export function reap(dq: usize, table: usize, max: u32): u32 {
  const limit = min(completed(dq), max);
  const mask = load<u32>(dq, DQ_SIZE) - 1;
  const ring: usize = load<u32>(dq, DQ_DEVICE) + VIRTQ_USED_RING;
  const last = load<u32>(dq, DQ_LAST_USED);
  let count: u32 = 0;
  for (; count < limit; count++, table += FRAME_SIZE) {
    // Id and length in one read: the device may go on writing.
    const used = load<u64>(ring + ((last + count) & mask) * VIRTQ_USED_ENTRY_SIZE);
    const id = <u32>used;
    const written = <u32>(used >> 32);
    const slot = slotOf(dq, id);
    if (slot == NO_SLOT) {
      driverBreak(dq, VERDICT_USED_ID, id);
      break;
    }
    if (!endSlot(dq, slot, id, written)) break;
    store<u64>(table, <u64>slot | (<u64>written << 32));
  }
  store<u32>(dq, (last + count) & 0xffff, DQ_LAST_USED);
  return count;
}

/** What no slot's number is. */
const NO_SLOT: u32 = 0xffff_ffff;

/** The slot whose chain begins at descriptor `id`, or NO_SLOT. */
// @ts-ignore: decorator
@inline
function slotOf(dq: usize, id: u32): u32 {
  const descriptors = load<u32>(dq, DQ_SLOT_DESCRIPTORS);
  if (descriptors == 1) return id;
  const slot = id / descriptors;
  return slot * descriptors == id ? slot : NO_SLOT;
}

/** Used elements that wait, by the ring as it is now. Breaks the queue when there are more than requests in flight. */
export function completed(dq: usize): u32 {
  const index = <u32>atomic.load<u16>(<usize>load<u32>(dq, DQ_DEVICE), VIRTQ_USED_IDX);
  const waiting = (index - load<u32>(dq, DQ_LAST_USED)) & 0xffff;
  if (waiting > load<u32>(dq, DQ_SLOTS) - load<u32>(dq, DQ_FREE)) {
    driverBreak(dq, VERDICT_USED_INDEX, index);
    return 0;
  }
  return waiting;
}

/** Asks the device for an interrupt once it has used the next request. */
export function arm(dq: usize): void {
  const driver: usize = load<u32>(dq, DQ_DRIVER);
  // The wish, an atomic store, is visible before used.idx is read. Pairs with the device's `publish`.
  if (load<u32>(dq, DQ_FLAGS) & VQ_F_EVENT_IDX) {
    const last = load<u32>(dq, DQ_LAST_USED);
    atomic.store<u16>(driver + VIRTQ_AVAIL_RING + (load<u32>(dq, DQ_SIZE) << 1), <u16>last);
  } else {
    atomic.store<u16>(driver, 0, VIRTQ_AVAIL_FLAGS);
  }
}

/** Asks the device for no interrupts. With EVENT_IDX a stale used_event does just that. */
export function disarm(dq: usize): void {
  if (!(load<u32>(dq, DQ_FLAGS) & VQ_F_EVENT_IDX)) {
    atomic.store<u16>(<usize>load<u32>(dq, DQ_DRIVER), VIRTQ_AVAIL_F_NO_INTERRUPT, VIRTQ_AVAIL_FLAGS);
  }
}
