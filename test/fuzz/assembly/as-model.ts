// Calls of a host whose device model is in TypeScript: it holds requests while the queue goes on.

import {
  COUNT_MASK,
  GIVE_REQUEST,
  GIVE_SIZE,
  GIVE_STATUS,
  GIVE_WRITTEN,
  REQUEST_WRITABLE_BYTES,
  TAKE_SIZE,
  VQ_IN_FLIGHT,
} from '../../../assembly/layout';
import {
  CALL_requestFinish,
  CALL_requestGiveBurst,
  CALL_requestPublish,
  CALL_requestRead,
  CALL_requestTake,
  CALL_requestTakeBurst,
  CALL_requestWrite,
  HELD,
  SCRATCH_BYTES,
  WORLD_COPIED,
  WORLD_HELD,
  WORLD_REQUEST_BYTES,
  WORLD_REQUESTS,
  WORLD_SCRATCH,
  WORLD_TABLE,
  WORLD_UNPUBLISHED,
  WORLD_VQ,
} from '../targets/exports-layout';
import { sound } from './as-device';
import { call, gave } from './calls';
import * as engine from './engine';
import { mix } from './random';

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
