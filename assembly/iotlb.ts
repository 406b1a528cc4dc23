// IOTLB: an interval table from 64-bit IOVAs to linear addresses, sorted, without overlaps. Searched by every queue of a
// device, changed by the control plane only while all of them are outside their gates.

import {
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  IOTLB_CAPACITY,
  IOTLB_COUNT,
  IOTLB_ENTRIES,
  IOTLB_ENTRY_BYTES,
  IOTLB_ENTRY_DENY,
  IOTLB_ENTRY_IOVA,
  IOTLB_ENTRY_LINEAR,
  IOTLB_ENTRY_SIZE,
  IOTLB_EXISTS,
  IOTLB_FULL,
  IOTLB_GENERATION,
  IOTLB_INVALID,
  IOTLB_OK,
} from './layout';

const ACCESS_ALL: u32 = IOTLB_ACCESS_READ | IOTLB_ACCESS_WRITE;

/** Empties a table that has room for `capacity` entries. */
export function iotlbInit(iotlb: usize, capacity: u32): void {
  store<u32>(iotlb, 0, IOTLB_COUNT);
  store<u32>(iotlb, capacity, IOTLB_CAPACITY);
  changed(iotlb);
}

/** Adds a region. `access` is what it permits, IOTLB_ACCESS_* bits; returns an IOTLB_* result. */
export function iotlbMap(iotlb: usize, iova: u64, bytes: u64, linear: u32, access: u32): u32 {
  // In u64 throughout: neither the IOVA nor the 32-bit linear range may wrap.
  const last = iova + (bytes - 1);
  if (bytes == 0 || last < iova || linear == 0 || bytes > 0x1_0000_0000 - <u64>linear) return IOTLB_INVALID;
  const at = lowerBound(iotlb, iova);
  const entry = entryAt(iotlb, at);
  const count = load<u32>(iotlb, IOTLB_COUNT);
  if (at < count && load<u64>(entry, IOTLB_ENTRY_IOVA) <= last) return IOTLB_EXISTS;
  if (count == load<u32>(iotlb, IOTLB_CAPACITY)) return IOTLB_FULL;
  memory.copy(entry + IOTLB_ENTRY_SIZE, entry, (count - at) * IOTLB_ENTRY_SIZE);
  store<u64>(entry, iova, IOTLB_ENTRY_IOVA);
  store<u64>(entry, bytes, IOTLB_ENTRY_BYTES);
  store<u32>(entry, linear, IOTLB_ENTRY_LINEAR);
  store<u32>(entry, ~access & ACCESS_ALL, IOTLB_ENTRY_DENY);
  store<u32>(iotlb, count + 1, IOTLB_COUNT);
  changed(iotlb);
  return IOTLB_OK;
}

/** Removes every region that overlaps [first, last], whole: vhost's INVALIDATE does not split either. Returns how many. */
export function iotlbUnmap(iotlb: usize, first: u64, last: u64): u32 {
  const from = lowerBound(iotlb, first);
  const count = load<u32>(iotlb, IOTLB_COUNT);
  let to = from;
  while (to < count && load<u64>(entryAt(iotlb, to), IOTLB_ENTRY_IOVA) <= last) to++;
  if (to == from) return 0;
  memory.copy(entryAt(iotlb, from), entryAt(iotlb, to), (count - to) * IOTLB_ENTRY_SIZE);
  store<u32>(iotlb, count - (to - from), IOTLB_COUNT);
  changed(iotlb);
  return to - from;
}

/** Linear address of [iova, iova + bytes) if it lies in one piece and `access` is permitted throughout, else 0. */
export function iotlbTranslate(iotlb: usize, iova: u64, bytes: u32, access: u32): u32 {
  let entry = iotlbFind(iotlb, iova);
  if (entry == 0) return 0;
  const linear = load<u32>(entry, IOTLB_ENTRY_LINEAR) + <u32>(iova - load<u64>(entry, IOTLB_ENTRY_IOVA));
  // Neighbouring regions count as one piece where they are neighbours in linear memory too.
  let covered: u64 = 0;
  while (true) {
    if (load<u32>(entry, IOTLB_ENTRY_DENY) & access) return 0;
    const offset = iova + covered - load<u64>(entry, IOTLB_ENTRY_IOVA);
    if (load<u32>(entry, IOTLB_ENTRY_LINEAR) + <u32>offset != linear + <u32>covered) return 0;
    covered += load<u64>(entry, IOTLB_ENTRY_BYTES) - offset;
    if (covered >= <u64>bytes) return linear;
    if (iova + covered < iova) return 0;
    entry = iotlbFind(iotlb, iova + covered);
    if (entry == 0) return 0;
  }
}

/** The entry whose region contains `iova`, or 0. */
export function iotlbFind(iotlb: usize, iova: u64): usize {
  const at = lowerBound(iotlb, iova);
  if (at == load<u32>(iotlb, IOTLB_COUNT)) return 0;
  const entry = entryAt(iotlb, at);
  return load<u64>(entry, IOTLB_ENTRY_IOVA) <= iova ? entry : 0;
}

/** Index of the first region that ends at or after `iova`. */
function lowerBound(iotlb: usize, iova: u64): u32 {
  let low: u32 = 0;
  let high = load<u32>(iotlb, IOTLB_COUNT);
  while (low < high) {
    const middle = (low + high) >> 1;
    const entry = entryAt(iotlb, middle);
    const last = load<u64>(entry, IOTLB_ENTRY_IOVA) + (load<u64>(entry, IOTLB_ENTRY_BYTES) - 1);
    if (last < iova) low = middle + 1;
    else high = middle;
  }
  return low;
}

// @ts-ignore: decorator
@inline
function entryAt(iotlb: usize, index: u32): usize {
  return iotlb + IOTLB_ENTRIES + index * IOTLB_ENTRY_SIZE;
}

function changed(iotlb: usize): void {
  store<u32>(iotlb, load<u32>(iotlb, IOTLB_GENERATION) + 1, IOTLB_GENERATION);
}
