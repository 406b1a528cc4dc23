// Driver of queues whose requests are one buffer each: frames of a network device, bytes of a console's port, entropy. With
// VIRTIO_F_VERSION_1 a device takes any framing ("Message Framing"), so that header, if the type of device has one, and payload lie
// behind each other in their slot and are one descriptor, whose index is the slot's: indirect tables would save nothing. A header
// says nothing but zeroes on the way out, and nothing that matters on the way in: no offload is negotiated, and a frame always
// fits its buffer.

import { driverOffer, driverPublish, driverReap } from '../driver';
import { flightPublished } from '../flight-slots';
import { mapPage, syncSingleForCpu, syncSingleForDevice, unmapPage } from '../iova-domain';
import {
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  DQ_DOMAIN,
  DQ_FLIGHT,
  DQ_FREE,
  DQ_HEADER_BYTES,
  DQ_IOVA_DELTA,
  DQ_LEAST_BYTES,
  DQ_SLOT_BYTES,
  DQ_SLOT_MEMORY,
  DQ_VERDICT,
  FRAME_BYTES,
  FRAME_SIZE,
  FRAME_SLOT,
  NOTIFY_DUE,
  SLOT_STATE_BOUNCE,
  SLOT_STATE_BUSY,
  SLOT_STATE_BYTES,
  SLOT_STATE_WRITABLE,
  VQ_BYTES_READ,
  VQ_BYTES_WRITTEN,
  VQ_IO_ERRORS,
  VQ_REQUESTS,
} from '../layout';
import { add } from '../notify';
import { buffer, slotState } from '../slots';
import { VIRTQ_DESC_F_WRITE } from '../virtio';

/** Puts the payloads of the `count` entries at `table` on the ring, each behind an empty header: NOTIFY_DUE or 0. */
export function bufferTransmit(dq: usize, table: usize, count: u32): u32 {
  if (load<u32>(dq, DQ_VERDICT)) return 0;
  const header = load<u32>(dq, DQ_HEADER_BYTES);
  for (let i: u32 = 0; i < count; i++) {
    const entry = table + i * FRAME_SIZE;
    const slot = load<u32>(entry, FRAME_SLOT);
    const bytes = load<u32>(entry, FRAME_BYTES);
    const memory = bufferMemory(dq, slot);
    // Each time: a hostile device can write wherever it can read.
    for (let at: u32 = 0; at < header; at += 4) store<u32>(memory + at, 0);
    hold(dq, slot, bytes, 0);
    offer(dq, slot, header + bytes, 0, DMA_TO_DEVICE);
  }
  return publish(dq, table, count);
}

/** Puts the slots of the `count` entries at `table` on the ring, with room for a header and as much as they say: NOTIFY_DUE or 0. */
export function bufferReceive(dq: usize, table: usize, count: u32): u32 {
  if (load<u32>(dq, DQ_VERDICT)) return 0;
  const header = load<u32>(dq, DQ_HEADER_BYTES);
  for (let i: u32 = 0; i < count; i++) {
    const entry = table + i * FRAME_SIZE;
    const slot = load<u32>(entry, FRAME_SLOT);
    const writable = header + load<u32>(entry, FRAME_BYTES);
    hold(dq, slot, 0, writable);
    offer(dq, slot, writable, VIRTQ_DESC_F_WRITE, DMA_FROM_DEVICE);
  }
  return publish(dq, table, count);
}

