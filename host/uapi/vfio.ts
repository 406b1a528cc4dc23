/**
 * <linux/vfio.h>, the part that a container, a group and a vhost-mdev device answer to. "Takes" means that the kernel reads
 * the argument, "gives" that it writes it. None of the numbers encodes a size or a direction: the argument of most calls
 * starts with `argsz`, the bytes that the caller has of it; of two the argument is a number itself.
 */
import { u32, u64 } from './codec.js';
import { io } from './ioc.js';
import { struct } from './struct.js';

/** Type of all VFIO ioctls. */
export const VFIO_TYPE = 0x3b;
/** Number of the first VFIO ioctl. */
export const VFIO_BASE = 100;
/** What VFIO_GET_API_VERSION answers. */
export const VFIO_API_VERSION = 0;

// IOMMU types, for VFIO_CHECK_EXTENSION and VFIO_SET_IOMMU.
/** An unmap takes what it can, and may take more than was asked for. */
export const VFIO_TYPE1_IOMMU = 1;
/** An unmap takes whole mappings, or nothing. */
export const VFIO_TYPE1v2_IOMMU = 3;
/** Extension: device accesses are coherent with the CPU's caches. */
export const VFIO_DMA_CC_IOMMU = 4;
/** The same as VFIO_TYPE1v2_IOMMU, for nested translation. */
export const VFIO_TYPE1_NESTING_IOMMU = 6;

/** The group can be used (vfio_group_status.flags). */
export const VFIO_GROUP_FLAGS_VIABLE = 1 << 0;
/** The group is in a container (vfio_group_status.flags). */
export const VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1;

/** `iova_pgsizes` is filled in (vfio_iommu_type1_info.flags). */
export const VFIO_IOMMU_INFO_PGSIZES = 1 << 0;

/** The device may read (vfio_iommu_type1_dma_map.flags). */
export const VFIO_DMA_MAP_FLAG_READ = 1 << 0;
/** The device may write (vfio_iommu_type1_dma_map.flags). */
export const VFIO_DMA_MAP_FLAG_WRITE = 1 << 1;

/** What a group is like: VFIO_GROUP_FLAGS_*. */
export const vfioGroupStatus = struct('vfio_group_status', 8, { argsz: [u32, 0], flags: [u32, 4] });

/** What a device is like: VFIO_DEVICE_FLAGS_*. The kernel's has grown since: this is the part that always counts. */
export const vfioDeviceInfo = struct('vfio_device_info', 16, {
  argsz: [u32, 0],
  flags: [u32, 4],
  num_regions: [u32, 8],
  num_irqs: [u32, 12],
});

/** What the IOMMU is like. The kernel's has grown since: this is the part that always counts. */
export const vfioIommuType1Info = struct('vfio_iommu_type1_info', 16, {
  argsz: [u32, 0],
  flags: [u32, 4],
  iova_pgsizes: [u64, 8],
});

/** `size` bytes at process address `vaddr` that the device is to see at `iova`. */
export const vfioIommuType1DmaMap = struct('vfio_iommu_type1_dma_map', 32, {
  argsz: [u32, 0],
  flags: [u32, 4],
  vaddr: [u64, 8],
  iova: [u64, 16],
  size: [u64, 24],
});

/** `size` bytes from `iova` that the device is to see no longer. */
export const vfioIommuType1DmaUnmap = struct('vfio_iommu_type1_dma_unmap', 24, {
  argsz: [u32, 0],
  flags: [u32, 4],
  iova: [u64, 8],
  size: [u64, 16],
});

/** No argument. Answers VFIO_API_VERSION. */
export const VFIO_GET_API_VERSION = io(VFIO_TYPE, VFIO_BASE + 0);
/** The argument is an IOMMU type or another extension. Answers 1 if there is such, else 0. */
export const VFIO_CHECK_EXTENSION = io(VFIO_TYPE, VFIO_BASE + 1);
/** The argument is an IOMMU type. For a container with a group, once. */
export const VFIO_SET_IOMMU = io(VFIO_TYPE, VFIO_BASE + 2);
/** Takes argsz and gives a vfio_group_status. */
export const VFIO_GROUP_GET_STATUS = io(VFIO_TYPE, VFIO_BASE + 3);
/** Takes the descriptor of a container: puts the group into it. */
export const VFIO_GROUP_SET_CONTAINER = io(VFIO_TYPE, VFIO_BASE + 4);
/** No argument: takes the group out of its container. EBUSY while a device of it is open. */
export const VFIO_GROUP_UNSET_CONTAINER = io(VFIO_TYPE, VFIO_BASE + 5);
/** Takes the name of a device of the group, which it opens. Answers its descriptor. */
export const VFIO_GROUP_GET_DEVICE_FD = io(VFIO_TYPE, VFIO_BASE + 6);
/** Takes argsz and gives a vfio_device_info. */
export const VFIO_DEVICE_GET_INFO = io(VFIO_TYPE, VFIO_BASE + 7);
/** Of devices with regions. */
export const VFIO_DEVICE_GET_REGION_INFO = io(VFIO_TYPE, VFIO_BASE + 8);
/** Of devices with interrupts of VFIO's. */
export const VFIO_DEVICE_GET_IRQ_INFO = io(VFIO_TYPE, VFIO_BASE + 9);
/** Of devices with interrupts of VFIO's. */
export const VFIO_DEVICE_SET_IRQS = io(VFIO_TYPE, VFIO_BASE + 10);
/** Of devices with VFIO_DEVICE_FLAGS_RESET. */
export const VFIO_DEVICE_RESET = io(VFIO_TYPE, VFIO_BASE + 11);
/** Takes argsz and gives a vfio_iommu_type1_info. */
export const VFIO_IOMMU_GET_INFO = io(VFIO_TYPE, VFIO_BASE + 12);
/** Takes a vfio_iommu_type1_dma_map: EEXIST where something is mapped. */
export const VFIO_IOMMU_MAP_DMA = io(VFIO_TYPE, VFIO_BASE + 13);
/** Takes a vfio_iommu_type1_dma_unmap and gives its size: bytes that were unmapped. */
export const VFIO_IOMMU_UNMAP_DMA = io(VFIO_TYPE, VFIO_BASE + 14);
