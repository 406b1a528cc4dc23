// Block driver: submissions to chains, used entries to completions. A request is three descriptors (header, data, status),
// or two where there is no data.

import { driverOffer, driverPublish, driverReap } from '../driver';
import { flightPublished } from '../flight-slots';
import { mapPage, syncSingleForCpu, unmapPage } from '../iova-domain';
import {
  COMPLETION_BYTES,
  COMPLETION_SIZE,
  COMPLETION_STATUS,
  COMPLETION_TAG,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  DQ_DOMAIN,
  DQ_FLIGHT,
  DQ_FREE,
  DQ_FREE_STACK,
  DQ_IOVA_DELTA,
  DQ_REAPED,
  DQ_VERDICT,
  FRAME_BYTES,
  FRAME_SIZE,
  FRAME_SLOT,
  NOTIFY_DUE,
  SLOT_HEADER,
  SLOT_RANGE,
  SLOT_STATE_BOUNCE,
  SLOT_STATE_BUSY,
  SLOT_STATE_BYTES,
  SLOT_STATE_TAG,
  SLOT_STATE_TYPE,
  SLOT_STATE_WRITABLE,
  SLOT_STATUS,
  SUBMISSION_BYTES,
  SUBMISSION_LINEAR,
  SUBMISSION_RANGE_FLAGS,
  SUBMISSION_SECTOR,
  SUBMISSION_SIZE,
  SUBMISSION_TAG,
  SUBMISSION_TYPE,
  VQ_BYTES_READ,
  VQ_BYTES_WRITTEN,
  VQ_IO_ERRORS,
  VQ_REQUESTS,
} from '../layout';
import { add } from '../notify';
import { buffer, freeSlot, slotMemory, slotState, takeSlot } from '../slots';
import {
  VIRTIO_BLK_HEADER_SECTOR,
  VIRTIO_BLK_HEADER_SIZE,
  VIRTIO_BLK_HEADER_TYPE,
  VIRTIO_BLK_RANGE_FLAGS,
  VIRTIO_BLK_RANGE_NUM_SECTORS,
  VIRTIO_BLK_RANGE_SECTOR,
  VIRTIO_BLK_RANGE_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTQ_DESC_F_WRITE,
} from '../virtio';

/** What a status byte holds until the device writes it. */
const STATUS_UNWRITTEN: u8 = 0xff;

/** Whether the device writes the data of a request. */
// @ts-ignore: decorator
@inline
function reads(type: u32): bool {
  return type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
}

/** Whether the data of a request lies in a buffer, and not in its slot. */
// @ts-ignore: decorator
@inline
function hasBuffer(type: u32): bool {
  return type == VIRTIO_BLK_T_OUT || reads(type);
}

/**
 * Puts up to `count` submissions of the table at `table` on the ring: how many, with NOTIFY_DUE. It stops where the IOVA
 * domain, if there is one, has no room for the data of the next.
 */
export function blkSubmit(dq: usize, table: usize, count: u32): u32 {
  if (load<u32>(dq, DQ_VERDICT)) return 0;
  const limit = min(count, load<u32>(dq, DQ_FREE));
  const delta = load<u64>(dq, DQ_IOVA_DELTA);
  const domain: usize = load<u32>(dq, DQ_DOMAIN);
  let taken: u32 = 0;
  for (; taken < limit; taken++, table += SUBMISSION_SIZE) {
    const type = load<u32>(table, SUBMISSION_TYPE);
    const bytes = load<u32>(table, SUBMISSION_BYTES);
    let linear = load<u32>(table, SUBMISSION_LINEAR);
    let bounce: u32 = 0;
    if (domain && hasBuffer(type)) {
      bounce = mapPage(domain, linear, bytes, reads(type) ? DMA_FROM_DEVICE : DMA_TO_DEVICE);
      if (bounce == 0) break;
      linear = bounce;
    }
    const slot = takeSlot(dq);
    const shared = slotMemory(dq, slot);
    const state = slotState(dq, slot);
    let sector = load<u64>(table, SUBMISSION_SECTOR);
    let data = <u64>linear + delta;
    let dataBytes = bytes;
    const dataFlags: u32 = reads(type) ? VIRTQ_DESC_F_WRITE : 0;
    if (type == VIRTIO_BLK_T_DISCARD || type == VIRTIO_BLK_T_WRITE_ZEROES) {
      // The range is the data; the header's sector is unused.
      store<u64>(shared + SLOT_RANGE, sector, VIRTIO_BLK_RANGE_SECTOR);
      store<u32>(shared + SLOT_RANGE, bytes, VIRTIO_BLK_RANGE_NUM_SECTORS);
      store<u32>(shared + SLOT_RANGE, load<u32>(table, SUBMISSION_RANGE_FLAGS), VIRTIO_BLK_RANGE_FLAGS);
      sector = 0;
      data = <u64>(shared + SLOT_RANGE) + delta;
      dataBytes = VIRTIO_BLK_RANGE_SIZE;
    } else if (type == VIRTIO_BLK_T_FLUSH) dataBytes = 0;
    store<u64>(shared + SLOT_HEADER, <u64>type, VIRTIO_BLK_HEADER_TYPE);
    store<u64>(shared + SLOT_HEADER, sector, VIRTIO_BLK_HEADER_SECTOR);
    store<u8>(shared, STATUS_UNWRITTEN, SLOT_STATUS);
    store<u32>(state, load<u32>(table, SUBMISSION_TAG), SLOT_STATE_TAG);
    store<u32>(state, dataFlags ? dataBytes + 1 : 1, SLOT_STATE_WRITABLE);
    store<u32>(state, 1, SLOT_STATE_BUSY);
    store<u32>(state, type, SLOT_STATE_TYPE);
    store<u32>(state, dataBytes, SLOT_STATE_BYTES);
    if (domain) store<u32>(state, bounce, SLOT_STATE_BOUNCE);

    const header = buffer(<u64>(shared + SLOT_HEADER) + delta, VIRTIO_BLK_HEADER_SIZE, 0);
    const statusByte = buffer(<u64>(shared + SLOT_STATUS) + delta, 1, VIRTQ_DESC_F_WRITE);
    if (dataBytes) driverOffer(dq, slot, 3, header, buffer(data, dataBytes, dataFlags), statusByte);
    else driverOffer(dq, slot, 2, header, statusByte, statusByte);
  }
  if (load<u32>(dq, DQ_FLIGHT)) record(dq, taken);
  return taken | driverPublish(dq, taken);
}

