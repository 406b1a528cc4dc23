import { IOTLB_ENTRIES, IOTLB_ENTRY_SIZE, IOTLB_EXISTS, IOTLB_OK, PAGE_SIZE } from '../../assembly/layout.js';
import { APERTURE_MAX_BYTES, type Aperture } from '../aperture/aperture.js';
import { isSystemError, RingbellError } from '../errors.js';
import type { Protection } from '../native/addon.js';
import { loadAddon } from '../native/addon.js';
import type { Decoded } from '../uapi/struct.js';
import {
  VDUSE_ACCESS_RO,
  VDUSE_ACCESS_RW,
  VDUSE_ACCESS_WO,
  VDUSE_API_VERSION_1,
  VDUSE_IOTLB_GET_FD,
  VDUSE_IOTLB_GET_FD2,
  VDUSE_IOTLB_GET_INFO,
  VDUSE_IOVA_CAP_UMEM,
  vduseIotlbEntry,
  vduseIotlbEntryV2,
  vduseIovaInfo,
} from '../uapi/vduse.js';
import type { VduseDeviceLayout, VduseDeviceListener } from './device-layout.js';
import { DirtyPages } from './dirty-pages.js';
import type { VduseFile } from './file.js';
import { UserMemory } from './user-memory.js';

/** Regions of one address space; a driver that maps more at once runs into ERR_APERTURE_FULL. */
const REGIONS_MAXIMUM = 4096;

const PROTECTIONS: Readonly<Record<number, Protection>> = {
  [VDUSE_ACCESS_RO]: 'r',
  [VDUSE_ACCESS_WO]: 'w',
  [VDUSE_ACCESS_RW]: 'rw',
};

type Entry = Decoded<typeof vduseIotlbEntry>;

/** A region of the driver's memory that the transport answered with: `last` is the last byte's IOVA. */
export interface Region {
  start: bigint;
  last: bigint;
  /** VDUSE_ACCESS_*, which are IOTLB_ACCESS_* bits too. */
  access: number;
  /** Linear address of the byte at `start`. */
  linear: number;
  /** Gives the window of the region back. No queue may be using it. */
  release(): Promise<void>;
}

/**
 * One address space of the driver as this device sees it: regions, each a window of the aperture and an entry of the
 * engine's IOTLB. They come one by one, when first needed, because a bounce region does not exist before its first use;
 * they go whole.
 */
export class DriverMemory {
  /** Linear address of the IOTLB. */
  readonly iotlb: number;
  /** What the device has written of it. */
  readonly dirty: DirtyPages;
  readonly #file: VduseFile;
  readonly #aperture: Aperture;
  readonly #asid: number;
  readonly #layout: VduseDeviceLayout;
  readonly #listener: VduseDeviceListener;
  readonly #regions: Region[] = [];

  /** Allocates the IOTLB of an address space: its linear address. */
  static allocateIotlb(aperture: Aperture): number {
    const iotlb = aperture.allocate(IOTLB_ENTRIES + REGIONS_MAXIMUM * IOTLB_ENTRY_SIZE);
    aperture.engine.iotlbInit(iotlb, REGIONS_MAXIMUM);
    return iotlb;
  }

  /** Windows are cut from `aperture`, which must be this thread's. */
  constructor(
    file: VduseFile,
    aperture: Aperture,
    asid: number,
    layout: VduseDeviceLayout,
    listener: VduseDeviceListener,
  ) {
    this.#file = file;
    this.#aperture = aperture;
    this.#asid = asid;
    this.#layout = layout;
    this.#listener = listener;
    this.iotlb = layout.iotlbs[asid]!;
    this.dirty = new DirtyPages(aperture, asid, this.iotlb, layout.dirty);
  }

  /** Linear address of a range that is mapped in one piece with that access, else 0. */
  translate(iova: bigint, bytes: number, access: number): number {
    return this.#aperture.engine.iotlbTranslate(this.iotlb, iova, bytes, access) >>> 0;
  }

  /** Whether a region contains `iova`, whatever may be done there. */
  covers(iova: bigint): boolean {
    return this.#regions.some(({ start, last }) => start <= iova && iova <= last);
  }

