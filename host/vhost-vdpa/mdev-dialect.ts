import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_NEEDS_RESET } from '../../assembly/virtio.js';
import type { Aperture } from '../aperture/aperture.js';
import { systemError } from '../errors.js';
import { mask } from '../uapi/bits.js';
import { u8, u64 } from '../uapi/codec.js';
import * as vfio from '../uapi/vfio.js';
import * as vhost from '../uapi/vhost.js';
import {
  VFIO_DEVICE_FLAGS_VHOST,
  VHOST_MDEV_S_RUNNING,
  VHOST_MDEV_S_STOPPED,
  VHOST_MDEV_SET_STATE,
} from '../uapi/vhost-mdev.js';
import type { MmapRequest, VhostVdpaFile } from './file.js';
import type { VfioContainerFile, VfioDeviceFile, VfioGroupFile } from './vfio-file.js';

/** A bus on which devices may be bound to vhost_mdev instead of vhost_vdpa. */
export interface VfioBus {
  /** The driver of the bus that a device is bound to; undefined for an unknown name. */
  driverOf(name: string): string | undefined;
  /** Opens /dev/vfio/vfio: a new container. */
  openVfioContainer(): Promise<VfioContainerFile>;
  /** Opens the group of a device, exclusively. Rejects with ENOENT for an unknown name, EBUSY while open. */
  openVfioGroup(name: string): Promise<VfioGroupFile>;
}

/** Stopping keeps the positions of the queues. Mappings are the container's: no reset of the device touches them. */
const BACKEND_FEATURES = mask(
  vhost.VHOST_BACKEND_F_IOTLB_MSG_V2,
  vhost.VHOST_BACKEND_F_SUSPEND,
  vhost.VHOST_BACKEND_F_RESUME,
  vhost.VHOST_BACKEND_F_IOTLB_PERSIST,
);
/** What the device says of its status itself. Of the rest a vhost-mdev device knows nothing. */
const STATUS_OF_DEVICE = VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET;

/**
 * A vhost-mdev device for those who speak vhost-vdpa, which is what its proposal became. Most ioctls are the same; here are
 * those that are not: the status is two states, a queue is enabled by having addresses when the device starts, and memory is
 * mapped for a container.
 */
export class MdevDialect implements VhostVdpaFile {
  readonly name: string;
  readonly pageSize: number;
  readonly #container: VfioContainerFile;
  readonly #group: VfioGroupFile;
  readonly #device: VfioDeviceFile;
  /** What the driver has set. */
  #status = 0;
  /** Stopped with DRIVER_OK set. */
  #suspended = false;

  /** Opens a device by way of its group, in a container of its own. Rejects with the bus's SystemErrors; nothing is left open. */
  static async open(bus: VfioBus, name: string): Promise<MdevDialect> {
    const container = await bus.openVfioContainer();
    try {
      const group = await bus.openVfioGroup(name);
      try {
        return new MdevDialect(container, group, await openDevice(container, group, name));
      } catch (error) {
        await group.close();
        throw error;
      }
    } catch (error) {
      await container.close();
      throw error;
    }
  }

  private constructor(container: VfioContainerFile, group: VfioGroupFile, device: VfioDeviceFile) {
    this.name = device.name;
    this.pageSize = device.pageSize;
    this.#container = container;
    this.#group = group;
    this.#device = device;
  }