/** Collects up to `max` used slots to `table`, with the bytes of their payloads: how many. */
export function bufferReap(dq: usize, table: usize, max: u32): u32 {
  const count = driverReap(dq, table, max);
  const header = load<u32>(dq, DQ_HEADER_BYTES);
  const least = load<u32>(dq, DQ_LEAST_BYTES);
  for (const end = table + count * FRAME_SIZE; table < end; table += FRAME_SIZE) {
    const state = slotState(dq, load<u32>(table, FRAME_SLOT));
    const written = load<u32>(table, FRAME_BYTES);
    const writable = load<u32>(state, SLOT_STATE_WRITABLE);
    giveBack(dq, state, written, writable);
    let bytes = load<u32>(state, SLOT_STATE_BYTES);
    if (writable) {
      // What is too short for its headers holds whatever was in the slot before: no payload, as in the kernel's driver.
      bytes = written < header + least ? 0 : written - header;
      if (bytes == 0) add(dq + VQ_IO_ERRORS, 1);
      else add(dq + VQ_BYTES_READ, bytes);
    } else add(dq + VQ_BYTES_WRITTEN, bytes);
    store<u32>(table, bytes, FRAME_BYTES);
  }
  store<u32>(dq, load<u32>(dq, DQ_FREE) + count, DQ_FREE);
  add(dq + VQ_REQUESTS, count);
  return count;
}

/** Shared memory of a slot: header, then payload. */
// @ts-ignore: decorator
@inline
function bufferMemory(dq: usize, slot: u32): usize {
  return load<u32>(dq, DQ_SLOT_MEMORY) + slot * load<u32>(dq, DQ_SLOT_BYTES);
}

/** Notes down what a slot in flight holds, and what the device may write there. Bytes. */
// @ts-ignore: decorator
@inline
function hold(dq: usize, slot: u32, bytes: u32, writable: u32): void {
  const state = slotState(dq, slot);
  store<u32>(state, writable, SLOT_STATE_WRITABLE);
  store<u32>(state, bytes, SLOT_STATE_BYTES);
  store<u32>(state, 1, SLOT_STATE_BUSY);
}

/** Puts the first `bytes` bytes of a slot on the ring. */
// @ts-ignore: decorator
@inline
function offer(dq: usize, slot: u32, bytes: u32, flags: u32, direction: u32): void {
  const whole = buffer(<u64>lend(dq, slot, bytes, direction) + load<u64>(dq, DQ_IOVA_DELTA), bytes, flags);
  driverOffer(dq, slot, 1, whole, whole, whole);
}

/**
 * Linear address at which the device finds the first `bytes` bytes of a slot: in place, or in a bounce buffer. The IOVA
 * domain has room for every slot.
 */
// @ts-ignore: decorator
@inline
function lend(dq: usize, slot: u32, bytes: u32, direction: u32): u32 {
  const memory = <u32>bufferMemory(dq, slot);
  const domain: usize = load<u32>(dq, DQ_DOMAIN);
  if (domain == 0) return memory;
  const state = slotState(dq, slot);
  let bounce = load<u32>(state, SLOT_STATE_BOUNCE);
  if (bounce) syncSingleForDevice(domain, bounce, 0, bytes);
  else {
    // A receive slot keeps it for whatever it is offered for next.
    const most = direction == DMA_FROM_DEVICE ? load<u32>(dq, DQ_SLOT_BYTES) : bytes;
    bounce = mapPage(domain, memory, most, direction);
    store<u32>(state, bounce, SLOT_STATE_BOUNCE);
  }
  return bounce;
}

/**
 * Takes the bounce buffer of a slot back, if it has one. A receive slot keeps it for what is to come; of one that was
 * transmitted nothing stays where the device can see it.
 */
// @ts-ignore: decorator
@inline
function giveBack(dq: usize, state: usize, written: u32, writable: u32): void {
  const bounce = load<u32>(state, SLOT_STATE_BOUNCE);
  if (bounce == 0) return;
  const domain: usize = load<u32>(dq, DQ_DOMAIN);
  if (writable) syncSingleForCpu(domain, bounce, 0, written);
  else {
    unmapPage(domain, bounce);
    store<u32>(state, 0, SLOT_STATE_BOUNCE);
  }
}

/** Publishes the slots of the `count` entries at `table`, which were offered. */
// @ts-ignore: decorator
@inline
function publish(dq: usize, table: usize, count: u32): u32 {
  store<u32>(dq, load<u32>(dq, DQ_FREE) - count, DQ_FREE);
  if (load<u32>(dq, DQ_FLIGHT)) flightPublished(dq, table, count);
  return driverPublish(dq, count);
}