  /**
   * Gets the region that contains `iova` from the transport, as a window that no queue knows yet: undefined if there is
   * none. Queues may run meanwhile. Throws ERR_APERTURE_FULL when it does not fit.
   */
  async fetch(iova: bigint): Promise<Region | undefined> {
    const bounce = await this.#bounceRegion(iova);
    let reason: string | undefined;
    if (bounce && this.#layout.umem) {
      try {
        return await this.#register(bounce);
      } catch (error) {
        if (!isSystemError(error)) throw error;
        reason = error.message;
      }
    }
    const region = await this.#fetchFile(iova);
    if (bounce && region) this.#listener.bounceBuffer('fd', reason);
    return region;
  }

  /**
   * Shows a fetched region to the queues, which must be stopped: false, and its window is gone, if it overlaps others.
   * Throws ERR_APERTURE_FULL.
   */
  async add(region: Region): Promise<boolean> {
    const { start, last, linear, access } = region;
    const result = this.#aperture.engine.iotlbMap(this.iotlb, start, last - start + 1n, linear, access);
    if (result === IOTLB_OK) {
      this.#regions.push(region);
      return true;
    }
    await region.release();
    if (result === IOTLB_EXISTS) return false;
    throw new RingbellError('ERR_APERTURE_FULL', `no room for more than ${REGIONS_MAXIMUM} IOVA regions`);
  }

  /** Forgets the regions that overlap [first, last]. Their queues must be stopped: nothing may be using a window that goes. */
  async drop(first: bigint, last: bigint): Promise<void> {
    this.dirty.keep();
    this.#aperture.engine.iotlbUnmap(this.iotlb, first, last);
    for (let index = this.#regions.length - 1; index >= 0; index--) {
      const region = this.#regions[index]!;
      if (region.last < first || region.start > last) continue;
      this.#regions.splice(index, 1);
      await region.release();
    }
  }

  /** The bounce region, if it is the one that contains `iova`. It comes to be with the first request of a kernel driver. */
  async #bounceRegion(iova: bigint): Promise<{ start: bigint; last: bigint } | undefined> {
    const info = vduseIovaInfo.encode({ start: iova, last: iova, asid: this.#asid });
    try {
      await this.#file.ioctl(VDUSE_IOTLB_GET_INFO, info);
    } catch (error) {
      // No region there, or a kernel that does not know the ioctl: VDUSE_IOTLB_GET_FD has the last word.
      if (isSystemError(error)) return undefined;
      throw error;
    }
    const { capability, start, last } = vduseIovaInfo.decode(info);
    return capability & BigInt(VDUSE_IOVA_CAP_UMEM) ? { start, last } : undefined;
  }

  async #register({ start, last }: { start: bigint; last: bigint }): Promise<Region> {
    const bytes = Number(last - start + 1n);
    const memory = await UserMemory.register(this.#file, this.#aperture, start, bytes, this.#asid);
    this.#listener.bounceBuffer('umem');
    const { linear } = memory.window;
    return { start, last, access: VDUSE_ACCESS_RW, linear, release: () => memory.release() };
  }

  async #fetchFile(iova: bigint): Promise<Region | undefined> {
    let answer: { fd: number; entry: Entry };
    try {
      answer = await this.#getFd(iova);
    } catch (error) {
      if (isSystemError(error, 'EINVAL')) return undefined;
      throw error;
    }
    // The kernel's descriptor is not close-on-exec: it must not live for longer than the mapping takes.
    try {
      return this.#map(answer.fd, answer.entry, iova);
    } finally {
      loadAddon().close(answer.fd);
    }
  }

  /** VDUSE_IOTLB_GET_FD of VDUSE's RFC, now with permission and offset, and for one of several address spaces. Throws EINVAL where there is no region. */
  async #getFd(iova: bigint): Promise<{ fd: number; entry: Entry }> {
    if (this.#layout.protocol.apiVersion < VDUSE_API_VERSION_1) {
      const entry = vduseIotlbEntry.encode({ start: iova, last: iova });
      const fd = await this.#file.ioctl(VDUSE_IOTLB_GET_FD, entry);
      return { fd, entry: vduseIotlbEntry.decode(entry) };
    }
    const entry = vduseIotlbEntryV2.encode({ start: iova, last: iova, asid: this.#asid });
    const fd = await this.#file.ioctl(VDUSE_IOTLB_GET_FD2, entry);
    return { fd, entry: vduseIotlbEntryV2.decode(entry) };
  }

  #map(fd: number, { offset, start, last, perm }: Entry, iova: bigint): Region | undefined {
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
    const release = async () => this.#aperture.unmap(window);
    return { start, last, access: perm, linear: window.linear + Number(skew), release };
  }
}
