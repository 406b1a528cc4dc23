// What a driver writes to its flight recorder: requests that were offered, and that the device has given back.

import { claim, commit, complete, record, sinkBroken } from './flight';
import {
  DQ_AVAIL,
  DQ_FLAGS,
  DQ_FLIGHT,
  DQ_LAST_USED,
  DQ_SIZE,
  DQ_SLOT_DESCRIPTORS,
  DQ_VERDICT,
  FLIGHT_F_HEADER,
  FLIGHT_HEADERS,
  FLIGHT_PUBLISHED,
  FLIGHT_REAPED,
  FLIGHT_RECORD_HEADER,
  FRAME_BYTES,
  FRAME_SIZE,
  FRAME_SLOT,
  SLOT_HEADER,
  SLOT_STATE_BYTES,
  SLOT_STATE_DESCRIPTORS,
  SLOT_STATE_WRITABLE,
  VQ_F_PACKED,
} from './layout';
import { advance, retreat } from './packed/position';
import { slotMemory, slotState } from './slots';

/** Records the requests of the slots of the `count` entries at `table`, which were offered and are about to be published. */
export function flightPublished(dq: usize, table: usize, count: u32): void {
  const flight: usize = load<u32>(dq, DQ_FLIGHT);
  const headers = load<u32>(flight, FLIGHT_HEADERS) != 0;
  let position = positionBefore(dq, load<u32>(dq, DQ_AVAIL), table, count);
  let number = claim(flight, count);
  for (const end = table + count * FRAME_SIZE; table < end; table += FRAME_SIZE, number++) {
    const slot = load<u32>(table, FRAME_SLOT);
    const state = slotState(dq, slot);
    const bytes = load<u32>(state, SLOT_STATE_BYTES);
    const writable = load<u32>(state, SLOT_STATE_WRITABLE);
    const at = record(flight, number, headOf(dq, slot), 0);
    let kind: u32 = FLIGHT_PUBLISHED;
    if (headers) {
      v128.store(at, v128.load(slotMemory(dq, slot), SLOT_HEADER), FLIGHT_RECORD_HEADER);
      kind |= FLIGHT_F_HEADER;
    }
    complete(at, kind, position, bytes < writable ? 0 : bytes, writable);
    position = positionBehind(dq, position, slot);
  }
  commit(flight, number);
}

/** Records the `count` entries {slot, written bytes} at `table`, which were just reaped. */
export function flightReaped(dq: usize, table: usize, count: u32): void {
  if (count == 0) return;
  const flight: usize = load<u32>(dq, DQ_FLIGHT);
  let position = positionBefore(dq, load<u32>(dq, DQ_LAST_USED), table, count);
  let number = claim(flight, count);
  for (const end = table + count * FRAME_SIZE; table < end; table += FRAME_SIZE, number++) {
    const slot = load<u32>(table, FRAME_SLOT);
    const at = record(flight, number, headOf(dq, slot), load<u32>(table, FRAME_BYTES));
    complete(at, FLIGHT_REAPED, position, 0, 0);
    position = positionBehind(dq, position, slot);
  }
  commit(flight, number);
  // Only this reap can have broken the queue: of a broken one nothing is reaped.
  if (load<u32>(dq, DQ_VERDICT)) sinkBroken(flight, count);
}

/** The head by which the device knows a slot: its first descriptor of a split ring, its buffer id of a packed one. */
// @ts-ignore: decorator
@inline
function headOf(dq: usize, slot: u32): u32 {
  return isPacked(dq) ? slot | (load<u32>(slotState(dq, slot), SLOT_STATE_DESCRIPTORS) << 16) : slot * load<u32>(dq, DQ_SLOT_DESCRIPTORS);
}

/** The place in the ring before the requests of the `count` slots at `table`, which end at `position`. */
// @ts-ignore: decorator
@inline
function positionBefore(dq: usize, position: u32, table: usize, count: u32): u32 {
  if (!isPacked(dq)) return (position - count) & 0xffff;
  let descriptors: u32 = 0;
  for (let i: u32 = 0; i < count; i++)
    descriptors += load<u32>(slotState(dq, load<u32>(table + i * FRAME_SIZE, FRAME_SLOT)), SLOT_STATE_DESCRIPTORS);
  return retreat(position, descriptors, load<u32>(dq, DQ_SIZE));
}

/** The place behind the request of a slot at `position`. */
// @ts-ignore: decorator
@inline
function positionBehind(dq: usize, position: u32, slot: u32): u32 {
  if (!isPacked(dq)) return (position + 1) & 0xffff;
  return advance(position, load<u32>(slotState(dq, slot), SLOT_STATE_DESCRIPTORS), load<u32>(dq, DQ_SIZE));
}

// @ts-ignore: decorator
@inline
function isPacked(dq: usize): bool {
  return (load<u32>(dq, DQ_FLAGS) & VQ_F_PACKED) != 0;
}
