// Calls of a host that serves a queue.

import {
  CHAIN_COUNTS,
  CHAIN_SIZE,
  COUNT_MASK,
  GIVE_REQUEST,
  GIVE_SIZE,
  GIVE_STATUS,
  GIVE_WRITTEN,
  IO_BYTES,
  IO_RESULT,
  IO_SIZE,
  LOG_BYTES_PER_ENTRY,
  LOG_ENTRIES,
  REQUEST_WRITABLE_BYTES,
  SEGMENT_BYTES,
  SEGMENT_SIZE,
  TAKE_SIZE,
  VQ_CHAINS,
  VQ_DRIVER,
  VQ_IN_FLIGHT,
  VQ_LAST_AVAIL,
  VQ_LOG,
  VQ_SEGMENTS,
  VQ_SIZE,
  VQ_VERDICT,
} from '../../../assembly/layout';
import { VIRTQ_AVAIL_IDX } from '../../../assembly/virtio';
import {
  CALL_blkComplete,
  CALL_blkPoll,
  CALL_blkPrepare,
  CALL_blkServe,
  CALL_deviceArm,
  CALL_deviceBreak,
  CALL_deviceDisarm,
  CALL_deviceIdle,
  CALL_devicePending,
  CALL_devicePop,
  CALL_devicePush,
  CALL_deviceResume,
  CALL_deviceReturn,
  CALL_deviceStart,
  CALL_deviceWait,
  CALL_gateEnter,
  CALL_gateLeave,
  CALL_logIsRunning,
  CALL_requestFinish,
  CALL_requestGiveBurst,
  CALL_requestPublish,
  CALL_requestRead,
  CALL_requestTake,
  CALL_requestTakeBurst,
  CALL_requestWrite,
  HELD,
  MODE_PACKED,
  SCRATCH_BYTES,
  WORLD_COPIED,
  WORLD_DISK,
  WORLD_FILE_DISK,
  WORLD_HELD,
  WORLD_IO,
  WORLD_MODE,
  WORLD_NEXT,
  WORLD_REQUEST_BYTES,
  WORLD_REQUESTS,
  WORLD_SCRATCH,
  WORLD_TABLE,
  WORLD_UNPUBLISHED,
  WORLD_VQ,
} from '../targets/exports-layout';
import { call, gave } from './calls';
import * as engine from './engine';
import { mix, step } from './random';

/** The place at which both sides of a packed ring begin. */
const FIRST: u32 = 0x8000;
/** Chains of a pop at most. */
const MOST: u32 = 64;

/** Starts the queue: at its beginning, or where `random` says that it was. */
export function startDevice(world: usize, random: u64): void {
  const vq: usize = load<u32>(world, WORLD_VQ);
  const packed = (load<u32>(world, WORLD_MODE) & MODE_PACKED) != 0;
  let base: u32 = packed ? FIRST | (FIRST << 16) : 0;
  if (random) {
    const place = <u32>(random >> 8) % load<u32>(vq, VQ_SIZE) | (<u32>(random >> 4) & 1) << 15;
    base = packed ? place | (place << 16) : <u32>load<u16>(<usize>load<u32>(vq, VQ_DRIVER), VIRTQ_AVAIL_IDX);
    if ((random & 7) == 0) base = <u32>(random >> 24);
  }
  call(world, CALL_deviceStart);
  engine.deviceStart(vq, base);
  gave(world, CALL_deviceStart, load<u32>(vq, VQ_VERDICT) == 0);
  store<u32>(world, load<u32>(vq, VQ_LAST_AVAIL), WORLD_NEXT);
  store<u32>(world, 0, WORLD_UNPUBLISHED);
}

