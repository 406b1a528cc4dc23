/** Numbers back to their names, for messages and for people. Read off the modules that define the numbers. */
import { hasBit } from './bits.js';
import { iocType } from './ioc.js';
import * as vduse from './vduse.js';
import * as vfio from './vfio.js';
import * as vhost from './vhost.js';
import * as vhostMdev from './vhost-mdev.js';
import * as virtio from './virtio.js';

/** The numeric constants of a module, as [name, value]. */
function constantsOf(module: object): [string, number][] {
  return Object.entries(module).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
}

/** The constants whose names start with `prefix`, by value; the names are cut after `keep` characters of it. */
function table(module: object, prefix: string, keep = 0): Map<number, string> {
  const named = constantsOf(module).filter(([name]) => name.startsWith(prefix));
  return new Map(named.map(([name, value]) => [value, name.slice(keep)]));
}

// Only an ioctl number has the type of its device in bits 8–15; the other constants of these headers are too small.
const IOCTLS = new Map(
  [vhost, vhostMdev, vfio, vduse]
    .flatMap(constantsOf)
    .filter(([, value]) => [vhost.VHOST_VIRTIO, vfio.VFIO_TYPE, vduse.VDUSE_BASE].includes(iocType(value)))
    .map(([name, value]) => [value, name]),
);

const MESSAGES = new Map(
  Object.entries({
    VDUSE_GET_VQ_STATE: vduse.VDUSE_GET_VQ_STATE,
    VDUSE_SET_STATUS: vduse.VDUSE_SET_STATUS,
    VDUSE_UPDATE_IOTLB: vduse.VDUSE_UPDATE_IOTLB,
    VDUSE_SET_VQ_GROUP_ASID: vduse.VDUSE_SET_VQ_GROUP_ASID,
    VDUSE_SET_VQ_READY: vduse.VDUSE_SET_VQ_READY,
    VDUSE_SUSPEND: vduse.VDUSE_SUSPEND,
  }).map(([name, value]) => [value, name]),
);

const STATUS_PREFIX = 'VIRTIO_CONFIG_S_';
const STATUS = table(virtio, STATUS_PREFIX, STATUS_PREFIX.length);
const BACKEND_FEATURES = table(vhost, 'VHOST_BACKEND_F_');
const VDUSE_FEATURES = table(vduse, 'VDUSE_F_');
const COMMON_FEATURES = new Map([...table(virtio, 'VIRTIO_RING_F_'), ...table(virtio, 'VIRTIO_F_')]);
const DEVICE_FEATURES = new Map([
  [virtio.VIRTIO_ID_NET, table(virtio, 'VIRTIO_NET_F_')],
  [virtio.VIRTIO_ID_BLOCK, table(virtio, 'VIRTIO_BLK_F_')],
  [virtio.VIRTIO_ID_CONSOLE, table(virtio, 'VIRTIO_CONSOLE_F_')],
]);

/** Name of each set bit in ascending order, `bit n` for one without. */
function bitNames(bits: bigint, nameOf: (bit: number) => string | undefined): string[] {
  const names: string[] = [];
  for (let bit = 0; bit < 64; bit++) {
    if (hasBit(bits, bit)) names.push(nameOf(bit) ?? `bit ${bit}`);
  }
  return names;
}

function hexadecimal(value: number): string {
  return `0x${value.toString(16).toUpperCase().padStart(8, '0')}`;
}

/** Name of an ioctl of vhost, VFIO or VDUSE: 'VHOST_SET_OWNER', or 'ioctl 0x0000AF99' for an unknown one. */
export function ioctlName(request: number): string {
  return IOCTLS.get(request) ?? `ioctl ${hexadecimal(request)}`;
}

/** Name of a vduse_dev_request.type: 'VDUSE_SET_STATUS', or 'message 9' for an unknown one. */
export function messageName(type: number): string {
  return MESSAGES.get(type) ?? `message ${type}`;
}

/** Names of the feature bits of a device of type `deviceId`: 'VIRTIO_BLK_F_FLUSH', or 'bit 63' for an unknown one. */
export function featureNames(deviceId: number, features: bigint): string[] {
  return bitNames(features, (bit) => COMMON_FEATURES.get(bit) ?? DEVICE_FEATURES.get(deviceId)?.get(bit));
}

/** Names of the bits of VHOST_GET_BACKEND_FEATURES: 'VHOST_BACKEND_F_IOTLB_BATCH', or 'bit 63' for an unknown one. */
export function backendFeatureNames(features: bigint): string[] {
  return bitNames(features, (bit) => BACKEND_FEATURES.get(bit));
}

/** Names of the bits of VDUSE_GET_FEATURES: 'VDUSE_F_SUSPEND', or 'bit 63' for an unknown one. */
export function vduseFeatureNames(features: bigint): string[] {
  return bitNames(features, (bit) => VDUSE_FEATURES.get(bit));
}

/** The specification's names of the bits of a device status: 'DRIVER_OK', or 'bit 5' for an unknown one. */
export function statusNames(status: number): string[] {
  return bitNames(BigInt(status), (bit) => STATUS.get(2 ** bit));
}
