import { isSystemError, RingbellError } from '../errors.js';
import { VDUSE_CREATE_DEV, VDUSE_DESTROY_DEV, vduseName } from '../uapi/vduse.js';
import { driverFeatures } from './driver-features.js';
import type { VduseControlFile, VduseFile } from './file.js';

/**
 * Creates device `name`, `config` being the argument of VDUSE_CREATE_DEV. One of that name that nobody serves and that is
 * not on the bus has nothing to keep, and gives way. False if it is on the bus, or served: then it is as it was.
 */
export async function createDevice(
  control: VduseControlFile,
  name: string,
  config: Uint8Array,
): Promise<boolean> {
  try {
    await control.ioctl(VDUSE_CREATE_DEV, config);
    return true;
  } catch (error) {
    if (!isSystemError(error, 'EEXIST')) throw error;
  }
  try {
    await control.ioctl(VDUSE_DESTROY_DEV, vduseName.encode(name));
  } catch (error) {
    if (isSystemError(error, 'EBUSY')) return false;
    // Somebody else has destroyed it meanwhile.
    if (!isSystemError(error, 'EINVAL')) throw error;
  }
  await control.ioctl(VDUSE_CREATE_DEV, config);
  return true;
}

/**
 * Opens a device that another process has created and left on the bus, which keeps everybody else out. Throws
 * ERR_DEVICE_BUSY if that process is still there, ERR_DEVICE_BROKEN if the transport has given the device up meanwhile.
 */
export async function openAbandoned(control: VduseControlFile, name: string): Promise<VduseFile> {
  let file: VduseFile;
  try {
    file = await control.open(name);
  } catch (error) {
    if (!isSystemError(error, 'EBUSY')) throw error;
    throw new RingbellError('ERR_DEVICE_BUSY', `${name} is being served already`, { cause: error });
  }
  try {
    await driverFeatures(file);
    return file;
  } catch (error) {
    await file.close();
    if (!isSystemError(error, 'EPERM')) throw error;
    const why = 'nobody answered for it in time: take it off the bus (VdpaBus.delete), and serve it again';
    throw new RingbellError('ERR_DEVICE_BROKEN', `${name} is broken for ever: ${why}`, { cause: error });
  }
}
