import { isSystemError } from '../errors.js';
import { hasBit, mask } from '../uapi/bits.js';
import { u64 } from '../uapi/codec.js';
import {
  VDUSE_API_VERSION_1,
  VDUSE_F_QUEUE_READY,
  VDUSE_F_SUSPEND,
  VDUSE_GET_API_VERSION,
  VDUSE_GET_FEATURES,
  VDUSE_SET_API_VERSION,
  VDUSE_SET_FEATURES,
} from '../uapi/vduse.js';
import type { VduseControlFile } from './file.js';

/** What a device and its transport have agreed to speak. */
export interface VduseProtocol {
  /** VDUSE_API_VERSION or VDUSE_API_VERSION_1. */
  apiVersion: number;
  /** VDUSE_F_*, as a mask. */
  features: bigint;
}

/** VDUSE_F_* that VduseDevice makes use of. */
const FEATURES = mask(VDUSE_F_QUEUE_READY, VDUSE_F_SUSPEND);

/**
 * Agrees with the transport on what the next device that `control` creates will speak: of the API versions the newest up
 * to `newest`, of the features all that are there. Throws a SystemError.
 */
export async function negotiate(
  control: VduseControlFile,
  newest: number = VDUSE_API_VERSION_1,
): Promise<VduseProtocol> {
  const offered = new Uint8Array(u64.size);
  await control.ioctl(VDUSE_GET_API_VERSION, offered);
  const apiVersion = Math.min(newest, Number(u64.decode(offered)));
  // Asking has latched the version that was offered, whatever it is: the one that is meant is always set.
  await control.ioctl(VDUSE_SET_API_VERSION, u64.encode(BigInt(apiVersion)));
  return { apiVersion, features: await negotiateFeatures(control) };
}

async function negotiateFeatures(control: VduseControlFile): Promise<bigint> {
  const offered = new Uint8Array(u64.size);
  try {
    await control.ioctl(VDUSE_GET_FEATURES, offered);
  } catch (error) {
    // The control device's answer to an ioctl that is newer than it.
    if (isSystemError(error, 'EINVAL')) return 0n;
    throw error;
  }
  const features = u64.decode(offered) & FEATURES;
  await control.ioctl(VDUSE_SET_FEATURES, u64.encode(features));
  return features;
}

/** Whether the feature of bit number `bit` was agreed on. */
export function speaks({ features }: VduseProtocol, bit: number): boolean {
  return hasBit(features, bit);
}
