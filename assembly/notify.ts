// Notification suppression, both ways ("Used Buffer Notification Suppression", "Available Buffer Notification
// Suppression"). Both sides publish their index with an atomic store and then read the peer's suppression word with an
// atomic load; the peer stores that word atomically before it loads the index again. WebAssembly's atomics are sequentially
// consistent (xchg and mov on x86-64, stlr and ldar on arm64): all four have one order that both sides agree on. So either
// we see the peer's wish, or the peer sees our entry. A plain load in place of any of them would break that.

import { NOTIFY_DUE, VQ_BURSTS, VQ_INTERRUPTS, VQ_INTERRUPTS_SUPPRESSED, VQ_REQUESTS } from './layout';

/** Whether moving an index from `before` to `after` passes `event`: vring_need_event, modulo 2^16. */
// @ts-ignore: decorator
@inline
export function needEvent(event: u32, after: u32, before: u32): bool {
  return ((after - event - 1) & 0xffff) < ((after - before) & 0xffff);
}

/** Adds to a u64 counter. One writer: the thread that runs the queue; readers may look at any time. */
// @ts-ignore: decorator
@inline
export function add(counter: usize, amount: u64): void {
  store<u64>(counter, load<u64>(counter) + amount);
}

/** Counts a publication of `count` requests, and the interrupt that it wants or does not: NOTIFY_DUE or 0. */
// @ts-ignore: decorator
@inline
export function countPublication(vq: usize, count: u32, wanted: bool): u32 {
  add(vq + VQ_REQUESTS, count);
  add(vq + VQ_BURSTS, 1);
  if (!wanted) {
    add(vq + VQ_INTERRUPTS_SUPPRESSED, 1);
    return 0;
  }
  add(vq + VQ_INTERRUPTS, 1);
  return NOTIFY_DUE;
}
