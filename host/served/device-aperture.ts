import { Aperture, type ApertureHandle } from '../aperture/aperture.js';
import { RingbellError } from '../errors.js';

/** Bytes of address space of a device: all that linear addresses reach; only what is touched costs memory. */
const APERTURE_BYTES = 2 ** 32;
/** Bytes for blocks, tables and bounce buffers. */
const PRIVATE_BYTES = 2 ** 27;
/** Bytes of address space for the driver's memory: the largest of these that the model has left. */
const DRIVER_WINDOW_BYTES = [3.5 * 2 ** 30, 1.5 * 2 ** 30, 2 ** 29];

/** Makes the aperture of a device. */
export function createDeviceAperture(): Aperture {
  return Aperture.create({ bytes: APERTURE_BYTES, privateBytes: PRIVATE_BYTES });
}

/** Gives the address space that the model has left to the thread that maps the driver's memory. Throws ERR_APERTURE_FULL. */
export function shareDriverWindow(aperture: Aperture): ApertureHandle {
  for (const bytes of DRIVER_WINDOW_BYTES) {
    try {
      return aperture.share(bytes);
    } catch (error) {
      if (!(error instanceof RingbellError && error.code === 'ERR_APERTURE_FULL')) throw error;
    }
  }
  throw new RingbellError('ERR_APERTURE_FULL', 'the disk leaves no room for the memory of a driver');
}
