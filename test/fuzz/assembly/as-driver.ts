// Calls of a host that drives a device.

import {
  DOMAIN_BITMAP,
  DOMAIN_FREE_FROM,
  DOMAIN_PAGES,
  DQ_FREE,
  DQ_SLOT_BYTES,
  DQ_SLOTS,
  FRAME_BYTES,
  FRAME_SIZE,
  FRAME_SLOT,
  SLOT_STATE_BUSY,
  SUBMISSION_BYTES,
  SUBMISSION_LINEAR,
  SUBMISSION_SECTOR,
  SUBMISSION_SIZE,
  SUBMISSION_TYPE,
} from '../../../assembly/layout';
import { slotState } from '../../../assembly/slots';
import { VIRTIO_NET_HDR_SIZE } from '../../../assembly/virtio';
import {
  BUFFER_BYTES,
  CALL_blkReap,
  CALL_blkSubmit,
  CALL_driverArm,
  CALL_driverDisarm,
  CALL_driverReset,
  CALL_driverStart,
  CALL_bufferReap,
  CALL_bufferReceive,
  CALL_bufferTransmit,
  MODE_NET,
  MODE_RECEIVE,
  WORLD_BOUNCE,
  WORLD_BUFFERS,
  WORLD_DOMAIN,
  WORLD_DQ,
  WORLD_MODE,
  WORLD_SUBMISSIONS,
  WORLD_TABLE,
} from '../targets/exports-layout';
import { call, gave } from './calls';
import * as engine from './engine';
import { mix, step } from './random';

/** Requests of a submission, and completions of a reap, at most. */
const MOST: u32 = 4;

/** Starts the driver's side, with an IOVA domain that maps nothing. */
export function startDriver(world: usize): void {
  const dq: usize = load<u32>(world, WORLD_DQ);
  const domain: usize = load<u32>(world, WORLD_DOMAIN);
  call(world, CALL_driverReset);
  engine.driverReset(dq);
  gave(world, CALL_driverReset, true);
  memory.fill(load<u32>(domain, DOMAIN_BITMAP), 0, ((load<u32>(domain, DOMAIN_PAGES) + 63) & ~63) >> 3);
  store<u32>(domain, 0, DOMAIN_FREE_FROM);
  store<u32>(world, 0, WORLD_BOUNCE);
  call(world, CALL_driverStart);
  engine.driverStart(dq);
  gave(world, CALL_driverStart, true);
}

/** Submits, reaps, or asks for interrupts. */
export function asDriver(world: usize, random: u64, state: u64): bool {
  const dq: usize = load<u32>(world, WORLD_DQ);
  const net = (load<u32>(world, WORLD_MODE) & MODE_NET) != 0;
  switch (<u32>random & 7) {
    case 0: {
      call(world, CALL_driverArm);
      const waiting = engine.driverArm(dq);
      gave(world, CALL_driverArm, waiting != 0);
      return waiting <= load<u32>(dq, DQ_SLOTS);
    }
    case 1:
      call(world, CALL_driverDisarm);
      engine.driverDisarm(dq);
      gave(world, CALL_driverDisarm, true);
      return true;
    case 2:
    case 3:
    case 4:
      return net ? reapFrames(world, dq, 1 + <u32>(random >> 4) % MOST) : reap(world, dq, random >> 4);
    default:
      return net ? frames(world, dq, state) : submit(world, dq, state);
  }
}

