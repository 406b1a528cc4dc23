import {
  BOUNCE_MAP_SIZE,
  CACHE_LINE,
  DOMAIN_BITMAP,
  DOMAIN_BLOCK_SIZE,
  DOMAIN_BOUNCE,
  DOMAIN_MAPS,
  DOMAIN_PAGES,
  PAGE_SIZE,
} from '../../assembly/layout.js';
import type { Aperture, Window } from '../aperture/aperture.js';
import { RingbellError } from '../errors.js';
import { loadAddon } from '../native/addon.js';

/** Pages of one word of the bitmap. */
const WORD_PAGES = 64;

/** How many bounce buffers a domain has. Whole pages, in bytes. */
export interface BounceSize {
  /** Those that the device is told of before it starts: at least the largest mapping. */
  readonly first: number;
  /** Those that it may be told of later, the first ones included. */
  readonly most: number;
}

/** Somebody who maps buffers, and waits where the domain has no room. */
export interface BounceUser {
  /** There may be room, and it is the one who waited longest: it leaves, or waits again in the same place. */
  retry(): void;
}

/**
 * A driver's IOVA domain with bounce buffers: the kernel's iova_domain.c, the MMU-based IOMMU driver of VDUSE. The device is
 * shown memory of the domain and nothing of the driver's: coherent memory, which both use for as long as the driver lives
 * (rings), and bounce buffers, to which the engine copies what a request needs, when it goes to the ring, and back, by
 * direction (assembly/iova-domain.ts). Like VDUSE it has few at first: it tells the device of more when they run out, while
 * requests are in flight, each time as many again. Who finds no room waits for its turn; nobody overtakes.
 */
export class IovaDomain {
  /** Coherent memory, then bounce buffers. */
  readonly window: Window;
  /** Linear address of the DOMAIN block. */
  readonly block: number;
  readonly #aperture: Aperture;
  readonly #fd: number;
  readonly #coherentBytes: number;
  /** Bytes of bounce buffers that the device has been told of, and of those that it can be. */
  #bytes: number;
  #most: number;
  #map: ((linear: number, bytes: number) => Promise<void>) | undefined;
  #growing = false;
  /** In the order in which they came. */
  readonly #waiting = new Set<BounceUser>();
  #retryScheduled = false;

  /** Bytes of private memory that a domain takes. */
  static privateBytes({ most }: BounceSize): number {
    const pages = most / PAGE_SIZE;
    return DOMAIN_BLOCK_SIZE + bitmapBytes(pages) + pages * BOUNCE_MAP_SIZE + 3 * CACHE_LINE;
  }

  /** Makes a domain with memory of its own, `coherentBytes` (whole pages) of it coherent. */
  constructor(aperture: Aperture, name: string, coherentBytes: number, size: BounceSize) {
    this.#aperture = aperture;
    this.#coherentBytes = coherentBytes;
    this.#bytes = size.first;
    this.#most = size.most;
    const bytes = coherentBytes + size.most;
    this.#fd = loadAddon().memfd(name, bytes, true);
    try {
      this.window = aperture.map({ fd: this.#fd, offset: 0n }, bytes, 'rw');
    } catch (error) {
      loadAddon().close(this.#fd);
      throw error;
    }
    this.block = aperture.allocate(DOMAIN_BLOCK_SIZE);
    const pages = size.most / PAGE_SIZE;
    const word = (offset: number, value: number) => {
      aperture.u32[(this.block + offset) / 4] = value;
    };
    word(DOMAIN_BOUNCE, this.window.linear + coherentBytes);
    word(DOMAIN_PAGES, size.first / PAGE_SIZE);
    word(DOMAIN_BITMAP, aperture.allocate(bitmapBytes(pages)));
    word(DOMAIN_MAPS, aperture.allocate(pages * BOUNCE_MAP_SIZE));
  }

  /** Bytes, from the start of the window, that the device is to be told of: all coherent memory, and bounce buffers so far. */
  get visibleBytes(): number {
    return this.#coherentBytes + this.#bytes;
  }

  /** From now on `map` tells the device of more of the window when buffers run out. */
  growWith(map: (linear: number, bytes: number) => Promise<void>): void {
    this.#map = map;
  }

  /** Whether it is for `user` to map: nobody else has waited longer. */
  turnOf(user: BounceUser): boolean {
    const [first] = this.#waiting;
    return first === undefined || first === user;
  }

  /** Whether `user` waits. */
  waits(user: BounceUser): boolean {
    return this.#waiting.has(user);
  }

  /** `user` found no room: it is asked to retry when buffers have become free, or more of them are there. */
  wait(user: BounceUser): void {
    this.#waiting.add(user);
    void this.#grow();
  }

  /** `user` waits no more. */
  leave(user: BounceUser): void {
    if (this.#waiting.delete(user)) this.released();
  }

  /** Buffers have become free. */
  released(): void {
    if (this.#retryScheduled || this.#waiting.size === 0) return;
    this.#retryScheduled = true;
    queueMicrotask(() => {
      this.#retryScheduled = false;
      const [first] = this.#waiting;
      first?.retry();
    });
  }

  /** Gives the memory back. The device must have been reset or closed. */
  close(): void {
    this.#map = undefined;
    this.#aperture.unmap(this.window);
    loadAddon().close(this.#fd);
  }

  /** Doubles the buffers that the device knows. A refusal is no failure: requests then wait for those that there are. */
  async #grow(): Promise<void> {
    const more = Math.min(this.#bytes, this.#most - this.#bytes);
    if (this.#growing || more === 0 || !this.#map) return;
    this.#growing = true;
    try {
      await this.#map(this.window.linear + this.visibleBytes, more);
      this.#bytes += more;
      // Only now: no descriptor may name a page that the device has not been told of.
      this.#aperture.u32[(this.block + DOMAIN_PAGES) / 4] = this.#bytes / PAGE_SIZE;
    } catch (error) {
      if (!(error instanceof RingbellError)) throw error;
      this.#most = this.#bytes;
    } finally {
      this.#growing = false;
    }
    this.released();
  }
}

/** Bytes of a bit a page, in whole words. */
function bitmapBytes(pages: number): number {
  return Math.ceil(pages / WORD_PAGES) * (WORD_PAGES / 8);
}
