import { mask } from '../uapi/bits.js';
import { u32, u64 } from '../uapi/codec.js';
import * as vhost from '../uapi/vhost.js';
import type { VhostVdpaFile } from './file.js';
import { call, get, probe } from './ioctl.js';
import { VHOST_BACKEND_F_RESET_VRING } from './reset-extension.js';

const BACKEND_FEATURES_KNOWN = mask(
  vhost.VHOST_BACKEND_F_IOTLB_MSG_V2,
  vhost.VHOST_BACKEND_F_IOTLB_BATCH,
  vhost.VHOST_BACKEND_F_IOTLB_ASID,
  vhost.VHOST_BACKEND_F_SUSPEND,
  vhost.VHOST_BACKEND_F_RESUME,
  vhost.VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK,
  vhost.VHOST_BACKEND_F_DESC_ASID,
  vhost.VHOST_BACKEND_F_IOTLB_PERSIST,
  VHOST_BACKEND_F_RESET_VRING,
);

/** What the owner of a device knows of it, and what does not change: the members of VhostVdpa that have the same names. */
export type DeviceFacts = Awaited<ReturnType<typeof takeOwnership>>;

/**
 * Makes this process the owner of a device, acknowledges the backend features, and asks what the device is. Rejects with
 * ERR_CONTROL_PLANE.
 */
export async function takeOwnership(file: VhostVdpaFile) {
  // Straight after the open: many ioctls are EPERM without an owner.
  await call(file, vhost.VHOST_SET_OWNER);
  const offered = await probe(file, vhost.VHOST_GET_BACKEND_FEATURES, u64);
  const backendFeatures = (offered ?? 0n) & BACKEND_FEATURES_KNOWN;
  if (backendFeatures) await call(file, vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(backendFeatures));
  return {
    backendFeatures,
    deviceId: await get(file, vhost.VHOST_VDPA_GET_DEVICE_ID, u32),
    queueCount: await probe(file, vhost.VHOST_VDPA_GET_VQS_COUNT, u32),
    configSize: await probe(file, vhost.VHOST_VDPA_GET_CONFIG_SIZE, u32),
    iovaRange: (await probe(file, vhost.VHOST_VDPA_GET_IOVA_RANGE, vhost.vhostVdpaIovaRange)) ?? {
      first: 0n,
      last: 2n ** 64n - 1n,
    },
  };
}
