import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { isSystemError, RingbellError } from '../errors.js';
import { hasBit } from '../uapi/bits.js';
import { array, u8, u16, u32, u64 } from '../uapi/codec.js';
import { type Attributes, encodeAttribute, nulString } from '../uapi/netlink.js';
import * as vdpa from '../uapi/vdpa.js';
import { ETH_ALEN } from '../uapi/virtio.js';
import { decodeConfig, type VdpaConfig } from './config.js';
import { GenericNetlinkFamily } from './generic-netlink.js';
import { SysfsDevice, type VdpaDriver } from './sysfs-device.js';

/** Where devices of the kernel's vDPA bus come from: VDUSE, a simulator, a function of a network card. */
export interface ManagementDevice {
  /** As iproute2 writes it: 'vduse', 'pci/0000:00:04.0'. */
  readonly name: string;
  /** VIRTIO_ID_* of the devices that it can make. */
  readonly deviceIds: readonly number[];
  /** Virtqueues of a device at most; 0 where it does not say. */
  readonly queues: number;
  /** Features that its devices may have, as a mask; 0 where it does not say. */
  readonly features: bigint;
}

/** A device on the kernel's vDPA bus. */
export interface VdpaDevice {
  readonly name: string;
  /** Name of the management device that made it. */
  readonly managementDevice: string;
  /** VIRTIO_ID_*. */
  readonly deviceId: number;
  readonly vendorId: number;
  /** Virtqueues. */
  readonly queues: number;
  /** Entries of a queue at most. */
  readonly queueSize: number;
  /** Name of the driver that it is bound to; undefined without one. */
  readonly driver: string | undefined;
  /** Where it is used: '/dev/vhost-vdpa-0', '/dev/vda', the network interface 'eth0'; undefined without a driver. */
  readonly node: string | undefined;
}

/** What a new device is to have, where its management device can give it. */
export interface VdpaDeviceOptions {
  /** '52:54:00:12:34:56'. */
  macAddress?: string;
  /** Bytes. */
  mtu?: number;
  /** Virtqueue pairs of a network device. */
  queuePairs?: number;
  /** Features to offer, as a mask. */
  features?: bigint;
}

/** Of a MAC address. */
const macAddressBytes = array(u8, ETH_ALEN);

/**
 * The vDPA bus of this machine's kernel: what iproute2's `vdpa` and sysfs do. Everything rejects with a SystemError as the
 * kernel answers, in whose message its reason is. While the kernel waits for a VDUSE device to answer, every request waits.
 */
export class VdpaBus {
  readonly #family: GenericNetlinkFamily;

  /** Throws ERR_NOT_SUPPORTED where the kernel has no vDPA bus, or this network namespace cannot see it. */
  constructor() {
    const family = GenericNetlinkFamily.find(vdpa.VDPA_GENL_NAME, vdpa.VDPA_GENL_VERSION);
    if (!family)
      throw new RingbellError(
        'ERR_NOT_SUPPORTED',
        'there is no vDPA bus here: load the module vdpa (modprobe vdpa), and stay in the first network namespace',
      );
    this.#family = family;
  }

  /** Where new devices can come from. */
  async managementDevices(): Promise<ManagementDevice[]> {
    const replies = await this.#family.dump(vdpa.VDPA_CMD_MGMTDEV_GET, 'management devices');
    return replies.map((reply) => ({
      name: managementDeviceName(reply),
      deviceIds: bits(reply.get(vdpa.VDPA_ATTR_MGMTDEV_SUPPORTED_CLASSES, u64)),
      queues: reply.find(vdpa.VDPA_ATTR_DEV_MGMTDEV_MAX_VQS, u32) ?? 0,
      features: reply.find(vdpa.VDPA_ATTR_DEV_SUPPORTED_FEATURES, u64) ?? 0n,
    }));
  }

  /** Puts a device of a management device on the bus, which needs CAP_NET_ADMIN. A VDUSE device must have been created. */
  async add(name: string, managementDevice: string, options: VdpaDeviceOptions = {}): Promise<void> {
    const { macAddress, mtu, queuePairs, features } = options;
    const attributes = [
      ...managementDeviceAttributes(managementDevice),
      encodeAttribute(vdpa.VDPA_ATTR_DEV_NAME, nulString, name),
    ];
    if (macAddress !== undefined)
      attributes.push(
        encodeAttribute(vdpa.VDPA_ATTR_DEV_NET_CFG_MACADDR, macAddressBytes, parseMacAddress(macAddress)),
      );
    if (mtu !== undefined) attributes.push(encodeAttribute(vdpa.VDPA_ATTR_DEV_NET_CFG_MTU, u16, mtu));
    if (queuePairs !== undefined)
      attributes.push(encodeAttribute(vdpa.VDPA_ATTR_DEV_NET_CFG_MAX_VQP, u16, queuePairs));
    if (features !== undefined) attributes.push(encodeAttribute(vdpa.VDPA_ATTR_DEV_FEATURES, u64, features));
    await this.#family.request(vdpa.VDPA_CMD_DEV_NEW, attributes, `add ${name} to ${managementDevice}`);
  }

  /** The devices on the bus. */
  async list(): Promise<VdpaDevice[]> {
    const replies = await this.#family.dump(vdpa.VDPA_CMD_DEV_GET, 'devices');
    return replies.map(deviceOf);
  }

