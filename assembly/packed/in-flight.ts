// In-flight log of a packed ring. Used descriptors are written over available ones, perhaps those of a request that is still
// in flight, so the log keeps what the ring will not: the descriptors themselves. What is published is counted in descriptors,
// and the ring itself says whether a publication has happened: the descriptor that it overwrites is compared with what was
// there. Each step is one store, so that whatever instruction a process is killed at, log and ring together say which chains
// are in flight:
//
//   take     the chain's descriptors, LOG_ENTRY_TAKEN, then LOG_ENTRY_USED = NOT_USED     in flight from here on
//   give     LOG_ENTRY_USED = the count at which it will be used                           still in flight
//   publish  LOG_BEFORE, then LOG_PUBLISHING                                               still in flight
//            the first used descriptor, in the ring                                        used: decides, for a whole burst
//            LOG_USED = LOG_PUBLISHING                                                     used
//
// Nothing has to be cleared: an entry is in flight while its count is not below what is published. The next chain to take is
// behind all that are in flight (and LOG_AHEAD).
//
// A data path that gives back in the order in which it takes, burst by burst, enters no chain. What it holds are the chains
// behind LOG_USED, and the ring still has them, but for the used descriptors that are written before the first, which
// publishes them. So before these are written, what they overwrite is saved, and put back by the next process.

import { breakQueue } from '../chain';
import { deviceIdle, logRun, NOT_USED, replayed, replayInsert } from '../in-flight-log';
import {
  CHAIN_SIZE,
  LOG_AHEAD,
  LOG_BEFORE,
  LOG_ENTRIES,
  LOG_ENTRY_DESCRIPTOR,
  LOG_ENTRY_HEAD,
  LOG_ENTRY_NEXT,
  LOG_ENTRY_TAKEN,
  LOG_ENTRY_USED,
  LOG_PUBLISHING,
  LOG_SAVED_AT,
  LOG_SAVED_COUNT,
  LOG_SAVED_INDEX,
  LOG_SAVED_SIZE,
  LOG_USED,
  PACKED_LOG_ENTRY_SIZE,
  VERDICT_AVAIL_INDEX,
  VERDICT_IN_FLIGHT_LOG,
  VQ_CHAINS,
  VQ_DESC,
  VQ_FREE_COUNT,
  VQ_HEADS,
  VQ_HELD_AT,
  VQ_LAST_AVAIL,
  VQ_LOG,
  VQ_REPLAY,
  VQ_REPLAY_END,
  VQ_REPLAY_ENTRIES,
  VQ_REPLAY_GIVEN,
  VQ_REPLAYED,
  VQ_REPLAYING,
  VQ_SIGNALLED_USED,
  VQ_SIZE,
  VQ_SNAPSHOT,
  VQ_TAKEN,
  VQ_USED,
} from '../layout';
import { add } from '../notify';
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../virtio';
import { nextHead } from './chain';
import { collectFree, entryOf, freeGiven, giveEntry, nextFree } from './log-entries';
import { advance, availableOwner, countFrom, distance, FIRST_POSITION, indexOf, positionAt } from './position';

/** Laps with which counts begin: above the 0 of entries that were never used, and even, as positionAt has it. */
const FIRST_LAPS: u64 = 2;

/** Starts the log of a queue that holds nothing. */
export function logStart(vq: usize, available: u32, used: u32): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  if (log == 0) return;
  const size = load<u32>(vq, VQ_SIZE);
  deviceIdle(vq);
  memory.fill(log + LOG_ENTRIES, 0, size * PACKED_LOG_ENTRY_SIZE);
  const count = FIRST_LAPS * <u64>size + countFrom(used, size);
  store<u64>(log, count, LOG_USED);
  store<u64>(log, count, LOG_PUBLISHING);
  store<u64>(log, 0, LOG_SAVED_AT);
  store<u32>(log, distance(used, available, size), LOG_AHEAD);
  store<u64>(vq, 0, VQ_TAKEN);
  collectFree(vq);
  logRun(vq);
}

/**
 * Finds out what is published, and undoes in the ring what is not: the place of the next used descriptor. Killed in the middle,
 * it is done again.
 */
