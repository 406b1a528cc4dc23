import { fstatSync } from 'node:fs';
import { PAGE_SIZE } from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import { loadAddon } from '../native/addon.js';
import type { VduseFile } from './file.js';

/** Where the doorbell of a queue is to be watched. */
export interface DoorbellPlacement {
  /** Linear address of the word that rings it; 0 for a queue without one. */
  readonly linear: number;
  /** Linear address of the VQ block that counts its rings, for all queues that share it. */
  readonly counter: number;
}

const NONE: DoorbellPlacement = { linear: 0, counter: 0 };

/**
 * The doorbell pages of a device, in its aperture: a window for each page, whichever queues share it. A window stays until
 * the aperture is closed, because threads watch doorbells outside the gates.
 */
export class DoorbellWindows {
  readonly #file: VduseFile;
  readonly #aperture: Aperture;
  /** By the page's file and its offset there. */
  readonly #placements = new Map<string, DoorbellPlacement>();

  constructor(file: VduseFile, aperture: Aperture) {
    this.#file = file;
    this.#aperture = aperture;
  }

  /** Where the doorbell of queue `index`, whose block is at `vq`, is to be watched. Throws ERR_APERTURE_FULL. */
  async place(index: number, vq: number): Promise<DoorbellPlacement> {
    const page = await this.#file.doorbell(index);
    if (!page) return NONE;
    try {
      const { dev, ino } = fstatSync(page.fd, { bigint: true });
      const key = `${dev} ${ino} ${page.offset}`;
      const known = this.#placements.get(key);
      if (known) return known;
      const { linear } = this.#aperture.map(page, PAGE_SIZE, 'rw');
      const placement = { linear, counter: vq };
      this.#placements.set(key, placement);
      return placement;
    } finally {
      loadAddon().close(page.fd);
    }
  }
}
