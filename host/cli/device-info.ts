import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { isSystemError } from '../errors.js';
import { RingbellError, type VdpaBus, type VdpaDevice } from '../index.js';
import { backendFeatureNames, featureNames, statusNames } from '../uapi/names.js';
import { SysfsDevice } from '../vdpa/sysfs-device.js';
import { VhostVdpa } from '../vhost-vdpa/device.js';
import { refusalOfDoorbell } from '../vhost-vdpa/doorbell.js';
import { openVhostVdpaFile } from '../vhost-vdpa/open.js';
import { type ConfigFields, configFields } from './config-fields.js';

/** What is known of one virtqueue. */
export interface QueueInfo {
  /** Entries at most. */
  size: number;
  /** null where the device does not say. */
  group: number | null;
  /** 'page': a store rings it. 'eventfd': a system call does; `doorbellRefusal` says why. */
  doorbell: 'page' | 'eventfd';
  doorbellRefusal: string | null;
}

/** What is known of a device. Members that take its character device are null where it was not opened. */
export interface DeviceInfo {
  name: string | null;
  node: string | null;
  driver: string | null;
  managementDevice: string | null;
  /** VIRTIO_ID_*. */
  deviceId: number;
  vendorId: number | null;
  /** Names of the device status; null where only the driver knows it. */
  status: string[] | null;
  features: string[] | null;
  /** What its driver has accepted; null without one. */
  negotiatedFeatures: string[] | null;
  config: ConfigFields;
  queueCount: number;
  /** Entries of a queue at most. */
  queueSize: number;
  queues: QueueInfo[] | null;
  backendFeatures: string[] | null;
  /** IOVAs that can be mapped, `last` included. */
  iovaRange: { first: bigint; last: bigint } | null;
  groups: number | null;
  addressSpaces: number | null;
}

/** What the bus knows of a device: nobody who uses it notices. Rejects with ERR_NO_DEVICE. */
export async function infoByName(bus: VdpaBus, name: string): Promise<DeviceInfo> {
  const device = await bus.show(name).catch((error: unknown) => {
    if (!isSystemError(error, 'ENODEV')) throw error;
    throw new RingbellError(
      'ERR_NO_DEVICE',
      `there is no ${name} on the vDPA bus: ringbell info lists what is`,
    );
  });
  const { deviceId } = device;
  const config = await bus.config(name).catch((error: unknown) => {
    // Of other than disks and network devices the kernel does not tell.
    if (isSystemError(error, 'EOPNOTSUPP')) return undefined;
    throw error;
  });
  const names = (mask: bigint | undefined) => (mask === undefined ? null : featureNames(deviceId, mask));
  const { virtioStatus } = new SysfsDevice(name);
  return {
    ...identityOf(device),
    status: virtioStatus === undefined ? null : statusNames(virtioStatus),
    features: names(config?.features),
    negotiatedFeatures: names(config?.negotiatedFeatures),
    config: config?.fields ?? {},
    queueCount: device.queues,
    queueSize: device.queueSize,
    queues: null,
    backendFeatures: null,
    iovaRange: null,
    groups: null,
    addressSpaces: null,
  };
}

/**
 * What a device tells whoever opens it, which resets it: so it is only opened where nobody has it open. Of a disk of the
 * kernel, such as /dev/vda, what the bus knows. Rejects with ERR_NO_DEVICE, ERR_DEVICE_BUSY, naming who has it.
 */
export async function infoByNode(bus: VdpaBus | undefined, path: string): Promise<DeviceInfo> {
  const known = (await bus?.list())?.find(({ node }) => node === path);
  // The node of its driver's: behind it there is no vhost-vdpa.
  if (bus && known && known.driver !== 'vhost_vdpa') return infoByName(bus, known.name);
  const file = await openVhostVdpaFile(path).catch((error: unknown) => {
    if (!(error instanceof RingbellError && error.code === 'ERR_DEVICE_BUSY')) throw error;
    throw new RingbellError(
      'ERR_DEVICE_BUSY',
      `${path} is in use by ${holderOf(path) ?? 'another process'}`,
      {
        cause: error,
      },
    );
  });
  const device = await VhostVdpa.open(file).catch((error: unknown) => {
    if (!(error instanceof RingbellError && isSystemError(error.cause, 'ENOTTY'))) throw error;
    throw new RingbellError('ERR_NO_DEVICE', `${path} is no vhost-vdpa device`, { cause: error });
  });
  try {
    const features = await device.offeredFeatures();
    const space = await device.config(device.configSize ?? 0);
    const queueCount = device.queueCount ?? 1;
    const queues: QueueInfo[] = [];
    for (let index = 0; index < queueCount; index++) queues.push(await queueInfo(device, index));
    return {
      ...(known
        ? identityOf(known)
        : { name: null, node: path, driver: 'vhost_vdpa', managementDevice: null, vendorId: null }),
      deviceId: device.deviceId,
      status: statusNames(await device.status()),
      features: featureNames(device.deviceId, features),
      negotiatedFeatures: null,
      config: configFields(device.deviceId, space, features),
      queueCount,
      queueSize: Math.max(0, ...queues.map(({ size }) => size)),
      queues,
      backendFeatures: backendFeatureNames(device.backendFeatures),
      iovaRange: device.iovaRange,
      ...(await device.groups()),
    };
  } finally {
    await device.close();
  }
}

function identityOf({ name, node, driver, managementDevice, deviceId, vendorId }: VdpaDevice) {
  return { name, node: node ?? null, driver: driver ?? null, managementDevice, deviceId, vendorId };
}

async function queueInfo(device: VhostVdpa, index: number): Promise<QueueInfo> {
  const group = await device.vringGroup(index).catch((error: unknown) => {
    // A device without groups, though the kernel knows of them.
    if (error instanceof RingbellError && error.code === 'ERR_CONTROL_PLANE') return null;
    throw error;
  });
  const doorbellRefusal = (await refusalOfDoorbell(device, index)) ?? null;
  const doorbell = doorbellRefusal === null ? 'page' : 'eventfd';
  return { size: await device.maxQueueSize(index), group, doorbell, doorbellRefusal };
}

/** Who has a file open, as far as this user may see: 'qemu-system-x86 (process 4711)'. */
function holderOf(path: string): string | undefined {
  for (const process of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const folder = `/proc/${process}/fd`;
      if (readdirSync(folder).some((fd) => readlinkSync(`${folder}/${fd}`) === path))
        return `${readFileSync(`/proc/${process}/comm`, 'utf8').trim()} (process ${process})`;
    } catch {
      // Another user's process, or one that has just ended.
    }
  }
  return undefined;
}
