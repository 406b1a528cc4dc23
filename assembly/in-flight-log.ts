// In-flight log, whatever the format of the ring: what must be known of a queue when the process that serves it is gone, in a
// file that is mapped. split/in-flight.ts and packed/in-flight.ts say what a log of theirs has, and in which order it is
// written; here is what both have.
//
// The store that publishes is atomic; the others are in program order, which the next process sees whole, because the
// kernel lies between the two.

import { LOG_STATE, LOG_STATE_IDLE, LOG_STATE_PACKED, LOG_STATE_SPLIT, VQ_F_PACKED, VQ_FLAGS, VQ_LOG } from './layout';

/** LOG_ENTRY_USED of a chain that was not given back: above every count. */
export const NOT_USED: u64 = u64.MAX_VALUE;

/** Bytes of {when it was taken u64, entry u64}, of which replayInsert makes a list. */
export const REPLAYED_SIZE: u32 = 16;

/** Whether the driver that runs now has started the queue, whatever the format of its ring. */
export function logIsRunning(vq: usize): bool {
  const log: usize = load<u32>(vq, VQ_LOG);
  return log != 0 && load<u32>(log, LOG_STATE) != LOG_STATE_IDLE;
}

/** Whether it is a ring of the queue's format that the log speaks of. */
export function logFits(vq: usize): bool {
  return load<u32>(<usize>load<u32>(vq, VQ_LOG), LOG_STATE) == stateOf(vq);
}

/** Notes that the driver has started the device, but not this queue. */
export function deviceIdle(vq: usize): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  if (log) atomic.store<u32>(log, LOG_STATE_IDLE, LOG_STATE);
}

/** Notes that the driver has started this queue. Last: before, the log says nothing. */
export function logRun(vq: usize): void {
  atomic.store<u32>(<usize>load<u32>(vq, VQ_LOG), stateOf(vq), LOG_STATE);
}

function stateOf(vq: usize): u32 {
  return load<u32>(vq, VQ_FLAGS) & VQ_F_PACKED ? LOG_STATE_PACKED : LOG_STATE_SPLIT;
}

/** Adds to a list of `count`, sorted by when they were taken. */
export function replayInsert(list: usize, count: u32, taken: u64, entry: u32): void {
  let at = list + count * REPLAYED_SIZE;
  for (; at > list && load<u64>(at - REPLAYED_SIZE) > taken; at -= REPLAYED_SIZE)
    v128.store(at, v128.load(at - REPLAYED_SIZE));
  store<u64>(at, taken);
  store<u64>(at, entry, 8);
}

/** Entry `index` of that list. */
// @ts-ignore: decorator
@inline
export function replayed(list: usize, index: u32): u32 {
  return load<u32>(list + index * REPLAYED_SIZE, 8);
}
