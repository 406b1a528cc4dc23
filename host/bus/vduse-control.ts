import { PAGE_SIZE } from '../../assembly/layout.js';
import { systemError } from '../errors.js';
import { hasBit, mask } from '../uapi/bits.js';
import { u64 } from '../uapi/codec.js';
import type { Decoded } from '../uapi/struct.js';
import * as vduse from '../uapi/vduse.js';
import {
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_BLOCK,
  VIRTIO_ID_NET,
} from '../uapi/virtio.js';
import type { VduseControlFile, VduseFile } from '../vduse/file.js';
import type { FaultInjection } from './fault-injection.js';
import { copyFromUser, copyToUser, isZero, userMemory } from './user-memory.js';
import { VdpaDevice } from './vdpa-device.js';
import { VduseFace } from './vduse-face.js';

/** Name under which faults strike the control file. */
const CONTROL_NAME = 'control';

/** The newest API version that the bus speaks. */
const API_VERSION = vduse.VDUSE_API_VERSION_1;
/** VDUSE_F_* that a creator can opt in to, as a mask. */
const VDUSE_FEATURES = mask(vduse.VDUSE_F_QUEUE_READY, vduse.VDUSE_F_SUSPEND);
/** VIRTIO_NET_F_CTRL_VQ, a bit number. */
const VIRTIO_NET_F_CTRL_VQ = 17;
const MIN_VQ_ALIGN = 4;
const MAX_VQS = 0xffff;
/** Groups, and address spaces. */
const MAX_GROUPS = 0xffff;

type Config = Decoded<typeof vduse.vduseDevConfig>;

/** An open /dev/vduse/control of the bus. */
export class VduseControl implements VduseControlFile {
  readonly #devices: Map<string, VdpaDevice>;
  /** Bytes. */
  readonly #pageSize: number;
  readonly #deviceIds: 'any' | 'kernel';
  readonly #faults: FaultInjection;
  readonly #busClosed: AbortSignal;
  /** Latched by either version ioctl, or 0 by VDUSE_CREATE_DEV: no two devices of one file differ by accident. */
  #apiVersion: number | undefined;
  #features = 0n;
  #closed = false;

  /**
   * `pageSize` is that of the host, in bytes; `deviceIds` says which types of device there can be; `busClosed` aborts when the bus closes: no device comes to be on it from then
   * on.
   */
  constructor(
    devices: Map<string, VdpaDevice>,
    pageSize: number,
    deviceIds: 'any' | 'kernel',
    faults: FaultInjection,
    busClosed: AbortSignal,
  ) {
    this.#devices = devices;
    this.#pageSize = pageSize;
    this.#deviceIds = deviceIds;
    this.#faults = faults;
    this.#busClosed = busClosed;
  }