  /** One of them. Rejects with ENODEV for a name that is not on the bus. */
  async show(name: string): Promise<VdpaDevice> {
    return deviceOf(await this.#get(vdpa.VDPA_CMD_DEV_GET, name, `show ${name}`));
  }

  /** Its config space. Rejects with EOPNOTSUPP for other than block and network devices, EMSGSIZE. */
  async config(name: string): Promise<VdpaConfig> {
    return decodeConfig(await this.#get(vdpa.VDPA_CMD_DEV_CONFIG_GET, name, `config of ${name}`));
  }

  /** The vendor's counters of a queue. Rejects with EOPNOTSUPP where there are none, EAGAIN before FEATURES_OK. */
  async vendorStats(name: string, queue: number): Promise<Record<string, bigint>> {
    const reply = await this.#get(
      vdpa.VDPA_CMD_DEV_VSTATS_GET,
      name,
      `counters of ${name}`,
      encodeAttribute(vdpa.VDPA_ATTR_DEV_QUEUE_INDEX, u32, queue),
    );
    const values = reply.all(vdpa.VDPA_ATTR_DEV_VENDOR_ATTR_VALUE, u64);
    const names = reply.all(vdpa.VDPA_ATTR_DEV_VENDOR_ATTR_NAME, nulString);
    return Object.fromEntries(names.map((counter, index) => [counter, values[index] ?? 0n]));
  }

  /**
   * Binds a device to a driver, after taking it from another one: it then has a node. Rejects with ERR_NOT_SUPPORTED where
   * the driver is not loaded, ERR_DEVICE_BUSY.
   */
  async bind(name: string, driver: VdpaDriver): Promise<VdpaDevice> {
    const device = new SysfsDevice(name);
    if (device.driver !== driver) await this.#checkIdle(device);
    await device.bind(driver);
    return this.show(name);
  }

  /** Takes a device from its driver. Rejects with ERR_DEVICE_BUSY. */
  async unbind(name: string): Promise<void> {
    const device = new SysfsDevice(name);
    await this.#checkIdle(device);
    await device.unbind();
  }

  /**
   * Takes a device off the bus, which needs CAP_NET_ADMIN; its driver loses it. Rejects with ERR_DEVICE_BUSY while somebody
   * has its /dev/vhost-vdpa-N open.
   */
  async delete(name: string): Promise<void> {
    await this.#checkIdle(new SysfsDevice(name));
    const attribute = encodeAttribute(vdpa.VDPA_ATTR_DEV_NAME, nulString, name);
    await this.#family.request(vdpa.VDPA_CMD_DEV_DEL, [attribute], `delete ${name}`);
  }

  /**
   * vhost_vdpa_remove waits for whoever has the character device open, for ever and unkillably, and requests of the whole
   * machine wait with it. So it must not begin. Opening tells, and resets the device, which is at its end here anyway.
   */
  async #checkIdle(device: SysfsDevice): Promise<void> {
    const { node } = device;
    if (device.driver !== 'vhost_vdpa' || node === undefined) return;
    try {
      const handle = await open(node, constants.O_RDWR);
      await handle.close();
    } catch (error) {
      // Any other answer: it cannot be opened by anybody.
      if (isSystemError(error, 'EBUSY'))
        throw new RingbellError('ERR_DEVICE_BUSY', `${device.name}: a driver has ${node} open`, {
          cause: error,
          errno: error.errno,
          syscall: error.syscall,
        });
    }
  }

  async #get(command: number, name: string, what: string, ...more: Uint8Array[]): Promise<Attributes> {
    const attribute = encodeAttribute(vdpa.VDPA_ATTR_DEV_NAME, nulString, name);
    const [reply] = await this.#family.request(command, [attribute, ...more], what);
    if (!reply) throw new RangeError(`${what}: acknowledged without a reply`);
    return reply;
  }
}

function deviceOf(reply: Attributes): VdpaDevice {
  const name = reply.get(vdpa.VDPA_ATTR_DEV_NAME, nulString);
  const { driver, node } = new SysfsDevice(name);
  return {
    name,
    managementDevice: managementDeviceName(reply),
    deviceId: reply.get(vdpa.VDPA_ATTR_DEV_ID, u32),
    vendorId: reply.get(vdpa.VDPA_ATTR_DEV_VENDOR_ID, u32),
    queues: reply.get(vdpa.VDPA_ATTR_DEV_MAX_VQS, u32),
    queueSize: reply.get(vdpa.VDPA_ATTR_DEV_MAX_VQ_SIZE, u16),
    driver,
    node,
  };
}

function managementDeviceName(reply: Attributes): string {
  const bus = reply.find(vdpa.VDPA_ATTR_MGMTDEV_BUS_NAME, nulString);
  const device = reply.get(vdpa.VDPA_ATTR_MGMTDEV_DEV_NAME, nulString);
  return bus === undefined ? device : `${bus}/${device}`;
}

function managementDeviceAttributes(name: string): Uint8Array[] {
  const slash = name.indexOf('/');
  const device = encodeAttribute(vdpa.VDPA_ATTR_MGMTDEV_DEV_NAME, nulString, name.slice(slash + 1));
  if (slash < 0) return [device];
  return [encodeAttribute(vdpa.VDPA_ATTR_MGMTDEV_BUS_NAME, nulString, name.slice(0, slash)), device];
}

/** Numbers of the bits that are set. */
function bits(mask: bigint): number[] {
  return Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => hasBit(mask, bit));
}

function parseMacAddress(text: string): number[] {
  if (!/^[\da-f]{2}(:[\da-f]{2}){5}$/i.test(text))
    throw new RingbellError('ERR_ARGUMENT', `'${text}' is no MAC address such as 52:54:00:12:34:56`);
  return text.split(':').map((byte) => Number.parseInt(byte, 16));
}
