// Entries of a packed ring's in-flight log: one a descriptor in flight, whichever is free. Which are is private: the next
// process finds out from those that are not. An entry that was given back is free once that is published, for until then it
// has to say that its chain is in flight.

import {
  LOG_ENTRIES,
  LOG_ENTRY_HEAD,
  LOG_ENTRY_NEXT,
  LOG_ENTRY_USED,
  PACKED_LOG_ENTRY_SIZE,
  VQ_FREE_AT,
  VQ_FREE_COUNT,
  VQ_FREE_ENTRIES,
  VQ_FREE_GIVEN,
  VQ_HEADS,
  VQ_SIZE,
} from '../layout';

// @ts-ignore: decorator
@inline
export function entryOf(log: usize, entry: u32): usize {
  return log + LOG_ENTRIES + entry * PACKED_LOG_ENTRY_SIZE;
}

/** Collects the entries that no chain of a replay has, as VQ_HEADS says it. */
export function collectFree(vq: usize): void {
  const size = load<u32>(vq, VQ_SIZE);
  const held: usize = load<u32>(vq, VQ_HEADS);
  const free: usize = load<u32>(vq, VQ_FREE_ENTRIES);
  let count: u32 = 0;
  for (let entry: u32 = 0; entry < size; entry++)
    if (load<u8>(held + entry) == 0) store<u16>(free + (count++ << 1), entry);
  store<u32>(vq, 0, VQ_FREE_AT);
  store<u32>(vq, count, VQ_FREE_COUNT);
  store<u32>(vq, 0, VQ_FREE_GIVEN);
}

/** Takes the next free entry, of which there must be one. */
export function nextFree(vq: usize): u32 {
  const at = load<u32>(vq, VQ_FREE_AT);
  store<u32>(vq, at + 1 == load<u32>(vq, VQ_SIZE) ? 0 : at + 1, VQ_FREE_AT);
  store<u32>(vq, load<u32>(vq, VQ_FREE_COUNT) - 1, VQ_FREE_COUNT);
  return load<u16>(<usize>load<u32>(vq, VQ_FREE_ENTRIES) + (at << 1));
}

/** Notes the count of one chain, whose entries are free once it is published. */
export function giveEntry(vq: usize, log: usize, entry: u32, used: u64): void {
  const size = load<u32>(vq, VQ_SIZE);
  const free: usize = load<u32>(vq, VQ_FREE_ENTRIES);
  let at = entryOf(log, entry);
  store<u64>(at, used, LOG_ENTRY_USED);
  let waiting = load<u32>(vq, VQ_FREE_COUNT) + load<u32>(vq, VQ_FREE_GIVEN);
  let given = load<u32>(vq, VQ_FREE_GIVEN);
  // A file that somebody else writes meanwhile must not lead outside of private memory.
  for (let left = load<u32>(at, LOG_ENTRY_HEAD) >> 16; left != 0 && waiting < size; left--, waiting++, given++) {
    store<u16>(free + (((load<u32>(vq, VQ_FREE_AT) + waiting) % size) << 1), entry);
    entry = min(load<u32>(at, LOG_ENTRY_NEXT), size - 1);
    at = entryOf(log, entry);
  }
  store<u32>(vq, given, VQ_FREE_GIVEN);
}

/** Frees the entries of all that was given back. */
// @ts-ignore: decorator
@inline
export function freeGiven(vq: usize): void {
  store<u32>(vq, load<u32>(vq, VQ_FREE_COUNT) + load<u32>(vq, VQ_FREE_GIVEN), VQ_FREE_COUNT);
  store<u32>(vq, 0, VQ_FREE_GIVEN);
}