  async ioctl(request: number, argument?: Uint8Array): Promise<number> {
    this.#checkOpen('ioctl');
    await this.#faults.strike('ioctl', CONTROL_NAME, request);
    if (this.#busClosed.aborted) throw systemError('ENODEV', 'ioctl', 'the bus was closed');
    switch (request) {
      case vduse.VDUSE_GET_API_VERSION:
        this.#apiVersion ??= API_VERSION;
        copyToUser(u64, argument, BigInt(this.#apiVersion));
        return 0;
      case vduse.VDUSE_SET_API_VERSION:
        return this.#setApiVersion(argument);
      case vduse.VDUSE_GET_FEATURES:
        copyToUser(u64, argument, VDUSE_FEATURES);
        return 0;
      case vduse.VDUSE_SET_FEATURES:
        return this.#setFeatures(argument);
      case vduse.VDUSE_CREATE_DEV:
        return this.#createDev(argument);
      case vduse.VDUSE_DESTROY_DEV:
        return this.#destroyDev(argument);
      default:
        // Not ENOTTY: vduse_ioctl differs from the device node here.
        throw systemError('EINVAL', 'ioctl', `no VDUSE control ioctl 0x${request.toString(16)}`);
    }
  }

  async open(name: string): Promise<VduseFile> {
    this.#checkOpen('open');
    await this.#faults.strike('open', name);
    const device = this.#devices.get(name);
    if (!device) throw systemError('ENOENT', 'open', `no VDUSE device ${name}`);
    return new VduseFace(device, this.#faults);
  }

  async instance(name: string): Promise<string> {
    this.#checkOpen('stat');
    const device = this.#devices.get(name);
    if (!device) throw systemError('ENOENT', 'stat', `no VDUSE device ${name}`);
    return device.instance;
  }

  /** Closes. Devices that were created stay. */
  async close(): Promise<void> {
    this.#closed = true;
  }

  #setApiVersion(argument: Uint8Array | undefined): number {
    const version = copyFromUser(u64, argument);
    if (version > BigInt(API_VERSION)) throw systemError('EINVAL', 'ioctl', `no API version ${version}`);
    this.#apiVersion = Number(version);
    return 0;
  }

  #setFeatures(argument: Uint8Array | undefined): number {
    const features = copyFromUser(u64, argument);
    if (features & ~VDUSE_FEATURES)
      throw systemError('EINVAL', 'ioctl', `no VDUSE features 0x${features.toString(16)}`);
    this.#features = features;
    return 0;
  }

  /** VDUSE_CREATE_DEV of the RFC answered with a descriptor of the device; since it was merged, it makes a node to be opened. */
  #createDev(argument: Uint8Array | undefined): number {
    const config = copyFromUser(vduse.vduseDevConfig, argument);
    this.#apiVersion ??= vduse.VDUSE_API_VERSION;
    const mistake = this.#mistake(config);
    if (mistake) throw systemError('EINVAL', 'ioctl', mistake);
    const header = vduse.vduseDevConfig.size;
    const bytes = userMemory(argument, header + config.config_size).slice(
      header,
      header + config.config_size,
    );
    const name = config.name.slice(0, vduse.VDUSE_NAME_MAX - 1);
    // The kernel wants CAP_NET_ADMIN for a net device. No network of the machine's is reached from here.
    if (this.#devices.has(name)) throw systemError('EEXIST', 'ioctl', `a device ${name} exists`);
    const device = new VdpaDevice(
      {
        name,
        apiVersion: this.#apiVersion,
        vduseFeatures: this.#features,
        vendorId: config.vendor_id,
        deviceId: config.device_id,
        features: config.features,
        vqNum: config.vq_num,
        ngroups: config.ngroups,
        nas: config.nas,
        config: bytes,
        pageSize: this.#pageSize,
      },
      this.#faults,
    );
    this.#devices.set(name, device);
    return 0;
  }

  /** What vduse_validate_config objects to. */
  #mistake(config: Config): string | undefined {
    const { vq_align: align, ngroups, nas } = config;
    if (!isZero(config.reserved)) return 'reserved fields are not zero';
    if (this.#apiVersion === vduse.VDUSE_API_VERSION) {
      if (ngroups || nas) return 'API version 0 has no groups and no address spaces';
    } else if (!ngroups || ngroups > MAX_GROUPS || !nas || nas > MAX_GROUPS) {
      return `1 to ${MAX_GROUPS} groups and address spaces, not ${ngroups} and ${nas}`;
    }
    if (align < MIN_VQ_ALIGN || align > PAGE_SIZE || align & (align - 1))
      return `vq_align is a power of two from ${MIN_VQ_ALIGN} to ${PAGE_SIZE}, not ${align}`;
    if (config.config_size > PAGE_SIZE) return `a config space has at most ${PAGE_SIZE} bytes`;
    if (config.vq_num > MAX_VQS) return `a device has at most ${MAX_VQS} queues`;
    if (!config.name) return 'a device has a name';
    return (this.#deviceIds === 'kernel' && deviceMistake(config)) || featureMistake(config);
  }

  #destroyDev(argument: Uint8Array | undefined): number {
    const name = copyFromUser(vduse.vduseName, argument).slice(0, vduse.VDUSE_NAME_MAX - 1);
    const device = this.#devices.get(name);
    if (!device) throw systemError('EINVAL', 'ioctl', `no VDUSE device ${name}`);
    if (device.attached || device.connected)
      throw systemError('EBUSY', 'ioctl', `${name} is ${device.attached ? 'on the bus' : 'open'}`);
    this.#devices.delete(name);
    device.destroy();
    return 0;
  }

  #checkOpen(syscall: string): void {
    if (this.#closed) throw systemError('EBADF', syscall, 'the control file was closed');
  }
}

/** What the kernel objects to, for now, and a bus that is no kernel need not. */
function deviceMistake({ device_id: id, features }: Config): string | undefined {
  if (!vduse.VDUSE_DEVICE_IDS.includes(id)) return `device id ${id} is not allowed`;
  const hasControlQueue = id === VIRTIO_ID_NET && hasBit(features, VIRTIO_NET_F_CTRL_VQ);
  return hasControlQueue ? 'VIRTIO_NET_F_CTRL_VQ is not allowed' : undefined;
}

/** What features_is_valid objects to besides. */
function featureMistake({ device_id: id, features }: Config): string | undefined {
  const has = (bit: number) => hasBit(features, bit);
  if (!has(VIRTIO_F_ACCESS_PLATFORM)) return 'VIRTIO_F_ACCESS_PLATFORM is missing';
  if (id === VIRTIO_ID_BLOCK && has(VIRTIO_BLK_F_CONFIG_WCE))
    return 'VIRTIO_BLK_F_CONFIG_WCE: config is read-only';
  if (id === VIRTIO_ID_NET && !has(VIRTIO_F_VERSION_1)) return 'VIRTIO_F_VERSION_1 is missing';
  return undefined;
}
