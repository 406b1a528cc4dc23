import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1 } from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import { hasBit } from '../uapi/bits.js';
import { u64 } from '../uapi/codec.js';
import { VDUSE_DEV_GET_FEATURES } from '../uapi/vduse.js';
import type { VduseFile } from './file.js';

/** Features that no driver of a VDUSE device can do without, by name. */
const NEEDED = { VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM } as const;

/** The features that the driver has accepted (VDUSE_SET_FEATURES of VDUSE's RFC), as a mask; 0 before it has accepted any. */
export async function driverFeatures(file: VduseFile): Promise<bigint> {
  const features = new Uint8Array(u64.size);
  await file.ioctl(VDUSE_DEV_GET_FEATURES, features);
  return u64.decode(features);
}

/** Whether a driver that has accepted `features` has packed rings, and not split ones. */
export function isPacked(features: bigint): boolean {
  return hasBit(features, VIRTIO_F_RING_PACKED);
}

/**
 * Throws ERR_FEATURES for a driver that has not accepted what it takes, or has accepted what is not among `offered`: VDUSE
 * passes on whatever the driver writes.
 */
export function judgeFeatures(features: bigint, offered: bigint): void {
  for (const [name, bit] of Object.entries(NEEDED))
    if (!hasBit(features, bit)) throw new RingbellError('ERR_FEATURES', `the driver did not accept ${name}`);
  const unknown = features & ~offered;
  if (unknown)
    throw new RingbellError(
      'ERR_FEATURES',
      `the driver accepted features 0x${unknown.toString(16)}, which the device does not offer`,
    );
}