export function logSettle(vq: usize): u32 {
  const log: usize = load<u32>(vq, VQ_LOG);
  const ring: usize = load<u32>(vq, VQ_DESC);
  const size = load<u32>(vq, VQ_SIZE);
  let used = load<u64>(log, LOG_USED);
  const publishing = load<u64>(log, LOG_PUBLISHING);
  const first = ring + indexOf(positionAt(used, size)) * VIRTQ_DESC_SIZE;
  // The driver changes a descriptor only once it is used, and then never to what it was on the lap before.
  if (publishing != used && load<u64>(first, PVIRTQ_DESC_LEN) != load<u64>(log, LOG_BEFORE)) used = publishing;
  store<u64>(log, used, LOG_USED);
  store<u64>(log, used, LOG_PUBLISHING);
  if (load<u64>(log, LOG_SAVED_AT) == used) {
    const count = min(load<u32>(log, LOG_SAVED_COUNT), size);
    for (let i: u32 = 0, saved = savedOf(log, size); i < count; i++, saved += LOG_SAVED_SIZE) {
      const index = load<u32>(saved, LOG_SAVED_INDEX) % size;
      store<u64>(ring + index * VIRTQ_DESC_SIZE, load<u64>(saved), PVIRTQ_DESC_LEN);
    }
    // What is saved next at this place is another list.
    store<u32>(log, 0, LOG_SAVED_COUNT);
  }
  return positionAt(used, size);
}

/**
 * Makes a private ring of the chains that are in flight, in the order in which they were taken, for pops to read first, and
 * takes the position behind them. Breaks the queue where more is in flight than a ring holds, or an entry is of two chains.
 */
export function logReplay(vq: usize, used: u32): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  const size = load<u32>(vq, VQ_SIZE);
  const published = load<u64>(log, LOG_USED);
  const ahead = load<u32>(log, LOG_AHEAD);
  // In the queue's scratch memory, sorted as they come.
  const sorted: usize = load<u32>(vq, VQ_SNAPSHOT);
  let count: u32 = 0;
  let newest: u64 = 0;
  for (let entry: u32 = 0; entry < size; entry++) {
    const at = entryOf(log, entry);
    const taken = load<u64>(at, LOG_ENTRY_TAKEN);
    newest = max(newest, taken);
    if (load<u64>(at, LOG_ENTRY_USED) < published) continue;
    // Given back, but not published: that count will be another one's.
    store<u64>(at, NOT_USED, LOG_ENTRY_USED);
    replayInsert(sorted, count++, taken, entry);
  }
  store<u64>(vq, newest, VQ_TAKEN);
  let places: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const taken = replayChain(vq, replayed(sorted, i), places);
    if (taken == 0) {
      breakQueue(vq, VERDICT_IN_FLIGHT_LOG, count);
      return;
    }
    places += taken;
  }
  if (ahead > size - places) {
    breakQueue(vq, VERDICT_IN_FLIGHT_LOG, count);
    return;
  }
  collectFree(vq);
  const next = advance(used, ahead + places, size);
  store<u32>(vq, next, VQ_LAST_AVAIL);
  if (count == 0) return;
  eraseUsed(vq, used, places);
  const replay: usize = load<u32>(vq, VQ_REPLAY);
  if (places < size) store<u32>(replay + places * VIRTQ_DESC_SIZE, 0, PVIRTQ_DESC_ID);
  store<u32>(vq, FIRST_POSITION, VQ_LAST_AVAIL);
  store<u32>(vq, next, VQ_REPLAY_END);
  store<u32>(vq, 0, VQ_REPLAY_GIVEN);
  store<u32>(vq, 1, VQ_REPLAYING);
  add(vq + VQ_REPLAYED, count);
}

