import { PAGE_SIZE } from '../../assembly/layout.js';
import { Aperture } from '../aperture/aperture.js';
import { isSystemError } from '../errors.js';
import type { VhostVdpa } from './device.js';

/** Bytes: room for one page of any host. */
const APERTURE_BYTES = 2 ** 18;

/** Tries to map a queue's doorbell page: the errno's name of the refusal, undefined where there is a page. */
export async function refusalOfDoorbell(device: VhostVdpa, index: number): Promise<string | undefined> {
  const aperture = Aperture.create({ bytes: APERTURE_BYTES, privateBytes: PAGE_SIZE * 2 });
  try {
    await device.mapDoorbell(aperture, aperture.reserveWindow(device.file.pageSize).linear, index);
    return undefined;
  } catch (error) {
    if (isSystemError(error)) return error.code;
    throw error;
  } finally {
    aperture.close();
  }
}
