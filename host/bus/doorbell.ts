import { loadAddon } from '../native/addon.js';
import { areaOf, type PlacedDoorbells } from './doorbell-layout.js';
import type { NotificationArea } from './notification-area.js';

/**
 * Software doorbells: the register BAR of a parent as a memory file that both sides map. A driver's store is seen by whoever
 * watches the page and by nobody else: there is no interrupt in it.
 */
export class Doorbell {
  /** Memory file of the BAR. */
  readonly fd: number;
  readonly #layout: PlacedDoorbells;

  constructor(name: string, layout: PlacedDoorbells) {
    this.#layout = layout;
    this.fd = loadAddon().memfd(`doorbell-${name}`, layout.barSize, true);
  }

  /** get_vq_notification of struct vdpa_config_ops. */
  getVqNotification(index: number): NotificationArea {
    return areaOf(this.#layout, index);
  }

  /** Bytes into the memory file of a bus address. */
  offsetOf(addr: bigint): bigint {
    return addr - this.#layout.barAddress;
  }

  close(): void {
    loadAddon().close(this.fd);
  }
}
