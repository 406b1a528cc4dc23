import { IOTLB_ENTRIES, IOTLB_ENTRY_SIZE, IOTLB_EXISTS, IOTLB_OK, PAGE_SIZE } from '../../assembly/layout.js';
import { APERTURE_MAX_BYTES, type Aperture, type Window } from '../aperture/aperture.js';
import { isSystemError, RingbellError } from '../errors.js';
import type { Protection } from '../native/addon.js';
import { loadAddon } from '../native/addon.js';
import type { Decoded } from '../uapi/struct.js';
import {
  VDUSE_ACCESS_RO,
  VDUSE_ACCESS_RW,
  VDUSE_ACCESS_WO,
  VDUSE_IOTLB_GET_FD,
  vduseIotlbEntry,
} from '../uapi/vduse.js';
import type { VduseFile } from './file.js';

/** Regions; a driver that maps more at once runs into ERR_APERTURE_FULL. */
const REGIONS_MAXIMUM = 4096;

const PROTECTIONS: Readonly<Record<number, Protection>> = {
  [VDUSE_ACCESS_RO]: 'r',
  [VDUSE_ACCESS_WO]: 'w',
  [VDUSE_ACCESS_RW]: 'rw',
};

/** A region of the driver's memory that the transport answered with: `last` is the last byte's IOVA. */
export interface Region {
  start: bigint;
  last: bigint;
  /** VDUSE_ACCESS_*, which are IOTLB_ACCESS_* bits too. */
  access: number;
  window: Window;
  /** Linear address of the byte at `start`. */
  linear: number;
}

/**
 * The driver's memory as this device sees it: regions, each a window of the aperture and an entry of the engine's IOTLB.
 * They come one by one, when first needed, because a bounce region does not exist before its first use; they go whole.
 */
export class DriverMemory {
  readonly #file: VduseFile;
  readonly #aperture: Aperture;
  readonly #iotlb: number;
  readonly #regions: Region[] = [];

  /** Allocates an IOTLB for one device: its linear address. */
  static allocateIotlb(aperture: Aperture): number {
    const iotlb = aperture.allocate(IOTLB_ENTRIES + REGIONS_MAXIMUM * IOTLB_ENTRY_SIZE);
    aperture.engine.iotlbInit(iotlb, REGIONS_MAXIMUM);
    return iotlb;
  }

  /** Windows are cut from `aperture`, which must be this thread's. */
  constructor(file: VduseFile, aperture: Aperture, iotlb: number) {
    this.#file = file;
    this.#aperture = aperture;
    this.#iotlb = iotlb;
  }

  /** Linear address of a range that is mapped in one piece with that access, else 0. */
  translate(iova: bigint, bytes: number, access: number): number {
    return this.#aperture.engine.iotlbTranslate(this.#iotlb, iova, bytes, access) >>> 0;
  }

  /**
   * Gets the region that contains `iova` from the transport, as a window that no queue knows yet: undefined if there is
   * none. Queues may run meanwhile. Throws ERR_APERTURE_FULL when it does not fit.
   */
  async fetch(iova: bigint): Promise<Region | undefined> {
    const entry = vduseIotlbEntry.encode({ start: iova, last: iova });
    let fd: number;
    try {
      fd = await this.#file.ioctl(VDUSE_IOTLB_GET_FD, entry);
    } catch (error) {
      if (isSystemError(error, 'EINVAL')) return undefined;
      throw error;
    }
    // The kernel's descriptor is not close-on-exec: it must not live for longer than the mapping takes.
    try {
      return this.#map(fd, vduseIotlbEntry.decode(entry), iova);
    } finally {
      loadAddon().close(fd);
    }
  }

  /** Shows a fetched region to the queues, which must be stopped: false, and its window is gone, if it overlaps others. */
  add(region: Region): boolean {
    const { start, last, linear, access } = region;
    const result = this.#aperture.engine.iotlbMap(this.#iotlb, start, last - start + 1n, linear, access);
    if (result === IOTLB_OK) {
      this.#regions.push(region);
      return true;
    }
    this.#aperture.unmap(region.window);
    if (result === IOTLB_EXISTS) return false;
    throw new RingbellError('ERR_APERTURE_FULL', `no room for more than ${REGIONS_MAXIMUM} IOVA regions`);
  }

  /** Forgets the regions that overlap [first, last]. Their queues must be stopped: nothing may be using a window that goes. */
  drop(first: bigint, last: bigint): void {
    this.#aperture.engine.iotlbUnmap(this.#iotlb, first, last);
    for (let index = this.#regions.length - 1; index >= 0; index--) {
      const region = this.#regions[index]!;
      if (region.last < first || region.start > last) continue;
      this.#regions.splice(index, 1);
      this.#aperture.unmap(region.window);
    }
  }

  #map(
    fd: number,
    { offset, start, last, perm }: Decoded<typeof vduseIotlbEntry>,
    iova: bigint,
  ): Region | undefined {
    const protection = PROTECTIONS[perm];
    if (protection === undefined || iova < start || iova > last) return undefined;
    // A mapping starts at a page of the file, the region perhaps behind it.
    const skew = offset % BigInt(PAGE_SIZE);
    const bytes = skew + (last - start) + 1n;
    if (bytes > APERTURE_MAX_BYTES)
      throw new RingbellError(
        'ERR_APERTURE_FULL',
        `a region of ${bytes} bytes does not fit into an aperture`,
      );
    const window = this.#aperture.map({ fd, offset: offset - skew }, Number(bytes), protection);
    return { start, last, access: perm, window, linear: window.linear + Number(skew) };
  }
}
