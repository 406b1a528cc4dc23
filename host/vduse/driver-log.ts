import { IOTLB_LOG_BASE, IOTLB_LOG_BYTES } from '../../assembly/layout.js';
import type { Aperture, Window } from '../aperture/aperture.js';
import { isSystemError } from '../errors.js';
import { loadAddon } from '../native/addon.js';
import type { VduseFile } from './file.js';
import { VDUSE_GET_LOG_FD, vduseLog } from './log-extension.js';

/** A log as it lies in the aperture. */
interface MappedLog {
  window: Window;
  bytes: number;
  /** Linear address of the IOTLB whose writes are marked in it. */
  iotlb: number;
}

/** The dirty log that the driver's side has handed to the bus: a window, in which the data path marks by itself. */
export class DriverLog {
  readonly #file: VduseFile;
  readonly #aperture: Aperture;
  readonly #iotlbs: readonly number[];
  #log: MappedLog | undefined;

  /** Windows are cut from `aperture`; `iotlbs` are those of the address spaces. */
  constructor(file: VduseFile, aperture: Aperture, iotlbs: readonly number[]) {
    this.#file = file;
    this.#aperture = aperture;
    this.#iotlbs = iotlbs;
  }

  /**
   * Has writes marked in the log that the transport has now, or in none: in the old one up to the pause that `paused` makes
   * for its argument, in the new one from then on. Throws a SystemError, ERR_APERTURE_FULL, or what `paused` throws.
   */
  async follow(paused: (change: () => Promise<void>) => Promise<void>): Promise<void> {
    const previous = this.#log;
    const next = await this.#map();
    try {
      await paused(async () => {
        if (previous) this.#show(previous.iotlb, 0, 0);
        if (next) this.#show(next.iotlb, next.window.linear, next.bytes);
      });
    } catch (error) {
      if (next) this.#aperture.unmap(next.window);
      throw error;
    }
    this.#log = next;
    if (previous) this.#aperture.unmap(previous.window);
  }

  #show(iotlb: number, linear: number, bytes: number): void {
    this.#aperture.data.setUint32(iotlb + IOTLB_LOG_BYTES, bytes, true);
    this.#aperture.data.setUint32(iotlb + IOTLB_LOG_BASE, linear, true);
  }

  async #map(): Promise<MappedLog | undefined> {
    const argument = new Uint8Array(vduseLog.size);
    let fd: number;
    try {
      fd = await this.#file.ioctl(VDUSE_GET_LOG_FD, argument);
    } catch (error) {
      // ENOTTY is the kernel's, which has no such thing.
      if (isSystemError(error, 'ENOENT') || isSystemError(error, 'ENOTTY')) return undefined;
      throw error;
    }
    try {
      const { offset, bytes, asid } = vduseLog.decode(argument);
      const window = this.#aperture.map({ fd, offset }, Number(bytes), 'rw');
      return { window, bytes: Number(bytes), iotlb: this.#iotlbs[asid]! };
    } finally {
      loadAddon().close(fd);
    }
  }
}
