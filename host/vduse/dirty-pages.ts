import {
  DIRTY_BITMAP,
  DIRTY_BITS_PER_PAGE,
  DIRTY_RANGE_PAGE,
  DIRTY_RANGE_PAGES,
  DIRTY_RANGE_SIZE,
  DIRTY_RANGES,
  DIRTY_RANGES_CAPACITY,
  IOTLB_DIRTY,
  PAGE_SIZE,
} from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';

const IOVA_END = 1n << 64n;

/** Pages of a driver's memory that its device has written. */
export interface DirtyRange {
  /** Address space. */
  asid: number;
  /** IOVA of the first page, a multiple of 4096. */
  iova: bigint;
  /** Pages of 4 KiB. */
  pages: number;
}

/** What is done with the dirty pages of a device: begin with none, give and forget them, give up. */
export type DirtyOperation = 'start' | 'fetch' | 'stop';

/** The pages of one address space that the device has written: marks of regions, and those of regions that have gone. */
export class DirtyPages {
  readonly #aperture: Aperture;
  readonly #asid: number;
  readonly #iotlb: number;
  readonly #dirty: number;
  #started = false;
  /** Of regions that have gone. */
  #kept: DirtyRange[] = [];

  /** Allocates the DIRTY block of a device: its linear address. */
  static allocate(aperture: Aperture): number {
    return aperture.allocate(DIRTY_BITMAP + ((aperture.bytes / PAGE_SIZE) * DIRTY_BITS_PER_PAGE) / 8);
  }

  /** `iotlb` is that of the address space, `dirty` the device's DIRTY block. */
  constructor(aperture: Aperture, asid: number, iotlb: number, dirty: number) {
    this.#aperture = aperture;
    this.#asid = asid;
    this.#iotlb = iotlb;
    this.#dirty = dirty;
  }

  /** Has writes marked, beginning with nothing dirty. Queues must be paused: each then writes before, or is marked. */
  start(): void {
    if (this.#started) this.#take();
    this.#kept = [];
    this.#started = true;
    this.#mark(this.#dirty + DIRTY_BITMAP);
  }

  /** Pages that were written since the last fetch, or the start, ascending. Queues may run. */
  fetch(): DirtyRange[] {
    const kept = this.#kept;
    this.#kept = [];
    return join([...kept, ...this.#take()]);
  }

  /** Keeps the marks of regions that are about to go. Their queues must be paused. */
  keep(): void {
    if (this.#started) this.#kept = join([...this.#kept, ...this.#take()]);
  }

  /** Has no writes marked, and forgets what is dirty. Queues must be paused. */
  stop(): void {
    if (this.#started) this.#take();
    this.#kept = [];
    this.#started = false;
    this.#mark(0);
  }

  #mark(bitmap: number): void {
    this.#aperture.data.setUint32(this.#iotlb + IOTLB_DIRTY, bitmap, true);
  }

  #take(): DirtyRange[] {
    const { data, engine } = this.#aperture;
    const table = this.#dirty + DIRTY_RANGES;
    const ranges: DirtyRange[] = [];
    for (let from = 0n; from < IOVA_END; ) {
      const count = engine.dirtyFetch(this.#iotlb, from, table, DIRTY_RANGES_CAPACITY);
      if (count === 0) break;
      for (let at = table; at < table + count * DIRTY_RANGE_SIZE; at += DIRTY_RANGE_SIZE) {
        const iova = data.getBigUint64(at + DIRTY_RANGE_PAGE, true) * BigInt(PAGE_SIZE);
        const pages = Number(data.getBigUint64(at + DIRTY_RANGE_PAGES, true));
        ranges.push({ asid: this.#asid, iova, pages });
        from = iova + BigInt(pages * PAGE_SIZE);
      }
    }
    return ranges;
  }
}

/** Ranges in ascending order, no two of which touch. */
function join(ranges: DirtyRange[]): DirtyRange[] {
  const joined: DirtyRange[] = [];
  for (const range of ranges.sort((a, b) => (a.iova < b.iova ? -1 : a.iova > b.iova ? 1 : 0))) {
    const last = joined.at(-1);
    const gap = last ? Number(range.iova - last.iova) / PAGE_SIZE : 0;
    if (last && gap <= last.pages) last.pages = Math.max(last.pages, gap + range.pages);
    else joined.push({ ...range });
  }
  return joined;
}