/** Records the last `count` requests that were offered: their slots stand, the first on top, where free ones stood. */
function record(dq: usize, count: u32): void {
  const top: usize = load<u32>(dq, DQ_FREE_STACK) + ((load<u32>(dq, DQ_FREE) + count) << 1);
  // Nothing is being reaped.
  const table: usize = load<u32>(dq, DQ_REAPED);
  for (let i: u32 = 0; i < count; i++) store<u32>(table + i * FRAME_SIZE, load<u16>(top - ((i + 1) << 1)), FRAME_SLOT);
  flightPublished(dq, table, count);
}

/** Collects up to `max` completions to `table`; while there are fewer than `min`, looks again up to `spins` times. */
export function blkReap(dq: usize, table: usize, max: u32, min: u32, spins: u32): u32 {
  let count: u32 = 0;
  while (true) {
    count += reap(dq, table + count * COMPLETION_SIZE, max - count);
    if (count >= min || spins == 0 || load<u32>(dq, DQ_VERDICT)) return count;
    spins--;
  }
}

/** Collects what is there now, up to `max`. */
function reap(dq: usize, table: usize, max: u32): u32 {
  let used: usize = load<u32>(dq, DQ_REAPED);
  const count = driverReap(dq, used, max);
  const domain: usize = load<u32>(dq, DQ_DOMAIN);
  for (const end = used + count * FRAME_SIZE; used < end; used += FRAME_SIZE, table += COMPLETION_SIZE) {
    const slot = load<u32>(used, FRAME_SLOT);
    const bytes = load<u32>(used, FRAME_BYTES);
    const state = slotState(dq, slot);
    const type = load<u32>(state, SLOT_STATE_TYPE);
    let status = <u32>load<u8>(slotMemory(dq, slot), SLOT_STATUS);
    // What the device did not write holds whatever was there before: no success, whatever the device says.
    if (status == VIRTIO_BLK_S_OK && reads(type) && bytes < load<u32>(state, SLOT_STATE_WRITABLE)) status = VIRTIO_BLK_S_IOERR;
    store<u32>(table, load<u32>(state, SLOT_STATE_TAG), COMPLETION_TAG);
    store<u32>(table, status, COMPLETION_STATUS);
    store<u32>(table, bytes, COMPLETION_BYTES);
    if (domain) takeBack(domain, state, bytes);
    freeSlot(dq, slot);
    if (status != VIRTIO_BLK_S_OK) add(dq + VQ_IO_ERRORS, 1);
    else if (type == VIRTIO_BLK_T_IN) add(dq + VQ_BYTES_READ, load<u32>(state, SLOT_STATE_BYTES));
    else if (type == VIRTIO_BLK_T_OUT) add(dq + VQ_BYTES_WRITTEN, load<u32>(state, SLOT_STATE_BYTES));
  }
  add(dq + VQ_REQUESTS, count);
  return count;
}

/** Ends the mapping of a request's data, if it has any, of which the device says that it wrote `bytes` bytes with the status. */
function takeBack(domain: usize, state: usize, bytes: u32): void {
  const bounce = load<u32>(state, SLOT_STATE_BOUNCE);
  if (bounce == 0) return;
  // No more than what the device says it wrote: behind that lies what was there before.
  syncSingleForCpu(domain, bounce, 0, min(bytes, load<u32>(state, SLOT_STATE_BYTES)));
  unmapPage(domain, bounce);
  store<u32>(state, 0, SLOT_STATE_BOUNCE);
}
