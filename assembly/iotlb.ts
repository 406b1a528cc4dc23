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
  IOTLB_ENTRY_ORDER,
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
  for (let i = count; i > at; i--) move(iotlb, i - 1, i);
  store<u64>(entry, iova, IOTLB_ENTRY_IOVA);
  store<u64>(entry, bytes, IOTLB_ENTRY_BYTES);
  store<u32>(entry, linear, IOTLB_ENTRY_LINEAR);
  store<u32>(entry, ~access & ACCESS_ALL, IOTLB_ENTRY_DENY);
  orderAdded(iotlb, at, count);
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
  for (let i = to; i < count; i++) move(iotlb, i, from + i - to);
  orderRemoved(iotlb, from, to, count);
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

/** The entry whose region contains the linear address, or 0. */
export function iotlbFindLinear(iotlb: usize, linear: usize): usize {
  // The last region that starts at or before it: windows do not overlap.
  let low: u32 = 0;
  let high = load<u32>(iotlb, IOTLB_COUNT);
  while (low < high) {
    const middle = (low + high) >> 1;
    if (linearOf(iotlb, middle) <= linear) low = middle + 1;
    else high = middle;
  }
  if (low == 0) return 0;
  const entry = entryAt(iotlb, orderAt(iotlb, low - 1));
  return <u64>(linear - load<u32>(entry, IOTLB_ENTRY_LINEAR)) < load<u64>(entry, IOTLB_ENTRY_BYTES) ? entry : 0;
}

/** The first entry whose region ends at or after `iova`; 0 behind the last. */
export function iotlbNext(iotlb: usize, iova: u64): usize {
  const at = lowerBound(iotlb, iova);
  return at < load<u32>(iotlb, IOTLB_COUNT) ? entryAt(iotlb, at) : 0;
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

/** Moves a region to another place of the table, without what the place says of the order. */
// @ts-ignore: decorator
@inline
function move(iotlb: usize, from: u32, to: u32): void {
  v128.store(entryAt(iotlb, to), v128.load(entryAt(iotlb, from)));
  store<u64>(entryAt(iotlb, to), load<u64>(entryAt(iotlb, from), IOTLB_ENTRY_LINEAR), IOTLB_ENTRY_LINEAR);
}

/** Index of the region that is n-th by linear address. */
// @ts-ignore: decorator
@inline
function orderAt(iotlb: usize, n: u32): u32 {
  return load<u32>(entryAt(iotlb, n), IOTLB_ENTRY_ORDER);
}

// @ts-ignore: decorator
@inline
function setOrder(iotlb: usize, n: u32, index: u32): void {
  store<u32>(entryAt(iotlb, n), index, IOTLB_ENTRY_ORDER);
}

/** Where the region starts that is n-th by linear address. */
// @ts-ignore: decorator
@inline
function linearOf(iotlb: usize, n: u32): usize {
  return load<u32>(entryAt(iotlb, orderAt(iotlb, n)), IOTLB_ENTRY_LINEAR);
}

/** Puts the region at index `at`, which has just been added to `count` others, in its place in the order. */
function orderAdded(iotlb: usize, at: u32, count: u32): void {
  for (let n: u32 = 0; n < count; n++) {
    const index = orderAt(iotlb, n);
    if (index >= at) setOrder(iotlb, n, index + 1);
  }
  const linear: usize = load<u32>(entryAt(iotlb, at), IOTLB_ENTRY_LINEAR);
  let n = count;
  for (; n > 0 && linearOf(iotlb, n - 1) > linear; n--) setOrder(iotlb, n, orderAt(iotlb, n - 1));
  setOrder(iotlb, n, at);
}

/** Takes the regions [from, to) of `count`, which have just been removed, out of the order. */
function orderRemoved(iotlb: usize, from: u32, to: u32, count: u32): void {
  let kept: u32 = 0;
  for (let n: u32 = 0; n < count; n++) {
    const index = orderAt(iotlb, n);
    if (index >= from && index < to) continue;
    setOrder(iotlb, kept++, index < from ? index : index - (to - from));
  }
}