/** Copies the chain of an entry to the private ring, from place `at` on: its descriptors; 0 for what is no chain. */
function replayChain(vq: usize, entry: u32, at: u32): u32 {
  const log: usize = load<u32>(vq, VQ_LOG);
  const size = load<u32>(vq, VQ_SIZE);
  const held: usize = load<u32>(vq, VQ_HEADS);
  const head = load<u32>(entryOf(log, entry), LOG_ENTRY_HEAD);
  const descriptors = head >> 16;
  if (descriptors == 0 || descriptors > size - at) return 0;
  let to: usize = load<u32>(vq, VQ_REPLAY) + at * VIRTQ_DESC_SIZE;
  let entries: usize = load<u32>(vq, VQ_REPLAY_ENTRIES) + (at << 1);
  for (let left = descriptors; left; left--, to += VIRTQ_DESC_SIZE, entries += sizeof<u16>()) {
    if (entry >= size || load<u8>(held + entry)) return 0;
    store<u8>(held + entry, 1);
    store<u16>(entries, entry);
    const from = entryOf(log, entry) + LOG_ENTRY_DESCRIPTOR;
    v128.store(to, v128.load(from));
    const kept = <u32>load<u16>(from, PVIRTQ_DESC_FLAGS) & (VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_INDIRECT);
    const link: u32 = left > 1 ? VIRTQ_DESC_F_NEXT : 0;
    store<u32>(to, (head & 0xffff) | ((kept | link | VIRTQ_DESC_F_AVAIL) << 16), PVIRTQ_DESC_ID);
    entry = load<u32>(entryOf(log, entry), LOG_ENTRY_NEXT);
  }
  return descriptors;
}

/**
 * Has no descriptor of what is in flight be a used one, which the driver would take for ours as soon as one before it is
 * published: those that were written and never published are. The first of them never is.
 */
function eraseUsed(vq: usize, used: u32, places: u32): void {
  const size = load<u32>(vq, VQ_SIZE);
  for (let position = used; places > 1; places--) {
    position = advance(position, 1, size);
    const descriptor: usize = load<u32>(vq, VQ_DESC) + indexOf(position) * VIRTQ_DESC_SIZE;
    store<u16>(descriptor, <u16>(availableOwner(position) >> 16), PVIRTQ_DESC_FLAGS);
  }
}

/** Has the next chain come from the private ring of a replay, if that has more: what replayLeave puts back; else 0. */
// @ts-ignore: decorator
@inline
export function replayEnter(vq: usize): u64 {
  return load<u32>(vq, VQ_REPLAYING) ? replayNext(vq) : 0;
}

function replayNext(vq: usize): u64 {
  const driver = <u64>load<u32>(vq, VQ_DESC) | (<u64>load<u32>(vq, VQ_USED) << 32);
  store<u32>(vq, load<u32>(vq, VQ_REPLAY), VQ_DESC);
  store<u32>(vq, FIRST_POSITION, VQ_USED);
  if (nextHead(vq)) return driver;
  replayLeave(vq, driver);
  store<u32>(vq, 0, VQ_REPLAYING);
  store<u32>(vq, load<u32>(vq, VQ_REPLAY_END), VQ_LAST_AVAIL);
  return 0;
}

/** Goes back to the driver's ring. */
export function replayLeave(vq: usize, driver: u64): void {
  store<u32>(vq, <u32>driver, VQ_DESC);
  store<u32>(vq, <u32>(driver >> 32), VQ_USED);
}

/**
 * Notes that the chain at VQ_LAST_AVAIL was taken: 1 + its entry; 0, and the queue is broken, if there is none left, because
 * the driver offers what it has not been given back. A chain of a replay is in the log already, at its place.
 */
export function logTake(vq: usize, head: u32): u32 {
  const log: usize = load<u32>(vq, VQ_LOG);
  if (log == 0) return 1;
  let index = indexOf(load<u32>(vq, VQ_LAST_AVAIL));
  if (load<u32>(vq, VQ_REPLAYING)) return 1 + <u32>load<u16>(<usize>load<u32>(vq, VQ_REPLAY_ENTRIES) + (index << 1));
  const size = load<u32>(vq, VQ_SIZE);
  const ring: usize = load<u32>(vq, VQ_DESC);
  const descriptors = head >> 16;
  const left = load<u32>(vq, VQ_FREE_COUNT);
  if (descriptors > left) {
    breakQueue(vq, VERDICT_AVAIL_INDEX, head & 0xffff);
    return 0;
  }
  const first = nextFree(vq);
  let at = entryOf(log, first);
  // As the ring has them now: whoever replays them judges them again.
  v128.store(at, v128.load(ring + index * VIRTQ_DESC_SIZE), LOG_ENTRY_DESCRIPTOR);
  for (let i: u32 = 1; i < descriptors; i++) {
    const entry = nextFree(vq);
    store<u32>(at, entry, LOG_ENTRY_NEXT);
    if (++index == size) index = 0;
    at = entryOf(log, entry);
    v128.store(at, v128.load(ring + index * VIRTQ_DESC_SIZE), LOG_ENTRY_DESCRIPTOR);
  }
  const taken = load<u64>(vq, VQ_TAKEN) + 1;
  store<u64>(vq, taken, VQ_TAKEN);
  at = entryOf(log, first);
  store<u32>(at, head, LOG_ENTRY_HEAD);
  store<u64>(at, taken, LOG_ENTRY_TAKEN);
  store<u64>(at, NOT_USED, LOG_ENTRY_USED);
  return 1 + first;
}