/** What a host does besides serving. */
export function onDevice(world: usize, random: u64): bool {
  const vq: usize = load<u32>(world, WORLD_VQ);
  switch (<u32>random & 15) {
    case 0:
      call(world, CALL_deviceDisarm);
      engine.deviceDisarm(vq);
      gave(world, CALL_deviceDisarm, true);
      break;
    case 1:
    case 2:
    case 3: {
      call(world, CALL_devicePending);
      const waiting = engine.devicePending(vq);
      gave(world, CALL_devicePending, waiting != 0);
      break;
    }
    case 4:
    case 5: {
      call(world, CALL_deviceWait);
      const waiting = engine.deviceWait(vq, <u32>(random >> 4) & 3);
      gave(world, CALL_deviceWait, waiting != 0);
      break;
    }
    case 6:
    case 7: {
      call(world, CALL_gateEnter);
      const entered = engine.gateEnter(vq) != 0;
      gave(world, CALL_gateEnter, entered);
      if (!entered) break;
      call(world, CALL_gateLeave);
      engine.gateLeave(vq);
      gave(world, CALL_gateLeave, true);
      break;
    }
    case 8: {
      if (random >> 4 & 7) break;
      call(world, CALL_deviceBreak);
      engine.deviceBreak(vq, 1 + (<u32>(random >> 8) & 15), <u32>(random >> 12) & 15);
      gave(world, CALL_deviceBreak, load<u32>(vq, VQ_VERDICT) != 0);
      break;
    }
    case 9: {
      call(world, CALL_logIsRunning);
      gave(world, CALL_logIsRunning, engine.logIsRunning(vq) != 0);
      if (random >> 4 & 3) break;
      // Another process takes over, whatever it finds in the log.
      if (random >> 6 & 1) scribbleLog(load<u32>(vq, VQ_LOG), load<u32>(vq, VQ_SIZE), random >> 7);
      call(world, CALL_deviceResume);
      gave(world, CALL_deviceResume, engine.deviceResume(vq) != 0);
      break;
    }
    case 10: {
      if (random >> 4 & 15) break;
      call(world, CALL_deviceIdle);
      engine.deviceIdle(vq);
      gave(world, CALL_deviceIdle, load<u32>(vq, VQ_LOG) != 0);
      break;
    }
    default: {
      call(world, CALL_deviceArm);
      const waiting = engine.deviceArm(vq);
      gave(world, CALL_deviceArm, waiting != 0);
    }
  }
  return sound(vq);
}

/** Writes a few words of a log: one of the numbers at its head, or any in its entries, small for the most part. */
function scribbleLog(log: usize, size: u32, random: u64): void {
  const bytes: u32 = LOG_ENTRIES + size * LOG_BYTES_PER_ENTRY;
  for (let left = 1 + (<u32>random & 3); left; left--) {
    random = mix(step(random));
    const words: u32 = ((random & 1) != 0 ? LOG_ENTRIES : bytes) >> 3;
    const at = log + ((<u32>(random >> 1) % words) << 3);
    store<u64>(at, (random >> 16 & 1) != 0 ? random >> (random >> 17 & 63) : load<u64>(at) + (random >> 17 & 7) - 3);
  }
}

/** Serves a burst in one of the ways that there are. */
export function asBursts(world: usize, random: u64): bool {
  const vq: usize = load<u32>(world, WORLD_VQ);
  const disk: usize = (random & 1) != 0 ? load<u32>(world, WORLD_DISK) : load<u32>(world, WORLD_FILE_DISK);
  switch (<u32>(random >> 1) & 3) {
    case 0: {
      const max: u32 = 1 + <u32>(random >> 4) % MOST;
      call(world, CALL_devicePop);
      let taken = engine.devicePop(vq, max);
      gave(world, CALL_devicePop, taken != 0);
      if (taken > max || !sound(vq)) return false;
      if (taken != 0 && (random >> 42 & 7) == 0) {
        const first = <u32>(random >> 45) % taken;
        call(world, CALL_deviceReturn);
        engine.deviceReturn(vq, first, taken);
        gave(world, CALL_deviceReturn, true);
        taken = first;
      }
      handle(vq, taken, random >> 10);
      call(world, CALL_devicePush);
      const result = engine.devicePush(vq, taken);
      gave(world, CALL_devicePush, result != 0);
      return (result & COUNT_MASK) == taken && sound(vq);
    }
    case 1: {
      call(world, CALL_blkPoll);
      const bursts: u32 = 1 + (<u32>(random >> 4) & 3);
      const result = engine.blkPoll(vq, load<u32>(world, WORLD_DISK), <u32>(random >> 6) & 3, bursts);
      gave(world, CALL_blkPoll, result != 0);
      return (result & COUNT_MASK) <= bursts * load<u32>(vq, VQ_SIZE) && sound(vq);
    }
    case 2: {
      const io: usize = load<u32>(world, WORLD_IO);
      const max: u32 = 1 + <u32>(random >> 4) % MOST;
      call(world, CALL_blkPrepare);
      const count = engine.blkPrepare(vq, disk, io, max);
      gave(world, CALL_blkPrepare, count != 0);
      if (count > max || !sound(vq)) return false;
      for (let i: u32 = 0; i < count; i++) {
        const entry = io + i * IO_SIZE;
        // As the addon: all of it was moved, or EIO.
        if ((random >> (10 + (i & 31)) & 3) != 0) store<u64>(entry, load<u64>(entry, IO_BYTES), IO_RESULT);
        else store<i64>(entry, -5, IO_RESULT);
      }
      call(world, CALL_blkComplete);
      const result = engine.blkComplete(vq, disk, io, count);
      gave(world, CALL_blkComplete, result != 0);
      return (result & COUNT_MASK) == count && sound(vq);
    }
    default: {
      call(world, CALL_blkServe);
      const result = engine.blkServe(vq, load<u32>(world, WORLD_DISK));
      gave(world, CALL_blkServe, result != 0);
      return (result & COUNT_MASK) <= load<u32>(vq, VQ_SIZE) && sound(vq);
    }
  }
}

