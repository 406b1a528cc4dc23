import { PAGE_SIZE } from '../../assembly/layout.js';
import { addressSpace } from '../aperture/address-space.js';
import { systemError } from '../errors.js';
import * as vfio from '../uapi/vfio.js';
import { VHOST_IOTLB_INVALIDATE, VHOST_IOTLB_UPDATE } from '../uapi/vhost.js';
import { checkArgsz, copyFromUser, copyToUser } from './user-memory.js';
import type { VdpaDevice } from './vdpa-device.js';
import { VhostIotlb } from './vhost-iotlb.js';

/** Mappings that a container can have; the kernel's default for dma_entry_limit. */
const DMA_ENTRY_LIMIT = 65535;
/** Every page size from the smallest up: nothing behind a container of the bus asks for larger ones. */
const PAGE_SIZES = BigInt.asUintN(64, BigInt(-PAGE_SIZE));
const LAST_IOVA = 2n ** 64n - 1n;
/** VFIO has one address space a container. */
const ASID = 0;

/** One mapping: the kernel's struct vfio_dma. */
interface VfioDma {
  readonly iova: bigint;
  /** Bytes. */
  readonly size: bigint;
  /** Process address. */
  readonly vaddr: bigint;
  /** VHOST_ACCESS_*, which have the bits of VFIO_DMA_MAP_FLAG_*. */
  readonly perm: number;
}

/**
 * The I/O address space of a container, with the rules of drivers/vfio/vfio_iommu_type1.c as they were when the mdev-based
 * backend was proposed (Linux 5.3), and the IOMMU of each group in it: that of the group's device.
 */
export class VfioIommuType1 {
  /** Whether an unmap takes whole mappings only. */
  readonly #v2: boolean;
  readonly #domains = new Map<VdpaDevice, VhostIotlb>();
  #dmas: VfioDma[] = [];

  /** Whether there is an IOMMU of this type, or it has this extension. */
  static checkExtension(extension: number): boolean {
    return (
      extension === vfio.VFIO_TYPE1_IOMMU ||
      extension === vfio.VFIO_TYPE1v2_IOMMU ||
      extension === vfio.VFIO_TYPE1_NESTING_IOMMU
    );
  }

  /** `type` is one that `checkExtension` knows. */
  constructor(type: number) {
    this.#v2 = type !== vfio.VFIO_TYPE1_IOMMU;
  }

  /** Makes what is mapped visible to one more device (vfio_iommu_replay). EIO when it refuses; it then sees nothing. */
  async attachGroup(device: VdpaDevice): Promise<void> {
    const domain = new VhostIotlb(device);
    const done: VfioDma[] = [];
    try {
      for (const dma of this.#dmas) {
        await map(domain, dma);
        done.push(dma);
      }
    } catch (error) {
      for (const dma of done) await unmap(domain, dma);
      throw error;
    }
    this.#domains.set(device, domain);
  }

  /** Takes everything from a device. */
  async detachGroup(device: VdpaDevice): Promise<void> {
    const domain = this.#domains.get(device);
    if (!domain) return;
    this.#domains.delete(device);
    for (const dma of this.#dmas) await unmap(domain, dma);
  }

  /** An ioctl of the container that is the IOMMU's. ENOTTY for one that it does not know. */
  async ioctl(request: number, argument: Uint8Array | undefined): Promise<number> {
    switch (request) {
      case vfio.VFIO_IOMMU_GET_INFO:
        this.#getInfo(argument);
        return 0;
      case vfio.VFIO_IOMMU_MAP_DMA:
        await this.#mapDma(argument);
        return 0;
      case vfio.VFIO_IOMMU_UNMAP_DMA:
        await this.#unmapDma(argument);
        return 0;
      default:
        throw systemError('ENOTTY', 'ioctl', `no VFIO ioctl 0x${request.toString(16)}`);
    }
  }

  #getInfo(argument: Uint8Array | undefined): void {
    checkArgsz(vfio.vfioIommuType1Info, argument);
    copyToUser(vfio.vfioIommuType1Info, argument, {
      flags: vfio.VFIO_IOMMU_INFO_PGSIZES,
      iova_pgsizes: PAGE_SIZES,
    });
  }

