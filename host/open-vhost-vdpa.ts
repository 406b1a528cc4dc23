import { Bus } from './bus/index.js';
import { checkBus, checkOptions } from './options.js';
import { VhostVdpa } from './vhost-vdpa/device.js';
import { openVhostVdpaFile, type VhostVdpaBus } from './vhost-vdpa/open.js';

/** How a device's control plane is opened. */
export interface OpenVhostVdpaOptions {
  /** Where names are looked up; the default bus of this thread if left out. */
  bus?: VhostVdpaBus;
}

/**
 * Opens the control plane of a device, for a driver of one's own or a virtual machine: by path ('/dev/vhost-vdpa-0'), or by
 * the name that it was served under. Its owner is this process from then on; nothing else has been done to it. Rejects with
 * ERR_NO_DEVICE, ERR_DEVICE_BUSY while it is open elsewhere, ERR_NOT_SUPPORTED, ERR_CONTROL_PLANE.
 */
export async function openVhostVdpa(target: string, options: OpenVhostVdpaOptions = {}): Promise<VhostVdpa> {
  checkOptions('openVhostVdpa', options, ['bus']);
  checkBus(options.bus, ['openVhostVdpa']);
  return VhostVdpa.open(await openVhostVdpaFile(target, options.bus ?? Bus.default));
}
