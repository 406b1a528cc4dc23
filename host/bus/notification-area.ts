import { type SystemError, systemError } from '../errors.js';

/** Where a queue's doorbell lies, as its parent states it: the kernel's struct vdpa_notification_area. */
export interface NotificationArea {
  /** Bus address of the first byte. */
  readonly addr: bigint;
  /** Bytes that the doorbell has to itself; 0 for a queue without one. */
  readonly size: number;
}

/**
 * Why the bus driver, who alone decides, does not map an area; undefined where it does (vhost_vdpa_mmap). One that starts a
 * page of the host and is that page, no less and no more, can be mapped without showing anybody other registers. EINVAL
 * where it does not start one, ENOTSUPP where it has another size.
 */
export function refusalOf({ addr, size }: NotificationArea, pageSize: number): SystemError | undefined {
  if (addr % BigInt(pageSize))
    return systemError('EINVAL', 'mmap', `the doorbell at 0x${addr.toString(16)} does not start a page`);
  if (size !== pageSize)
    return systemError(
      'ENOTSUPP',
      'mmap',
      `the doorbell has ${size} bytes to itself, a page has ${pageSize}`,
    );
  return undefined;
}
