// In-flight log of a split ring: an entry a head, what must be known of it when the process that serves the queue is gone.
// Each step is one store, so that whatever instruction a process is killed at, the log and the ring together say of every
// head whether it is in flight:
//
//   take     LOG_ENTRY_TAKEN, then LOG_ENTRY_USED = NOT_USED        in flight from here on
//   give     LOG_ENTRY_USED = the count at which it will be used    still in flight: that count is not below used.idx
//   publish  used.idx                                               used: the one store that decides, for a whole burst
//
// Nothing has to be cleared, and there is no moment at which the two disagree. Heads are taken in the order of the available
// ring, so the next one to take is at used.idx + what is in flight (+ LOG_AHEAD). A data path that gives back in the
// order in which it takes, burst by burst, has nothing to enter: what it holds are the heads behind used.idx.

import { breakQueue } from '../chain';
import { deviceIdle, logRun, NOT_USED, replayed, replayInsert } from '../in-flight-log';
import {
  CHAIN_SIZE,
  LOG_AHEAD,
  LOG_ENTRIES,
  LOG_ENTRY_SIZE,
  LOG_ENTRY_TAKEN,
  LOG_ENTRY_USED,
  LOG_USED,
  VERDICT_IN_FLIGHT_LOG,
  VQ_CHAINS,
  VQ_DRIVER,
  VQ_LAST_AVAIL,
  VQ_LOG,
  VQ_REPLAY,
  VQ_REPLAY_END,
  VQ_REPLAYED,
  VQ_REPLAYING,
  VQ_SHADOW_AVAIL,
  VQ_SIZE,
  VQ_SNAPSHOT,
  VQ_TAKEN,
  VQ_USED,
} from '../layout';
import { add } from '../notify';
import { VIRTQ_AVAIL_IDX } from '../virtio';

/** Counts of used buffers start here: above the 0 of heads that were never taken. */
const FIRST_USED: u64 = 65536;

/** How far the avail index was ahead of the used index at the start. */
export function logAhead(vq: usize): u32 {
  return load<u32>(<usize>load<u32>(vq, VQ_LOG), LOG_AHEAD);
}

/** Starts the log of a queue that holds nothing. */
export function logStart(vq: usize, lastAvail: u32, used: u32): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  if (log == 0) return;
  deviceIdle(vq);
  memory.fill(log + LOG_ENTRIES, 0, load<u32>(vq, VQ_SIZE) * LOG_ENTRY_SIZE);
  store<u64>(log, FIRST_USED + <u64>used, LOG_USED);
  store<u32>(log, (lastAvail - used) & 0xffff, LOG_AHEAD);
  store<u64>(vq, 0, VQ_TAKEN);
  logRun(vq);
}

/**
 * Makes a private ring of the heads that are in flight, in the order in which they were taken, for pops to read first. The
 * position must have been set to used.idx + LOG_AHEAD. Breaks the queue where more is in flight than the driver has offered.
 */
export function logReplay(vq: usize, used: u32): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  const size = load<u32>(vq, VQ_SIZE);
  const position = countOf(log, used);
  // In the queue's scratch memory, sorted as they come.
  const sorted: usize = load<u32>(vq, VQ_SNAPSHOT);
  let count: u32 = 0;
  let newest: u64 = 0;
  for (let head: u32 = 0; head < size; head++) {
    const entry = entryOf(log, head);
    const taken = load<u64>(entry, LOG_ENTRY_TAKEN);
    newest = max(newest, taken);
    if (load<u64>(entry, LOG_ENTRY_USED) < position) continue;
    // Given back, but not published: that count will be another one's.
    store<u64>(entry, NOT_USED, LOG_ENTRY_USED);
    replayInsert(sorted, count++, taken, head);
  }
  store<u64>(vq, newest, VQ_TAKEN);
  store<u64>(log, position, LOG_USED);
  if (count == 0) return;
  const first = load<u32>(vq, VQ_LAST_AVAIL);
  const offered = (<u32>atomic.load<u16>(<usize>load<u32>(vq, VQ_DRIVER), VIRTQ_AVAIL_IDX) - first) & 0xffff;
  if (count > offered) {
    breakQueue(vq, VERDICT_IN_FLIGHT_LOG, count);
    return;
  }
  const replay: usize = load<u32>(vq, VQ_REPLAY);
  for (let i: u32 = 0; i < count; i++)
    store<u16>(replay + (((first + i) & (size - 1)) << 1), replayed(sorted, i));
  const end = (first + count) & 0xffff;
  store<u32>(vq, end, VQ_REPLAY_END);
  store<u32>(vq, end, VQ_SHADOW_AVAIL);
  store<u32>(vq, 1, VQ_REPLAYING);
  add(vq + VQ_REPLAYED, count);
}

/** Notes that `head` was taken. A head of a replay is in the log already, at its place. */
export function logTake(vq: usize, head: u32): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  if (log == 0 || load<u32>(vq, VQ_REPLAYING)) return;
  const taken = load<u64>(vq, VQ_TAKEN) + 1;
  store<u64>(vq, taken, VQ_TAKEN);
  const entry = entryOf(log, head);
  store<u64>(entry, taken, LOG_ENTRY_TAKEN);
  store<u64>(entry, NOT_USED, LOG_ENTRY_USED);
}

/** Notes that `head` is the used buffer of index `used`, not yet published. */
export function logGive(vq: usize, head: u32, used: u32): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  if (log) store<u64>(entryOf(log, head), countOf(log, used), LOG_ENTRY_USED);
}

/** The same for the first `count` of the chain table, which will be used buffers from VQ_USED on. */
export function logGiveBurst(vq: usize, count: u32): void {
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const used = load<u32>(vq, VQ_USED);
  for (let i: u32 = 0; i < count; i++) logGive(vq, load<u32>(chains + i * CHAIN_SIZE), used + i);
}

/** Follows used.idx, so that no more than its 16 bits are ever missing. */
// @ts-ignore: decorator
@inline
export function logPublish(vq: usize, used: u32): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  if (log) store<u64>(log, countOf(log, used), LOG_USED);
}

// @ts-ignore: decorator
@inline
function entryOf(log: usize, head: u32): usize {
  return log + LOG_ENTRIES + head * LOG_ENTRY_SIZE;
}

/** The count of used buffers that `used` is the low 16 bits of. It is not below LOG_USED, nor 2^16 above. */
// @ts-ignore: decorator
@inline
function countOf(log: usize, used: u32): u64 {
  const published = load<u64>(log, LOG_USED);
  return published + <u64>((used - <u32>published) & 0xffff);
}
