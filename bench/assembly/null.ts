// A null model as it is where it is part of the engine: pop, handle and push compiled into one module, with the duties of
// assembly/models/blk.ts. What the same model in a module of its own is measured against.

import { breakQueue } from '../../assembly/chain';
import { devicePop, devicePush, deviceReturn } from '../../assembly/device';
import {
  CHAIN_COUNTS,
  CHAIN_SIZE,
  COUNT_MASK,
  NOTIFY_DUE,
  VERDICT_MEMORY_LOST,
  VQ_BURST,
  VQ_CHAINS,
  VQ_GATE_CLOSED,
} from '../../assembly/layout';

/** Serves bursts until an interrupt is due, `spins` looks in a row found nothing, or `bursts` were served. */
export function nullPoll(vq: usize, lost: usize, spins: u32, bursts: u32): u32 {
  let total: u32 = 0;
  let idle: u32 = 0;
  while (bursts > 0 && idle <= spins && atomic.load<u32>(vq, VQ_GATE_CLOSED) == 0) {
    const result = nullServe(vq, lost);
    if (result == 0) {
      idle++;
      continue;
    }
    idle = 0;
    bursts--;
    total = min(total + (result & COUNT_MASK), COUNT_MASK);
    if (result & NOTIFY_DUE) return total | NOTIFY_DUE;
  }
  return total;
}

function nullServe(vq: usize, lost: usize): u32 {
  const count = devicePop(vq, load<u32>(vq, VQ_BURST));
  if (count == 0) return 0;
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let served: u32 = 0;
  for (; served < count; served++, chain += CHAIN_SIZE) {
    if (atomic.load<u32>(vq, VQ_GATE_CLOSED) || atomic.load<u32>(lost)) {
      deviceReturn(vq, served, count);
      break;
    }
    store<u32>(chain, 0, CHAIN_COUNTS);
  }
  if (atomic.load<u32>(lost)) {
    breakQueue(vq, VERDICT_MEMORY_LOST, 0);
    return 0;
  }
  return devicePush(vq, served);
}