  /** vfio_dma_do_map, in its order. */
  async #mapDma(argument: Uint8Array | undefined): Promise<void> {
    checkArgsz(vfio.vfioIommuType1DmaMap, argument);
    const { flags, vaddr, iova, size } = copyFromUser(vfio.vfioIommuType1DmaMap, argument);
    const known = vfio.VFIO_DMA_MAP_FLAG_READ | vfio.VFIO_DMA_MAP_FLAG_WRITE;
    if (flags & ~known) throw systemError('EINVAL', 'ioctl', `unknown flags 0x${flags.toString(16)}`);
    if (!flags) throw systemError('EINVAL', 'ioctl', 'neither readable nor writable');
    if (!size || (size | iova | vaddr) % BigInt(PAGE_SIZE))
      throw systemError('EINVAL', 'ioctl', 'a mapping is whole pages');
    if (iova + size - 1n > LAST_IOVA || vaddr + size - 1n > LAST_IOVA)
      throw systemError('EINVAL', 'ioctl', 'the range passes 2^64');
    if (this.#find(iova, size)) throw systemError('EEXIST', 'ioctl', 'the range overlaps a mapping');
    if (this.#dmas.length >= DMA_ENTRY_LIMIT)
      throw systemError('ENOSPC', 'ioctl', `${DMA_ENTRY_LIMIT} mappings are the most`);
    // The kernel pins every page or fails; a device of the bus can be given pages of a shared file mapping only.
    const found = addressSpace.resolve(vaddr, size).reduce((sum, { bytes }) => sum + bytes, 0n);
    if (found !== size) throw systemError('EFAULT', 'ioctl', `no shared file at 0x${vaddr.toString(16)}`);
    const dma = { iova, size, vaddr, perm: flags };
    const done: VhostIotlb[] = [];
    try {
      for (const domain of this.#domains.values()) {
        await map(domain, dma);
        done.push(domain);
      }
    } catch (error) {
      for (const domain of done) await unmap(domain, dma);
      throw error;
    }
    this.#dmas.push(dma);
  }

  /** vfio_dma_do_unmap, in its order. */
  async #unmapDma(argument: Uint8Array | undefined): Promise<void> {
    checkArgsz(vfio.vfioIommuType1DmaUnmap, argument);
    const { flags, iova, size } = copyFromUser(vfio.vfioIommuType1DmaUnmap, argument);
    if (flags) throw systemError('EINVAL', 'ioctl', `unknown flags 0x${flags.toString(16)}`);
    if (!size || (size | iova) % BigInt(PAGE_SIZE))
      throw systemError('EINVAL', 'ioctl', 'a range is whole pages');
    if (iova + size - 1n > LAST_IOVA) throw systemError('EINVAL', 'ioctl', 'the range passes 2^64');
    const inside = (dma: VfioDma) => dma.iova >= iova && dma.iova + dma.size <= iova + size;
    const overlapping = this.#dmas.filter((dma) => overlaps(dma, iova, size));
    if (this.#v2 && !overlapping.every(inside))
      throw systemError('EINVAL', 'ioctl', 'the range cuts a mapping in two');
    // Version 1 takes every mapping whole, but none at all where one starts below the range.
    const taken = overlapping.some((dma) => dma.iova < iova) ? [] : overlapping;
    let unmapped = 0n;
    for (const dma of taken) {
      for (const domain of this.#domains.values()) await unmap(domain, dma);
      unmapped += dma.size;
    }
    this.#dmas = this.#dmas.filter((dma) => !taken.includes(dma));
    copyToUser(vfio.vfioIommuType1DmaUnmap, argument, { size: unmapped });
  }

  #find(iova: bigint, size: bigint): VfioDma | undefined {
    return this.#dmas.find((dma) => overlaps(dma, iova, size));
  }
}

function overlaps(dma: VfioDma, iova: bigint, size: bigint): boolean {
  return dma.iova < iova + size && iova < dma.iova + dma.size;
}

function map(domain: VhostIotlb, { iova, size, vaddr, perm }: VfioDma): Promise<void> {
  return domain.process(ASID, { type: VHOST_IOTLB_UPDATE, iova, size, uaddr: vaddr, perm });
}

function unmap(domain: VhostIotlb, { iova, size }: VfioDma): Promise<void> {
  return domain.process(ASID, { type: VHOST_IOTLB_INVALIDATE, iova, size, uaddr: 0n, perm: 0 });
}
