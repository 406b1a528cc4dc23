// IOVA domain: bounce buffers in place of a driver's memory, as VDUSE's MMU-based IOMMU driver has them ("MMU-based IOMMU
// Driver", iova_domain.c). The device is shown whole pages that belong to nobody else; what a request needs is copied there
// when it is mapped and back when it is done, by direction. One thread runs a domain: the one that runs the driver's queues.
//
// The kernel zeroes a bounce page once, when it is allocated, so that later requests show what earlier ones left there. Here
// a page holds nothing of the driver's but what is mapped: whatever was copied into it is zeroed at unmap, not at the next
// map, because the device can look in between. What is left over is the device's own writing.

import { copy } from './copy';
import {
  BOUNCE_MAP_BYTES,
  BOUNCE_MAP_DIRECTION,
  BOUNCE_MAP_ORIG,
  BOUNCE_MAP_SIZE,
  DMA_FROM_DEVICE,
  DMA_TO_DEVICE,
  DOMAIN_BITMAP,
  DOMAIN_BOUNCE,
  DOMAIN_FREE_FROM,
  DOMAIN_MAPS,
  DOMAIN_PAGES,
  PAGE_SIZE,
} from './layout';

/** Pages of one word of the bitmap. */
const WORD_PAGES: u32 = 64;

/** Gives `bytes` bytes at `linear` pages of their own: the linear address of the first, 0 when no row of free pages is as long. */
export function mapPage(domain: usize, linear: u32, bytes: u32, direction: u32): u32 {
  const pages = pagesOf(bytes);
  const page = findFree(domain, pages);
  if (page == load<u32>(domain, DOMAIN_PAGES)) return 0;
  mark(domain, page, pages, true);
  const map = <usize>load<u32>(domain, DOMAIN_MAPS) + page * BOUNCE_MAP_SIZE;
  store<u32>(map, linear, BOUNCE_MAP_ORIG);
  store<u32>(map, bytes, BOUNCE_MAP_BYTES);
  store<u32>(map, direction, BOUNCE_MAP_DIRECTION);
  const bounce = load<u32>(domain, DOMAIN_BOUNCE) + page * PAGE_SIZE;
  syncSingleForDevice(domain, bounce, 0, bytes);
  return bounce;
}

/** Copies `bytes` bytes from `offset` of the mapping at `bounce` to the device, unless it only writes there. */
export function syncSingleForDevice(domain: usize, bounce: u32, offset: u32, bytes: u32): void {
  const map = mapAt(domain, bounce);
  if (load<u32>(map, BOUNCE_MAP_DIRECTION) == DMA_FROM_DEVICE) return;
  copy(bounce + offset, load<u32>(map, BOUNCE_MAP_ORIG) + offset, bytes);
}

/** Copies `bytes` bytes from `offset` of the mapping at `bounce` back from the device, unless it only reads there. */
export function syncSingleForCpu(domain: usize, bounce: u32, offset: u32, bytes: u32): void {
  const map = mapAt(domain, bounce);
  if (load<u32>(map, BOUNCE_MAP_DIRECTION) == DMA_TO_DEVICE) return;
  copy(load<u32>(map, BOUNCE_MAP_ORIG) + offset, bounce + offset, bytes);
}

/**
 * Ends the mapping at `bounce`: its pages are free. Nothing comes back but what was synchronised before, which is as much as
 * the device says that it has written (the kernel's DMA_ATTR_SKIP_CPU_SYNC): the rest is no data.
 */
export function unmapPage(domain: usize, bounce: u32): void {
  const map = mapAt(domain, bounce);
  const bytes = load<u32>(map, BOUNCE_MAP_BYTES);
  if (load<u32>(map, BOUNCE_MAP_DIRECTION) != DMA_FROM_DEVICE) memory.fill(bounce, 0, bytes);
  mark(domain, pageAt(domain, bounce), pagesOf(bytes), false);
}

// @ts-ignore: decorator
@inline
function pagesOf(bytes: u32): u32 {
  return (bytes + (PAGE_SIZE - 1)) / PAGE_SIZE;
}

// @ts-ignore: decorator
@inline
function pageAt(domain: usize, bounce: u32): u32 {
  return (bounce - load<u32>(domain, DOMAIN_BOUNCE)) / PAGE_SIZE;
}

/** The entry of the mapping whose first page is at `bounce`. */
// @ts-ignore: decorator
@inline
function mapAt(domain: usize, bounce: u32): usize {
  return <usize>load<u32>(domain, DOMAIN_MAPS) + pageAt(domain, bounce) * BOUNCE_MAP_SIZE;
}

/**
 * The lowest of `count` free pages in a row; DOMAIN_PAGES if there are none. The lowest, so that light load stays in few pages,
 * which the caches keep.
 */
function findFree(domain: usize, count: u32): u32 {
  const end = load<u32>(domain, DOMAIN_PAGES);
  let page = next(domain, load<u32>(domain, DOMAIN_FREE_FROM), end, false);
  store<u32>(domain, page, DOMAIN_FREE_FROM);
  while (page + count <= end) {
    const taken = next(domain, page, page + count, true);
    if (taken == page + count) return page;
    page = next(domain, taken, end, false);
  }
  return end;
}

/** The first page in [from, end) that is taken, or free; `end` if none is. */
function next(domain: usize, from: u32, end: u32, taken: bool): u32 {
  const bitmap: usize = load<u32>(domain, DOMAIN_BITMAP);
  const flip: u64 = taken ? 0 : u64.MAX_VALUE;
  let word = from / WORD_PAGES;
  let mask = u64.MAX_VALUE << (from % WORD_PAGES);
  while (word * WORD_PAGES < end) {
    const bits = (load<u64>(bitmap + (word << 3)) ^ flip) & mask;
    if (bits) return min(word * WORD_PAGES + <u32>ctz(bits), end);
    mask = u64.MAX_VALUE;
    word++;
  }
  return end;
}

/** Makes `count` pages from `first` taken or free. */
function mark(domain: usize, first: u32, count: u32, taken: bool): void {
  const bitmap: usize = load<u32>(domain, DOMAIN_BITMAP);
  const end = first + count;
  for (let page = first; page < end; ) {
    const at = bitmap + ((page / WORD_PAGES) << 3);
    const pages = min(WORD_PAGES - (page % WORD_PAGES), end - page);
    const mask = (u64.MAX_VALUE >> (WORD_PAGES - pages)) << (page % WORD_PAGES);
    store<u64>(at, taken ? load<u64>(at) | mask : load<u64>(at) & ~mask);
    page += pages;
  }
  if (!taken && first < load<u32>(domain, DOMAIN_FREE_FROM)) store<u32>(domain, first, DOMAIN_FREE_FROM);
}
