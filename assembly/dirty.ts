// Dirty pages: which pages of its memory a driver's device has written, for whoever copies that memory elsewhere while the
// device runs. Marked after the bytes are written, fetched by an exchange: who fetches a mark and then reads the page sees
// those bytes, or finds the page marked again. And marked before the used index says that they are there, so that a
// driver that has seen a request complete has all of its marks, but for those of the used ring itself, which follow.
//
// Whoever writes to driver memory asks dirtyTracked once a burst, and calls dirtyMark for what it has written: the used
// ring (split/device.ts, packed/device.ts), data and status of a request (models/blk-request.ts, request.ts).

import { iotlbFindLinear, iotlbNext } from './iotlb';
import {
  DIRTY_BITS_PER_PAGE,
  DIRTY_RANGE_PAGE,
  DIRTY_RANGE_PAGES,
  DIRTY_RANGE_SIZE,
  IOTLB_DIRTY,
  IOTLB_ENTRY_BYTES,
  IOTLB_ENTRY_IOVA,
  IOTLB_ENTRY_LINEAR,
  IOTLB_LOG_BASE,
  IOTLB_LOG_BYTES,
  PAGE_SIZE,
} from './layout';

/** Bits of the words that bitmaps are read and written by. */
const WORD_BITS: u64 = 32;
/** Ranges that one word can give. */
const WORD_RANGES: u32 = 16;

/** Whether writes through this IOTLB are to be marked. The device's bitmap and the driver's log are one test. */
// @ts-ignore: decorator
@inline
export function dirtyTracked(iotlb: usize): bool {
  return load<u64>(iotlb, IOTLB_DIRTY) != 0;
}

/** Marks the pages of [linear, linear + bytes), which have just been written; what is no driver memory has no marks. */
export function dirtyMark(iotlb: usize, linear: usize, bytes: u32): void {
  const bitmap: usize = load<u32>(iotlb, IOTLB_DIRTY);
  const log: usize = load<u32>(iotlb, IOTLB_LOG_BASE);
  const logEnd = <u64>load<u32>(iotlb, IOTLB_LOG_BYTES) << 3;
  while (bytes) {
    const entry = iotlbFindLinear(iotlb, linear);
    if (entry == 0) return;
    const offset = linear - load<u32>(entry, IOTLB_ENTRY_LINEAR);
    const piece = <u32>min(<u64>bytes, load<u64>(entry, IOTLB_ENTRY_BYTES) - <u64>offset);
    const iova = load<u64>(entry, IOTLB_ENTRY_IOVA) + <u64>offset;
    const first = pageOf(iova);
    const last = pageOf(iova + <u64>(piece - 1));
    if (bitmap) {
      const bit = firstBit(entry) - pageOf(load<u64>(entry, IOTLB_ENTRY_IOVA));
      setBits(bitmap, bit + first, bit + last);
    }
    if (log != 0 && first < logEnd) setBits(log, first, min(last, logEnd - 1));
    linear += piece;
    bytes -= piece;
  }
}

/**
 * Fetches and clears the marks of the regions that end at or after `from`, as ascending ranges of pages of IOVA, at most
 * `capacity` of them, at `ranges`: how many. There may be more, from the end of the last range on, unless it was none.
 */
export function dirtyFetch(iotlb: usize, from: u64, ranges: usize, capacity: u32): u32 {
  const bitmap: usize = load<u32>(iotlb, IOTLB_DIRTY);
  let range = ranges - DIRTY_RANGE_SIZE;
  const full = ranges + (capacity - WORD_RANGES) * DIRTY_RANGE_SIZE;
  // Behind the last page of the last range.
  let end: u64 = 0;
  for (let entry = iotlbNext(iotlb, from); entry != 0; entry = iotlbNext(iotlb, from)) {
    const iova = load<u64>(entry, IOTLB_ENTRY_IOVA);
    const last = iova + (load<u64>(entry, IOTLB_ENTRY_BYTES) - 1);
    // Modulo 2^64: page of IOVA = bit + page.
    const page = pageOf(iova) - firstBit(entry);
    const stop = pageOf(last) - page + 1;
    let bit = pageOf(max(from, iova)) - page;
    while (bit < stop) {
      const next = min((bit | (WORD_BITS - 1)) + 1, stop);
      let taken = takeBits(bitmap, bit, next - 1);
      const first = page + (bit & ~(WORD_BITS - 1));
      for (; taken; taken &= taken - 1) {
        const dirty = first + <u64>ctz(taken);
        // The end of a region and the start of the next may share a page.
        if (dirty < end) continue;
        if (dirty == end && range >= ranges) {
          store<u64>(range, load<u64>(range, DIRTY_RANGE_PAGES) + 1, DIRTY_RANGE_PAGES);
        } else {
          range += DIRTY_RANGE_SIZE;
          store<u64>(range, dirty, DIRTY_RANGE_PAGE);
          store<u64>(range, 1, DIRTY_RANGE_PAGES);
        }
        end = dirty + 1;
      }
      if (range >= full) return <u32>(range - ranges) / DIRTY_RANGE_SIZE + 1;
      bit = next;
    }
    from = last + 1;
    if (from == 0) break;
  }
  return <u32>(range + DIRTY_RANGE_SIZE - ranges) / DIRTY_RANGE_SIZE;
}

// @ts-ignore: decorator
@inline
function pageOf(iova: u64): u64 {
  return iova / PAGE_SIZE;
}

/** The bit of the device's bitmap for the first page of a region. */
// @ts-ignore: decorator
@inline
function firstBit(entry: usize): u64 {
  return <u64>(load<u32>(entry, IOTLB_ENTRY_LINEAR) / PAGE_SIZE) * DIRTY_BITS_PER_PAGE;
}

/** Sets bits [first, last], a word at a time. The atomic read-modify-write comes after the bytes that it speaks of. */
// @ts-ignore: decorator
@inline
function setBits(bitmap: usize, first: u64, last: u64): void {
  while (true) {
    const end = min(first | (WORD_BITS - 1), last);
    atomic.or<u32>(wordOf(bitmap, first), maskOf(first, end));
    if (end == last) return;
    first = end + 1;
  }
}

/** Clears bits [first, last] of one word: those that were set, at their places in the word. */
// @ts-ignore: decorator
@inline
function takeBits(bitmap: usize, first: u64, last: u64): u32 {
  const word = wordOf(bitmap, first);
  const mask = maskOf(first, last);
  // What is marked after this look is marked for the next fetch.
  if ((atomic.load<u32>(word) & mask) == 0) return 0;
  return atomic.and<u32>(word, ~mask) & mask;
}

// @ts-ignore: decorator
@inline
function wordOf(bitmap: usize, bit: u64): usize {
  return bitmap + (<usize>(bit / WORD_BITS) << 2);
}

/** Bits [first, last] of the word that has both. */
// @ts-ignore: decorator
@inline
function maskOf(first: u64, last: u64): u32 {
  return (u32.MAX_VALUE >> (31 - <u32>(last - first))) << <u32>(first & (WORD_BITS - 1));
}
