// All exports of engine.wasm in any order, on the very module that the host uses, while the other side of the ring writes
// whatever it likes into the memory that both share. The host keeps its word: blocks are there, counts are those that were
// given. So whatever goes wrong was brought about by memory that anyone may write.

import { DQ_VERDICT, VQ_MISS, VQ_VERDICT } from '../../../assembly/layout';
import {
  MODE_DRIVEN,
  MODE_REQUESTS,
  WORLD_AT,
  WORLD_DQ,
  WORLD_MODE,
  WORLD_VQ,
} from '../targets/exports-layout';
import { asDriver, startDriver } from './as-driver';
import { aside } from './aside';
import { asBursts, onDevice, startDevice } from './as-device';
import { asRequests } from './as-model';
import { offer, scribble, scribbleTable, use } from './peers';
import { begin, mix, step } from './random';

/** Plays operations [first, end) of the sequence of `seed`: the number of the first one after which something is wrong, or `end`. */
export function storm(world: usize, seed: u64, first: u32, end: u32): u32 {
  startDriver(world);
  startDevice(world, 0);
  for (let i = first; i < end; i++) {
    store<u32>(world, i, WORLD_AT);
    if (!act(world, begin(seed, i))) return i;
  }
  return end;
}

/** What the other side does, then one call, or a few that belong together: whether their results can be. */
function act(world: usize, state: u64): bool {
  const mode = load<u32>(world, WORLD_MODE);
  const driven = (mode & MODE_DRIVEN) != 0;
  let random = mix(state);
  state = step(state);
  if (driven ? (random & 15) == 0 : (random & 1) == 0) {
    for (let chains = 1 + (<u32>(random >> 4) & 3); chains; chains--) {
      offer(world, state);
      state = step(step(step(step(step(step(step(step(step(state)))))))));
    }
  }
  if ((random >> 6 & 15) == 0) use(world, state);
  if ((random >> 10 & 7) == 0) scribble(world, step(state));
  if ((random >> 13 & 7) == 0) scribbleTable(world, step(step(state)));
  recover(world, random >> 16);
  state = step(step(step(state)));
  random = mix(state);
  switch (<u32>random & 15) {
    case 0:
      return aside(world, random >> 4, step(state));
    case 1:
    case 2:
      return onDevice(world, random >> 4);
    default:
      if (driven && (random >> 4 & 1) != 0) return asDriver(world, random >> 5, step(state));
      return mode & MODE_REQUESTS ? asRequests(world, random >> 5) : asBursts(world, random >> 5);
  }
}

/** What a host does about a queue that is broken or waits for a mapping, sooner or later. */
function recover(world: usize, random: u64): void {
  const vq: usize = load<u32>(world, WORLD_VQ);
  const dq: usize = load<u32>(world, WORLD_DQ);
  if (load<u32>(vq, VQ_MISS) && (random & 1) != 0) store<u32>(vq, 0, VQ_MISS);
  const driven = (load<u32>(world, WORLD_MODE) & MODE_DRIVEN) != 0;
  if (load<u32>(dq, DQ_VERDICT) && (random >> 1 & 7) == 0) {
    startDriver(world);
    startDevice(world, 0);
  } else if ((load<u32>(vq, VQ_VERDICT) && (random >> 4 & 3) == 0) || (random >> 6 & 511) == 0) {
    if (driven) startDriver(world);
    startDevice(world, driven ? 0 : random >> 16);
  }
}