/** Notes that the chain of `entry` is the next used buffer, not yet published. */
export function logGive(vq: usize, entry: u32): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  if (log) giveEntry(vq, log, entry, load<u64>(log, LOG_USED) + unpublished(vq));
}

/** The same for the first `count` of the chain table; what they overwrite is saved, unless they are of a replay. */
// @ts-ignore: decorator
@inline
export function logGiveBurst(vq: usize, count: u32): void {
  if (load<u32>(vq, VQ_LOG) == 0) return;
  if (load<u32>(vq, VQ_REPLAYING)) giveReplayed(vq, count);
  else save(vq, count);
}

function giveReplayed(vq: usize, count: u32): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const entries: usize = load<u32>(vq, VQ_REPLAY_ENTRIES);
  let used = load<u64>(log, LOG_USED) + unpublished(vq);
  let place = load<u32>(vq, VQ_REPLAY_GIVEN);
  for (let i: u32 = 0; i < count; i++) {
    giveEntry(vq, log, load<u16>(entries + (place << 1)), used);
    const descriptors = load<u32>(chains + i * CHAIN_SIZE) >> 16;
    used += <u64>descriptors;
    place += descriptors;
  }
  store<u32>(vq, place, VQ_REPLAY_GIVEN);
}

/** Saves the descriptors that the used ones of a burst overwrite, but for the first, which is not written before all is well. */
function save(vq: usize, count: u32): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  const size = load<u32>(vq, VQ_SIZE);
  const ring: usize = load<u32>(vq, VQ_DESC) + PVIRTQ_DESC_LEN;
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  const end = chain + (count - 1) * CHAIN_SIZE;
  let index = indexOf(load<u32>(vq, VQ_USED));
  for (let saved = savedOf(log, size); chain < end; chain += CHAIN_SIZE, saved += LOG_SAVED_SIZE) {
    index += load<u32>(chain) >> 16;
    if (index >= size) index -= size;
    store<u64>(saved, load<u64>(ring + (index << 4)));
    store<u32>(saved, index, LOG_SAVED_INDEX);
  }
  store<u32>(log, count - 1, LOG_SAVED_COUNT);
  // Last: before, the list is another burst's. There is none for this place, or it is empty (logSettle).
  store<u64>(log, load<u64>(log, LOG_USED), LOG_SAVED_AT);
}

/** Notes that the descriptor at the place of the first used one is about to be overwritten, and what that publishes. */
// @ts-ignore: decorator
@inline
export function logPublishing(vq: usize): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  if (log == 0) return;
  const first: usize = load<u32>(vq, VQ_DESC) + (load<u32>(vq, VQ_HELD_AT) - 1) * VIRTQ_DESC_SIZE;
  store<u64>(log, load<u64>(first, PVIRTQ_DESC_LEN), LOG_BEFORE);
  store<u64>(log, load<u64>(log, LOG_USED) + unpublished(vq), LOG_PUBLISHING);
}

/** Notes that it was. Entries of what is published may be another chain's from now on. */
// @ts-ignore: decorator
@inline
export function logPublish(vq: usize): void {
  const log: usize = load<u32>(vq, VQ_LOG);
  if (log == 0) return;
  store<u64>(log, load<u64>(log, LOG_PUBLISHING), LOG_USED);
  freeGiven(vq);
}

/** Descriptors of what was given back and is not published. */
// @ts-ignore: decorator
@inline
function unpublished(vq: usize): u64 {
  return distance(load<u32>(vq, VQ_SIGNALLED_USED), load<u32>(vq, VQ_USED), load<u32>(vq, VQ_SIZE));
}

/** Where the saved descriptors lie. */
// @ts-ignore: decorator
@inline
function savedOf(log: usize, size: u32): usize {
  return log + LOG_ENTRIES + size * PACKED_LOG_ENTRY_SIZE;
}