  async ioctl(request: number, argument: Uint8Array = new Uint8Array()): Promise<number> {
    switch (request) {
      case vhost.VHOST_VDPA_GET_STATUS:
        u8.set(argument, await this.#getStatus());
        return 0;
      case vhost.VHOST_VDPA_SET_STATUS:
        await this.#setStatus(u8.decode(argument));
        return 0;
      case vhost.VHOST_VDPA_SUSPEND:
        await this.#suspend(true);
        return 0;
      case vhost.VHOST_VDPA_RESUME:
        await this.#suspend(false);
        return 0;
      case vhost.VHOST_VDPA_SET_VRING_ENABLE:
        if (vhost.vhostVringState.decode(argument).num === 0)
          throw systemError('EOPNOTSUPP', 'ioctl', 'a queue of a vhost-mdev device is enabled for good');
        return 0;
      case vhost.VHOST_GET_BACKEND_FEATURES:
        u64.set(argument, BACKEND_FEATURES);
        return 0;
      case vhost.VHOST_SET_BACKEND_FEATURES:
        if (u64.decode(argument) & ~BACKEND_FEATURES)
          throw systemError('EOPNOTSUPP', 'ioctl', 'a vhost-mdev device has no such backend features');
        return 0;
      default:
        return this.#device.ioctl(request, argument);
    }
  }

  async write(message: Uint8Array): Promise<void> {
    // The body is the same, and in the same place, in both versions.
    const { type, iova, size, uaddr, perm } = vhost.vhostMsgV2.decode(message).iotlb;
    switch (type) {
      case vhost.VHOST_IOTLB_UPDATE: {
        // The bits of VHOST_ACCESS_* and VFIO_DMA_MAP_FLAG_* are the same.
        const map = { argsz: vfio.vfioIommuType1DmaMap.size, flags: perm, vaddr: uaddr, iova, size };
        await this.#container.ioctl(vfio.VFIO_IOMMU_MAP_DMA, vfio.vfioIommuType1DmaMap.encode(map));
        return;
      }
      case vhost.VHOST_IOTLB_INVALIDATE: {
        const unmap = { argsz: vfio.vfioIommuType1DmaUnmap.size, iova, size };
        await this.#container.ioctl(vfio.VFIO_IOMMU_UNMAP_DMA, vfio.vfioIommuType1DmaUnmap.encode(unmap));
        return;
      }
      default:
        throw systemError('EINVAL', 'write', `a container knows no IOTLB message of type ${type}`);
    }
  }

  mmap(aperture: Aperture, linear: number, request: MmapRequest): Promise<void> {
    return this.#device.mmap(aperture, linear, request);
  }

  async close(): Promise<void> {
    await this.#device.close();
    await this.#group.close();
    await this.#container.close();
  }

  async #getStatus(): Promise<number> {
    const argument = new Uint8Array(u8.size);
    await this.#device.ioctl(vhost.VHOST_VDPA_GET_STATUS, argument);
    const device = u8.decode(argument);
    if (this.#suspended) return this.#status | (device & VIRTIO_CONFIG_S_NEEDS_RESET);
    return (this.#status & ~STATUS_OF_DEVICE) | (device & STATUS_OF_DEVICE);
  }

  async #setStatus(status: number): Promise<void> {
    const added = status & ~this.#status;
    this.#status = status;
    if (status === 0) this.#suspended = false;
    if (status === 0) await this.#setState(VHOST_MDEV_S_STOPPED);
    else if (added & VIRTIO_CONFIG_S_DRIVER_OK) await this.#setState(VHOST_MDEV_S_RUNNING);
  }

  /** As with vhost-vdpa there is nothing to do before DRIVER_OK. */
  async #suspend(suspended: boolean): Promise<void> {
    if (!(this.#status & VIRTIO_CONFIG_S_DRIVER_OK)) return;
    this.#suspended = suspended;
    await this.#setState(suspended ? VHOST_MDEV_S_STOPPED : VHOST_MDEV_S_RUNNING);
  }

  async #setState(state: number): Promise<void> {
    await this.#device.ioctl(VHOST_MDEV_SET_STATE, u64.encode(BigInt(state)));
  }
}

/** The way of "Documentation/driver-api/vfio.rst" to a device: container, group, IOMMU, device. */
async function openDevice(
  container: VfioContainerFile,
  group: VfioGroupFile,
  name: string,
): Promise<VfioDeviceFile> {
  const version = await container.ioctl(vfio.VFIO_GET_API_VERSION);
  if (version !== vfio.VFIO_API_VERSION) throw systemError('EOPNOTSUPP', 'ioctl', `VFIO API ${version}`);
  await group.setContainer(container);
  await container.ioctl(vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU);
  const device = await group.openDevice(name);
  try {
    const info = vfio.vfioDeviceInfo.encode({ argsz: vfio.vfioDeviceInfo.size });
    await device.ioctl(vfio.VFIO_DEVICE_GET_INFO, info);
    if (vfio.vfioDeviceInfo.get(info, 'flags') & VFIO_DEVICE_FLAGS_VHOST) return device;
    throw systemError('EOPNOTSUPP', 'ioctl', `${name} is no vhost device`);
  } catch (error) {
    await device.close();
    throw error;
  }
}
