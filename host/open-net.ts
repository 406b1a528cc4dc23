import { Bus } from './bus/index.js';
import { type OpenNetOptions, openNet as openNetOn } from './drivers/net.js';
import type { NetInterface } from './drivers/net-interface.js';
import { checkOptions } from './options.js';

/**
 * Opens a network device: by path ('/dev/vhost-vdpa-0'), or by the name that it was served under. Names are looked up on
 * `options.bus`, or on the default bus of this thread. Rejects with ERR_ARGUMENT for an option that makes no sense,
 * ERR_NO_DEVICE, ERR_DEVICE_BUSY while it is open elsewhere, ERR_NOT_SUPPORTED for what the device does not have,
 * ERR_FEATURES, ERR_CONTROL_PLANE, an AbortError.
 */
export async function openNet(target: string, options: OpenNetOptions = {}): Promise<NetInterface> {
  checkOptions('openNet', options);
  return openNetOn(target, { ...options, bus: options.bus ?? Bus.default });
}
