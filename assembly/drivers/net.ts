// Network driver: frames to chains, used entries to frames. With VIRTIO_F_VERSION_1 a device takes any framing ("Message
// Framing"), so that header and frame lie behind each other in their slot and are one descriptor, whose index is the slot's:
// indirect tables would save nothing. No offload is negotiated: a header says nothing but zeroes on the way out, and
// nothing that matters on the way in, where a frame always fits its buffer.

import { driverOffer, driverPublish, driverReap } from '../driver';
import { flightPublished } from '../flight-slots';
import { mapPage, syncSingleForCpu, syncSingleForDevice, unmapPage } from '../iova-domain';
import {
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  DQ_DOMAIN,
  DQ_FLIGHT,
  DQ_FREE,
  DQ_IOVA_DELTA,
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
import { ETH_HLEN, VIRTIO_NET_HDR_SIZE, VIRTQ_DESC_F_WRITE } from '../virtio';

/** Puts the `count` frames at `table` on the ring: NOTIFY_DUE or 0. */
export function netTransmit(dq: usize, table: usize, count: u32): u32 {
  if (load<u32>(dq, DQ_VERDICT)) return 0;
  for (let i: u32 = 0; i < count; i++) {
    const frame = table + i * FRAME_SIZE;
    const slot = load<u32>(frame, FRAME_SLOT);
    const bytes = load<u32>(frame, FRAME_BYTES);
    const memory = frameMemory(dq, slot);
    // Each time: a hostile device can write wherever it can read.
    store<u64>(memory, 0);
    store<u32>(memory, 0, 8);
    hold(dq, slot, bytes, 0);
    offer(dq, slot, VIRTIO_NET_HDR_SIZE + bytes, 0, DMA_TO_DEVICE);
  }
  return publish(dq, table, count);
}

/** Puts the slots of the `count` entries at `table` on the ring, for frames to come: NOTIFY_DUE or 0. */
export function netReceive(dq: usize, table: usize, count: u32): u32 {
  if (load<u32>(dq, DQ_VERDICT)) return 0;
  const writable = load<u32>(dq, DQ_SLOT_BYTES);
  for (let i: u32 = 0; i < count; i++) {
    const slot = load<u32>(table + i * FRAME_SIZE, FRAME_SLOT);
    hold(dq, slot, 0, writable);
    offer(dq, slot, writable, VIRTQ_DESC_F_WRITE, DMA_FROM_DEVICE);
  }
  return publish(dq, table, count);
}

/** Collects up to `max` used slots to `table`: how many. */
export function netReap(dq: usize, table: usize, max: u32): u32 {
  const count = driverReap(dq, table, max);
  for (const end = table + count * FRAME_SIZE; table < end; table += FRAME_SIZE) {
    const state = slotState(dq, load<u32>(table, FRAME_SLOT));
    const written = load<u32>(table, FRAME_BYTES);
    const writable = load<u32>(state, SLOT_STATE_WRITABLE);
    giveBack(dq, state, written, writable);
    let bytes = load<u32>(state, SLOT_STATE_BYTES);
    if (writable) {
      // What is too short for its headers holds whatever was in the slot before: no frame, as in the kernel's driver.
      bytes = written < <u32>(VIRTIO_NET_HDR_SIZE + ETH_HLEN) ? 0 : written - VIRTIO_NET_HDR_SIZE;
      if (bytes == 0) add(dq + VQ_IO_ERRORS, 1);
      else add(dq + VQ_BYTES_READ, bytes);
    } else add(dq + VQ_BYTES_WRITTEN, bytes);
    store<u32>(table, bytes, FRAME_BYTES);
  }
  store<u32>(dq, load<u32>(dq, DQ_FREE) + count, DQ_FREE);
  add(dq + VQ_REQUESTS, count);
  return count;
}

/** Shared memory of a slot: header, then frame. */
// @ts-ignore: decorator
@inline
function frameMemory(dq: usize, slot: u32): usize {
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
  const frame = buffer(<u64>lend(dq, slot, bytes, direction) + load<u64>(dq, DQ_IOVA_DELTA), bytes, flags);
  driverOffer(dq, slot, 1, frame, frame, frame);
}

/**
 * Linear address at which the device finds the first `bytes` bytes of a slot: in place, or in a bounce buffer. The IOVA
 * domain of a network device has room for every slot.
 */
// @ts-ignore: decorator
@inline
function lend(dq: usize, slot: u32, bytes: u32, direction: u32): u32 {
  const memory = <u32>frameMemory(dq, slot);
  const domain: usize = load<u32>(dq, DQ_DOMAIN);
  if (domain == 0) return memory;
  const state = slotState(dq, slot);
  let bounce = load<u32>(state, SLOT_STATE_BOUNCE);
  if (bounce) syncSingleForDevice(domain, bounce, 0, bytes);
  else {
    bounce = mapPage(domain, memory, bytes, direction);
    store<u32>(state, bounce, SLOT_STATE_BOUNCE);
  }
  return bounce;
}

/**
 * Takes the bounce buffer of a slot back, if it has one. A receive slot keeps it for the frames to come; of one that was
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
