// A handler that only looks at its segments, compiled into one module with pop and push, as the device models of engine.wasm
// are, and as the C++ that it is measured against is compiled into one unit. Instantiated beside the engine, on the same memory.

import { copy } from '../../assembly/copy';
import { devicePop, devicePush } from '../../assembly/device';
import { CHAIN_COUNTS, CHAIN_SIZE, COUNT_MASK, SEGMENT_SIZE, VQ_CHAINS, VQ_SEGMENTS } from '../../assembly/layout';

/** Serves the ring in bursts until it is empty, adding to the u32 at `digest`: chains served, each with `usedLength` bytes. */
export function drain(vq: usize, burst: u32, digest: usize, usedLength: u32): u32 {
  return serve(vq, burst, digest, usedLength, false, 0);
}

/** The same, and a copy of each segment's bytes to `to`. */
export function drainCopying(vq: usize, burst: u32, digest: usize, usedLength: u32, to: usize): u32 {
  return serve(vq, burst, digest, usedLength, true, to);
}

// Inlined, so that `copies` is a constant in either: a handler that copies nothing has no code for it.
// @ts-ignore: decorator
@inline
function serve(vq: usize, burst: u32, digest: usize, usedLength: u32, copies: bool, to: usize): u32 {
  let served: u32 = 0;
  let sum = load<u32>(digest);
  while (true) {
    const count = devicePop(vq, burst);
    if (count == 0) break;
    sum += handle(vq, count, usedLength, copies, to);
    served += devicePush(vq, count) & COUNT_MASK;
  }
  store<u32>(digest, sum);
  return served;
}

/** What every side does with a chain: the least that cannot be optimised away. Gives each its used length. */
// @ts-ignore: decorator
@inline
function handle(vq: usize, count: u32, usedLength: u32, copies: bool, to: usize): u32 {
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let sum: u32 = 0;
  for (const end = chain + count * CHAIN_SIZE; chain < end; chain += CHAIN_SIZE) {
    const segments = load<u32>(chain, CHAIN_COUNTS) >> 16;
    for (const last = segment + segments * SEGMENT_SIZE; segment < last; segment += SEGMENT_SIZE) {
      const words = load<u64>(segment);
      sum += <u32>words ^ <u32>(words >> 32);
      if (copies) copy(to, <usize>words, <usize>(words >> 32));
    }
    store<u32>(chain, usedLength, CHAIN_COUNTS);
  }
  return sum;
}
