import { isSystemError } from '../errors.js';
import { VDUSE_DEV_INJECT_CONFIG_IRQ, VDUSE_DEV_SET_CONFIG, vduseConfigData } from '../uapi/vduse.js';
import type { VduseFile } from './file.js';

/**
 * Writes the config space of a device, which answers its drivers where VDUSE's RFC had VDUSE_GET_CONFIG: at once, because the
 * kernel has no lock against a driver that reads meanwhile.
 */
export async function setConfig(file: VduseFile, buffer: Uint8Array): Promise<void> {
  await file.ioctl(
    VDUSE_DEV_SET_CONFIG,
    vduseConfigData.encode({ offset: 0, length: buffer.length, buffer }),
  );
}

/** Tells the driver that the config space has changed: false if there is none that runs. */
export async function interruptConfig(file: VduseFile): Promise<boolean> {
  try {
    await file.ioctl(VDUSE_DEV_INJECT_CONFIG_IRQ);
    return true;
  } catch (error) {
    if (!isSystemError(error, 'EINVAL')) throw error;
    return false;
  }
}