/** Puts a used length in place of the counts of each chain: all that is writable, or nothing. Both ends of each segment are written. */
function handle(vq: usize, taken: u32, random: u64): void {
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  for (let i: u32 = 0; i < taken; i++) {
    const chain: usize = load<u32>(vq, VQ_CHAINS) + i * CHAIN_SIZE;
    const counts = load<u32>(chain, CHAIN_COUNTS);
    let written: u32 = 0;
    for (let s: u32 = 0; s < counts >> 16; s++, segment += SEGMENT_SIZE) {
      const at: usize = load<u32>(segment);
      const bytes = load<u32>(segment, SEGMENT_BYTES);
      // A device model touches what it was given: memory that is not there is a trap.
      if (s < (counts & 0xffff)) written += 0 * (load<u8>(at) + load<u8>(at + bytes - 1));
      else {
        store<u8>(at, <u8>i);
        store<u8>(at + bytes - 1, <u8>i);
        written += bytes;
      }
    }
    store<u32>(chain, (random >> (i & 31) & 1) != 0 ? written : 0, CHAIN_COUNTS);
  }
}

/** Does one thing to a request. */
export function asRequests(world: usize, random: u64): bool {
  const vq: usize = load<u32>(world, WORLD_VQ);
  if ((random >> 5 & 7) == 0) return (random & 1) != 0 ? takeBurst(world, vq) : giveBurst(world, vq, random >> 8);
  const held = load<u32>(world, WORLD_HELD);
  const index = <u32>(random >> 8) % HELD;
  const block: usize = load<u32>(world, WORLD_REQUESTS) + index * load<u32>(world, WORLD_REQUEST_BYTES);
  const scratch: usize = load<u32>(world, WORLD_SCRATCH);
  if (!(held >> index & 1)) {
    call(world, CALL_requestTake);
    const taken = engine.requestTake(vq, block);
    gave(world, CALL_requestTake, taken != 0);
    if (taken) store<u32>(world, held | (1 << index), WORLD_HELD);
    return sound(vq);
  }
  const offset = (random >> 16 & 7) == 0 ? <u32>mix(random) : <u32>(random >> 19) & 63;
  const bytes = <u32>(random >> 25) % SCRATCH_BYTES;
  switch (<u32>random & 7) {
    case 0:
    case 1: {
      call(world, CALL_requestRead);
      const moved = engine.requestRead(vq, block, offset, scratch, bytes);
      gave(world, CALL_requestRead, moved != 0);
      return moved <= bytes;
    }
    case 2:
    case 3: {
      call(world, CALL_requestWrite);
      const moved = engine.requestWrite(vq, block, offset, scratch, bytes);
      gave(world, CALL_requestWrite, moved != 0);
      return moved <= bytes;
    }
    case 4: {
      const unpublished = load<u32>(world, WORLD_UNPUBLISHED);
      if (unpublished == 0) return true;
      call(world, CALL_requestPublish);
      gave(world, CALL_requestPublish, engine.requestPublish(vq, unpublished) != 0);
      store<u32>(world, 0, WORLD_UNPUBLISHED);
      return sound(vq);
    }
    default: {
      const before = load<u32>(vq, VQ_IN_FLIGHT);
      call(world, CALL_requestFinish);
      engine.requestFinish(vq, block, (random & 8) != 0 ? <u32>mix(random) : 1);
      const given = load<u32>(vq, VQ_IN_FLIGHT) != before;
      gave(world, CALL_requestFinish, given);
      release(world, index);
      if (given) store<u32>(world, load<u32>(world, WORLD_UNPUBLISHED) + 1, WORLD_UNPUBLISHED);
      return sound(vq);
    }
  }
}

