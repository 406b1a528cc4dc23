import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { DISK_SECTORS, DRIVER_BYTES, DRIVER_IOVA, DRIVER_LINEAR, Ring } from './fixture.js';

const NEXT = 1;
const WRITE = 2;
const PAGE = BigInt(layout.PAGE_SIZE);
/** Bytes of a part of a request: up to here engine.wasm copies with stores of its own, which can be seen. */
const PART_BYTES = 256;

/** Linear addresses of the headers of a burst, and of the memory behind them. */
const HEADERS = DRIVER_LINEAR + 0x6000;
const BUFFERS = DRIVER_LINEAR + 0x8000;
/** The last is none. */
const TYPES = [
  virtio.VIRTIO_BLK_T_IN,
  virtio.VIRTIO_BLK_T_IN,
  virtio.VIRTIO_BLK_T_OUT,
  virtio.VIRTIO_BLK_T_GET_ID,
  virtio.VIRTIO_BLK_T_FLUSH,
  77,
];

/** A region behind the driver's memory. */
interface Region {
  iova: bigint;
  linear: number;
  bytes: number;
}

/** What the rings are in, a neighbour of its IOVAs that is none in memory, and one that is aligned to nothing. */
export const REGIONS: readonly Region[] = [
  { iova: DRIVER_IOVA, linear: DRIVER_LINEAR, bytes: 0x40000 },
  { iova: DRIVER_IOVA + 0x40000n, linear: DRIVER_LINEAR + 0x80000, bytes: 0x20000 },
  { iova: 0x12345_6e00n, linear: DRIVER_LINEAR + 0xc0200, bytes: 0x10347 },
];

/** Page of an IOVA. */
export function pageOf(iova: bigint): number {
  return Number(iova / PAGE);
}

/** Pages of [iova, iova + bytes). */
export function pagesOf(iova: bigint, bytes: number): number[] {
  if (bytes === 0) return [];
  const first = pageOf(iova);
  return Array.from({ length: pageOf(iova + BigInt(bytes) - 1n) - first + 1 }, (_, i) => first + i);
}

/** A ring whose driver's memory is REGIONS, and what its device has marked. */
export class DirtyRing extends Ring {
  readonly #dirty: number;

  constructor(options: ConstructorParameters<typeof Ring>[0] = {}) {
    super(options);
    this.engine.iotlbUnmap(this.iotlb, 0n, 2n ** 64n - 1n);
    for (const { iova, linear, bytes } of REGIONS) this.map(iova, linear, bytes);
    const bits = (this.u8.length / layout.PAGE_SIZE) * layout.DIRTY_BITS_PER_PAGE;
    this.#dirty = this.allocate(layout.DIRTY_BITMAP + bits / 8);
  }