function submit(world: usize, dq: usize, state: u64): bool {
  const table: usize = load<u32>(world, WORLD_SUBMISSIONS);
  const count: u32 = 1 + <u32>mix(state) % MOST;
  for (let i: u32 = 0; i < count; i++) {
    state = step(state);
    const random = mix(state);
    const at = table + i * SUBMISSION_SIZE;
    // READ, WRITE, FLUSH, GET_ID, DISCARD, WRITE_ZEROES.
    const kind = <u32>random & 15;
    const type: u32 = kind < 6 ? 0 : kind < 11 ? 1 : kind == 11 ? 4 : kind == 12 ? 8 : kind == 13 ? 11 : 13;
    const bytes = kind == 12 ? 20 : 512 * (1 + (<u32>(random >> 4) & 3));
    store<u32>(at, type, SUBMISSION_TYPE);
    store<u64>(at, random >> 32 & 255, SUBMISSION_SECTOR);
    const offset = <u32>(random >> 8) & (BUFFER_BYTES - 1) & ~0x7ff;
    store<u32>(at, load<u32>(world, WORLD_BUFFERS) + offset, SUBMISSION_LINEAR);
    store<u32>(at, kind > 12 ? 1 + (bytes & 7) : bytes, SUBMISSION_BYTES);
  }
  const free = load<u32>(dq, DQ_FREE);
  call(world, CALL_blkSubmit);
  const result = engine.blkSubmit(dq, table, count);
  gave(world, CALL_blkSubmit, result != 0);
  return (result & 0xffff) <= min(free, count) && sound(dq);
}

function reap(world: usize, dq: usize, random: u64): bool {
  const max: u32 = 1 + <u32>random % MOST;
  call(world, CALL_blkReap);
  const count = engine.blkReap(dq, load<u32>(world, WORLD_TABLE), max, <u32>(random >> 8) & 1, <u32>(random >> 9) & 3);
  gave(world, CALL_blkReap, count != 0);
  return count <= max && sound(dq);
}

/** Puts free slots on the ring: for frames to come, or with frames. */
function frames(world: usize, dq: usize, state: u64): bool {
  const table: usize = load<u32>(world, WORLD_TABLE);
  const random = mix(state);
  const slots = load<u32>(dq, DQ_SLOTS);
  const longest = load<u32>(dq, DQ_SLOT_BYTES) - VIRTIO_NET_HDR_SIZE;
  const wanted: u32 = 1 + <u32>random % MOST;
  let slot = <u32>(random >> 8) % slots;
  let count: u32 = 0;
  for (let left = slots; left && count < wanted; left--) {
    if (load<u32>(slotState(dq, slot), SLOT_STATE_BUSY) == 0) {
      store<u32>(table + count * FRAME_SIZE, slot, FRAME_SLOT);
      store<u32>(table + count * FRAME_SIZE, 1 + <u32>(random >> 16) % longest, FRAME_BYTES);
      count++;
    }
    if (++slot == slots) slot = 0;
  }
  if (load<u32>(world, WORLD_MODE) & MODE_RECEIVE) {
    call(world, CALL_bufferReceive);
    gave(world, CALL_bufferReceive, engine.bufferReceive(dq, table, count) != 0);
  } else {
    call(world, CALL_bufferTransmit);
    gave(world, CALL_bufferTransmit, engine.bufferTransmit(dq, table, count) != 0);
  }
  return sound(dq);
}

/** Reaps frames: none is longer than its slot. */
function reapFrames(world: usize, dq: usize, max: u32): bool {
  const table: usize = load<u32>(world, WORLD_TABLE);
  call(world, CALL_bufferReap);
  const count = engine.bufferReap(dq, table, max);
  gave(world, CALL_bufferReap, count != 0);
  if (count > max) return false;
  for (let i: u32 = 0; i < count; i++) {
    const at = table + i * FRAME_SIZE;
    if (load<u32>(at, FRAME_SLOT) >= load<u32>(dq, DQ_SLOTS)) return false;
    if (load<u32>(at, FRAME_BYTES) > load<u32>(dq, DQ_SLOT_BYTES) - VIRTIO_NET_HDR_SIZE) return false;
  }
  return sound(dq);
}

/** Whether no more slots are free than there are. */
function sound(dq: usize): bool {
  return load<u32>(dq, DQ_FREE) <= load<u32>(dq, DQ_SLOTS);
}
