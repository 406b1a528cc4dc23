// Calls of a host that serves a queue.

import {
  CHAIN_COUNTS,
  CHAIN_SIZE,
  COUNT_MASK,
  IO_BYTES,
  IO_RESULT,
  IO_SIZE,
  LOG_BYTES_PER_ENTRY,
  LOG_ENTRIES,
  SEGMENT_BYTES,
  SEGMENT_SIZE,
  VQ_CHAINS,
  VQ_DRIVER,
  VQ_GATE_CLOSED,
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
  MODE_PACKED,
  WORLD_DISK,
  WORLD_FILE_DISK,
  WORLD_IO,
  WORLD_MODE,
  WORLD_NEXT,
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
      store<u32>(vq, (random >> 4 & 7) == 0 ? 1 : 0, VQ_GATE_CLOSED);
      call(world, CALL_gateEnter);
      const entered = engine.gateEnter(vq) != 0;
      gave(world, CALL_gateEnter, entered);
      store<u32>(vq, (random >> 7 & 7) == 0 ? 1 : 0, VQ_GATE_CLOSED);
      if (entered) {
        call(world, CALL_gateLeave);
        engine.gateLeave(vq);
        gave(world, CALL_gateLeave, true);
      }
      store<u32>(vq, 0, VQ_GATE_CLOSED);
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
      if ((random >> 6 & 1) != 0 && load<u32>(vq, VQ_LOG)) scribbleLog(load<u32>(vq, VQ_LOG), load<u32>(vq, VQ_SIZE), random >> 7);
      return resume(world, vq);
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

/** Goes on where another process has stopped; at the beginning, where its log says that the driver had not started the queue. */
function resume(world: usize, vq: usize): bool {
  call(world, CALL_deviceResume);
  const resumed = engine.deviceResume(vq) != 0;
  gave(world, CALL_deviceResume, resumed);
  if (!resumed) startDevice(world, 0);
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
  // Now and then the control plane asks for the queue in the middle of it.
  store<u32>(vq, (random >> 46 & 15) == 0 ? 1 : 0, VQ_GATE_CLOSED);
  const result = burst(world, vq, random);
  store<u32>(vq, 0, VQ_GATE_CLOSED);
  return result;
}

function burst(world: usize, vq: usize, random: u64): bool {
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
      // The process dies here, and another goes on.
      if (taken && (random >> 42 & 15) == 0 && load<u32>(vq, VQ_LOG)) return resume(world, vq);
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

/** Whether no more is in flight than the queue holds. */
export function sound(vq: usize): bool {
  return load<u32>(vq, VQ_IN_FLIGHT) <= load<u32>(vq, VQ_SIZE);
}