  track(on: boolean): void {
    this.set(this.iotlb, { [layout.IOTLB_DIRTY]: on ? this.#dirty + layout.DIRTY_BITMAP : 0 });
  }

  /** Marks in a log, too, that begins at `linear`. */
  log(linear: number, bytes: number): void {
    this.set(this.iotlb, { [layout.IOTLB_LOG_BASE]: linear, [layout.IOTLB_LOG_BYTES]: bytes });
  }

  /** Ranges of pages that have been marked since the last fetch, `capacity` at a time. */
  fetchRanges(
    capacity = layout.DIRTY_RANGES_CAPACITY,
    engine = this.engine,
  ): [page: number, pages: number][] {
    const ranges: [number, number][] = [];
    for (let from = 0n; ; ) {
      const count = engine.dirtyFetch(this.iotlb, from, this.#dirty, capacity);
      if (count === 0) return ranges;
      for (let i = 0; i < count; i++) {
        const at = this.#dirty + i * layout.DIRTY_RANGE_SIZE;
        const page = Number(this.data.getBigUint64(at + layout.DIRTY_RANGE_PAGE, true));
        ranges.push([page, Number(this.data.getBigUint64(at + layout.DIRTY_RANGE_PAGES, true))]);
      }
      const [page, pages] = ranges.at(-1)!;
      from = BigInt(page + pages) * PAGE;
    }
  }

  /** The same, page by page. */
  fetch(engine = this.engine): number[] {
    return this.fetchRanges(layout.DIRTY_RANGES_CAPACITY, engine).flatMap(([page, pages]) =>
      Array.from({ length: pages }, (_, i) => page + i),
    );
  }

  /** Page of IOVA of a place in the driver's memory. */
  pageAt(linear: number): number | undefined {
    const region = REGIONS.find((one) => one.linear <= linear && linear < one.linear + one.bytes);
    return region && pageOf(region.iova + BigInt(linear - region.linear));
  }

  /** Pages of IOVA of which `before`, a copy of all of the driver's memory, has other bytes. */
  changedSince(before: Uint8Array): number[] {
    const pages = new Set<number>();
    for (let i = 0; i < DRIVER_BYTES; i++)
      if (before[i] !== this.u8[DRIVER_LINEAR + i]) pages.add(this.pageAt(DRIVER_LINEAR + i)!);
    return [...pages];
  }

  /** A copy of all of the driver's memory. */
  snapshot(): Uint8Array {
    return this.u8.slice(DRIVER_LINEAR, DRIVER_LINEAR + DRIVER_BYTES);
  }
}

/** A driver that offers random requests and knows which pages their device has to write. */
export class RandomRequests {
  readonly #ring: DirtyRing;
  readonly #random: (n: number) => number;

  constructor(ring: DirtyRing, random: (n: number) => number) {
    this.#ring = ring;
    this.#random = random;
  }

  /** Offers up to `max` requests: the pages of what the device writes when it answers them, but for its ring. */
  offer(max: number): Set<number> {
    const pages = new Set<number>();
    const heads: number[] = [];
    let next = 0;
    for (let i = 0; i < max; i++) {
      const parts = this.#parts(i);
      if (next + parts.length > this.#ring.size) break;
      heads.push(next);
      for (const [at, { iova, bytes, writes }] of parts.entries()) {
        const isLast = at === parts.length - 1;
        const flags = (writes !== undefined ? WRITE : 0) | (isLast ? 0 : NEXT);
        this.#ring.descriptor(next, iova, bytes, flags, isLast ? 0 : next + 1);
        for (const page of pagesOf(iova, writes ?? 0)) pages.add(page);
        next++;
      }
    }
    this.#ring.offer(...heads);
    return pages;
  }

  /** Parts of request `index` of a burst; `writes`, of those that the device may write: how many bytes it will. */
  #parts(index: number): { iova: bigint; bytes: number; writes?: number }[] {
    const type = TYPES[this.#random(TYPES.length)]!;
    const header = HEADERS + index * virtio.VIRTIO_BLK_HEADER_SIZE;
    this.#ring.data.setUint32(header + virtio.VIRTIO_BLK_HEADER_TYPE, type, true);
    const sector = BigInt(this.#random(DISK_SECTORS - 3));
    this.#ring.data.setBigUint64(header + virtio.VIRTIO_BLK_HEADER_SECTOR, sector, true);
    const sectors = 1 + this.#random(3);
    let left = 0;
    if (type === virtio.VIRTIO_BLK_T_IN) left = sectors * virtio.VIRTIO_BLK_SECTOR_SIZE;
    if (type === virtio.VIRTIO_BLK_T_GET_ID) left = virtio.VIRTIO_BLK_ID_BYTES;
    const data = Array.from({ length: (sectors * virtio.VIRTIO_BLK_SECTOR_SIZE) / PART_BYTES }, () => {
      const iova = this.#place(PART_BYTES);
      if (type === virtio.VIRTIO_BLK_T_OUT) return { iova, bytes: PART_BYTES };
      const writes = Math.min(left, PART_BYTES);
      left -= writes;
      return { iova, bytes: PART_BYTES, writes };
    });
    return [
      { iova: this.#ring.iova(header), bytes: virtio.VIRTIO_BLK_HEADER_SIZE },
      ...data,
      { iova: this.#place(1), bytes: 1, writes: 1 },
    ];
  }

  /** IOVA of `bytes` bytes behind rings and headers; the ends of regions and pages are tried often. */
  #place(bytes: number): bigint {
    const [first, second, odd] = REGIONS as [Region, Region, Region];
    const isOdd = this.#random(4) === 0;
    // The first two are neighbours, so that a part may lie in both.
    const start = isOdd ? odd.iova : first.iova + BigInt(BUFFERS - first.linear);
    const end = isOdd ? odd.iova + BigInt(odd.bytes) : second.iova + BigInt(second.bytes);
    const room = Number(end - start) - bytes;
    const border = Number(second.iova - start) - (bytes >> 1);
    const ends = [0, room, isOdd ? room : border, layout.PAGE_SIZE - bytes, layout.PAGE_SIZE - (bytes >> 1)];
    return start + BigInt(this.#random(4) === 0 ? ends[this.#random(ends.length)]! : this.#random(room));
  }
}
