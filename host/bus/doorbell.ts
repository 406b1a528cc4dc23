import { PAGE_SIZE } from '../../assembly/layout.js';
import { loadAddon } from '../native/addon.js';

/** Where a queue's doorbell lies: the kernel's struct vdpa_notification_area. */
export interface NotificationArea {
  /** Bytes into the doorbell file. */
  readonly offset: bigint;
  /** Bytes. */
  readonly bytes: number;
}

/**
 * Software doorbells: one page a queue in a memory file that both sides map. A driver's store is seen by whoever watches
 * the page and by nobody else: there is no interrupt in it, so a device with doorbells may not sleep for long.
 */
export class Doorbell {
  /** Memory file of all pages; queue `index` has the page at `index` × PAGE_SIZE. */
  readonly fd: number;

  constructor(name: string, queues: number) {
    this.fd = loadAddon().memfd(`doorbell-${name}`, queues * PAGE_SIZE, true);
  }

  /** get_vq_notification of struct vdpa_config_ops. */
  getVqNotification(index: number): NotificationArea {
    return { offset: BigInt(index * PAGE_SIZE), bytes: PAGE_SIZE };
  }

  close(): void {
    loadAddon().close(this.fd);
  }
}
