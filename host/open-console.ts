import { Bus } from './bus/index.js';
import { openConsole as openConsoleOn } from './drivers/console.js';
import type { DrivenConsole } from './drivers/driven-console.js';
import type { OpenOptions } from './drivers/open-driven.js';
import { checkOptions } from './options.js';

/**
 * Opens a console: by path ('/dev/vhost-vdpa-0'), or by the name that it was served under. Names are looked up on
 * `options.bus`, or on the default bus of this thread. Rejects with ERR_ARGUMENT for an option that makes no sense,
 * ERR_NO_DEVICE, ERR_DEVICE_BUSY while it is open elsewhere, ERR_NOT_SUPPORTED for what the device does not have,
 * ERR_FEATURES, ERR_CONTROL_PLANE, an AbortError.
 */
export async function openConsole(target: string, options: OpenOptions = {}): Promise<DrivenConsole> {
  checkOptions('openConsole', options);
  return openConsoleOn(target, { ...options, bus: options.bus ?? Bus.default });
}