/** Takes chains into all blocks that are free. */
function takeBurst(world: usize, vq: usize): bool {
  const table: usize = load<u32>(world, WORLD_TABLE);
  const blockBytes = load<u32>(world, WORLD_REQUEST_BYTES);
  const held = load<u32>(world, WORLD_HELD);
  let free: u32 = 0;
  for (let i: u32 = 0; i < <u32>HELD; i++)
    if (!(held >> i & 1)) store<u32>(table + free++ * TAKE_SIZE, load<u32>(world, WORLD_REQUESTS) + i * blockBytes);
  call(world, CALL_requestTakeBurst);
  const result = engine.requestTakeBurst(vq, table, free, blockBytes);
  gave(world, CALL_requestTakeBurst, result != 0);
  const taken = result & COUNT_MASK;
  if (taken > free) return false;
  for (let k: u32 = 0; k < taken; k++) {
    const index = (load<u32>(table + k * TAKE_SIZE) - load<u32>(world, WORLD_REQUESTS)) / blockBytes;
    store<u32>(world, load<u32>(world, WORLD_HELD) | (1 << index), WORLD_HELD);
    store<u32>(world, load<u32>(world, WORLD_COPIED) | (1 << index), WORLD_COPIED);
  }
  return sound(vq);
}

/** Gives back what was taken in bursts, with as much written as there is room for, or nothing. */
function giveBurst(world: usize, vq: usize, random: u64): bool {
  const table: usize = load<u32>(world, WORLD_TABLE);
  const copied = load<u32>(world, WORLD_COPIED);
  let count: u32 = 0;
  for (let i: u32 = 0; i < <u32>HELD; i++) {
    if (!(copied >> i & 1)) continue;
    const block = load<u32>(world, WORLD_REQUESTS) + i * load<u32>(world, WORLD_REQUEST_BYTES);
    const writable = load<u32>(block, REQUEST_WRITABLE_BYTES);
    const status = min<u32>(writable, <u32>(random >> i) & 1);
    const entry = table + count++ * GIVE_SIZE;
    store<u32>(entry, block, GIVE_REQUEST);
    store<u32>(entry, (random >> (8 + i) & 1) != 0 ? writable - status : 0, GIVE_WRITTEN);
    store<u32>(entry, status, GIVE_STATUS);
  }
  call(world, CALL_requestGiveBurst);
  const result = engine.requestGiveBurst(vq, table, count);
  gave(world, CALL_requestGiveBurst, result != 0);
  const done = result & COUNT_MASK;
  if (done > count) return false;
  for (let k: u32 = 0; k < done; k++) {
    const block = load<u32>(table + k * GIVE_SIZE, GIVE_REQUEST);
    release(world, (block - load<u32>(world, WORLD_REQUESTS)) / load<u32>(world, WORLD_REQUEST_BYTES));
  }
  return sound(vq);
}

/** Forgets that block `index` is held. */
function release(world: usize, index: u32): void {
  store<u32>(world, load<u32>(world, WORLD_HELD) & ~(1 << index), WORLD_HELD);
  store<u32>(world, load<u32>(world, WORLD_COPIED) & ~(1 << index), WORLD_COPIED);
}

/** Whether no more is in flight than the queue holds. */
function sound(vq: usize): bool {
  return load<u32>(vq, VQ_IN_FLIGHT) <= load<u32>(vq, VQ_SIZE);
}
