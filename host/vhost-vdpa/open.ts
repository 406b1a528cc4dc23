import { ERRNO, isSystemError, RingbellError } from '../errors.js';
import type { VhostVdpaFile } from './file.js';
import { openKernelVhostVdpa } from './kernel-file.js';
import { MdevDialect, type VfioBus } from './mdev-dialect.js';

/** Where devices are found by name: the in-process bus. */
export interface VhostVdpaBus {
  /** Opens the driver's side of a device, exclusively. Rejects with ENODEV or ENOENT for an unknown name, EBUSY while open. */
  openVhostVdpa(name: string): Promise<VhostVdpaFile>;
}

/**
 * Opens the driver's side of a device: a path such as '/dev/vhost-vdpa-0' on the kernel's bus, any name without a slash
 * on `bus`, by whichever driver of the bus it is bound to. Rejects with ERR_NO_DEVICE, ERR_DEVICE_BUSY while another has it open, ERR_NOT_SUPPORTED for
 * one without the IOMMU that it needs, ERR_CONTROL_PLANE for the rest.
 */
export async function openVhostVdpaFile(target: string, bus?: VhostVdpaBus): Promise<VhostVdpaFile> {
  if (typeof target !== 'string' || target === '')
    throw new TypeError('a device is named by a path or by its name on the bus');
  const onKernel = target.includes('/');
  if (!onKernel && !bus)
    throw new RingbellError('ERR_ARGUMENT', `'${target}' is no path, and no bus was given`);
  try {
    if (onKernel || !bus) return await openKernelVhostVdpa(target);
    const onMdev = hasVfio(bus) && bus.driverOf(target) === 'vhost_mdev';
    return await (onMdev ? MdevDialect.open(bus, target) : bus.openVhostVdpa(target));
  } catch (error) {
    if (!isSystemError(error)) throw error;
    const details = { cause: error, errno: error.errno, syscall: error.syscall };
    if (error.code === 'ENOENT' || error.code === 'ENODEV' || error.code === 'ENXIO')
      throw new RingbellError(
        'ERR_NO_DEVICE',
        onKernel ? `there is no ${target}` : `no device '${target}' on the bus`,
        details,
      );
    if (error.code === 'EBUSY')
      throw new RingbellError('ERR_DEVICE_BUSY', `another driver has ${target} open`, details);
    // By number: Node has no name for it. A device that maps by the platform's IOMMU has none (vhost_vdpa_alloc_domain).
    if (error.errno === -ERRNO.ENOTSUPP)
      throw new RingbellError(
        'ERR_NOT_SUPPORTED',
        `${target} stands behind no IOMMU, or one that does not keep caches coherent`,
        details,
      );
    throw new RingbellError('ERR_CONTROL_PLANE', `cannot open ${target}: ${error.message}`, details);
  }
}

function hasVfio(bus: VhostVdpaBus): bus is VhostVdpaBus & VfioBus {
  return 'driverOf' in bus && 'openVfioGroup' in bus && 'openVfioContainer' in bus;
}
