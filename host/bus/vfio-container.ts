import { systemError } from '../errors.js';
import { Mutex } from '../mutex.js';
import * as vfio from '../uapi/vfio.js';
import type { VfioContainerFile } from '../vhost-vdpa/vfio-file.js';
import type { FaultInjection } from './fault-injection.js';
import type { VdpaDevice } from './vdpa-device.js';
import { VfioIommuType1 } from './vfio-iommu-type1.js';

/**
 * An open /dev/vfio/vfio of the bus, with the rules of drivers/vfio/vfio.c (container.c since Linux 6.3). A group of the bus is
 * one device, as that of a mediated device is.
 */
export class VfioContainer implements VfioContainerFile {
  readonly name = 'vfio';
  readonly #faults: FaultInjection;
  readonly #mutex = new Mutex();
  readonly #groups = new Set<VdpaDevice>();
  /** There once a group is in the container, and VFIO_SET_IOMMU has chosen its type. */
  #iommu: VfioIommuType1 | undefined;
  #closed = false;

  constructor(faults: FaultInjection) {
    this.#faults = faults;
  }

  ioctl(request: number, argument?: Uint8Array | number): Promise<number> {
    return this.#mutex.run(async () => {
      if (this.#closed) throw systemError('EBADF', 'ioctl', 'the container was closed');
      await this.#faults.strike('ioctl', this.name, request);
      switch (request) {
        case vfio.VFIO_GET_API_VERSION:
          return vfio.VFIO_API_VERSION;
        case vfio.VFIO_CHECK_EXTENSION:
          return this.#checkExtension(numberOf(argument)) ? 1 : 0;
        case vfio.VFIO_SET_IOMMU:
          await this.#setIommu(numberOf(argument));
          return 0;
        default:
          if (!this.#iommu) throw systemError('EINVAL', 'ioctl', 'the container has no IOMMU yet');
          return this.#iommu.ioctl(request, typeof argument === 'number' ? undefined : argument);
      }
    });
  }

  close(): Promise<void> {
    return this.#mutex.run(() => {
      this.#closed = true;
    });
  }

  /** Whether an IOMMU type has been chosen. */
  get hasIommu(): boolean {
    return this.#iommu !== undefined;
  }

  /** vfio_container_attach_group: what is mapped is mapped for the group, too. EBADF once closed, EIO when its device refuses. */
  attachGroup(device: VdpaDevice): Promise<void> {
    return this.#mutex.run(async () => {
      if (this.#closed) throw systemError('EBADF', 'ioctl', 'the container was closed');
      await this.#iommu?.attachGroup(device);
      this.#groups.add(device);
    });
  }

  /** vfio_group_detach_container: the last group takes the IOMMU with it. */
  detachGroup(device: VdpaDevice): Promise<void> {
    return this.#mutex.run(async () => {
      this.#groups.delete(device);
      await this.#iommu?.detachGroup(device);
      if (this.#groups.size === 0) this.#iommu = undefined;
    });
  }

  #checkExtension(extension: number): boolean {
    if (extension === vfio.VFIO_DMA_CC_IOMMU) return this.#iommu !== undefined;
    return VfioIommuType1.checkExtension(extension);
  }

  /** vfio_ioctl_set_iommu. EINVAL without a group, or a second time, ENODEV for a type that there is not. */
  async #setIommu(type: number): Promise<void> {
    if (this.#groups.size === 0) throw systemError('EINVAL', 'ioctl', 'the container has no group');
    if (this.#iommu) throw systemError('EINVAL', 'ioctl', 'the container has an IOMMU');
    if (!VfioIommuType1.checkExtension(type))
      throw systemError('ENODEV', 'ioctl', `no IOMMU of type ${type}`);
    const iommu = new VfioIommuType1(type);
    for (const device of this.#groups) await iommu.attachGroup(device);
    this.#iommu = iommu;
  }
}

/** The argument of a call that takes a number. The kernel would take a pointer for one as well. */
function numberOf(argument: Uint8Array | number | undefined): number {
  if (typeof argument !== 'number') throw systemError('EINVAL', 'ioctl', 'the argument is a number');
  return argument;
}
