/**
 * <linux/vduse.h>, API versions 0 and 1: the ioctls of /dev/vduse/control and /dev/vduse/NAME and the messages on the
 * latter. The structs are those of version 1, whose new members were reserved (zero) in version 0. "Takes" means that
 * the kernel reads the argument, "gives" that it writes it. "Since" names the first Linux release, for documentation
 * only: distributions backport, so probe.
 */
import { VIRTIO_ID_BLOCK, VIRTIO_ID_FS, VIRTIO_ID_NET } from '../../assembly/virtio.js';
import { array, char, flexible, s32, u8, u16, u32, u64 } from './codec.js';
import { io, ior, iow, iowr } from './ioc.js';
import { struct } from './struct.js';

/** Type of all VDUSE ioctls. */
export const VDUSE_BASE = 0x81;
export const VDUSE_API_VERSION = 0;
/** Groups of queues and address spaces. Since 7.0. */
export const VDUSE_API_VERSION_1 = 1;
/** Bytes of a device's name with its NUL. */
export const VDUSE_NAME_MAX = 256;
/** VIRTIO_ID_* of the devices that there can be (device_is_allowed). */
export const VDUSE_DEVICE_IDS: readonly number[] = [VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_ID_FS];
/** The fd that removes a kick eventfd. */
export const VDUSE_EVENTFD_DEASSIGN = -1;

// Bit numbers of VDUSE_GET_FEATURES and VDUSE_SET_FEATURES. Since 7.3.
/** The device wants VDUSE_SET_VQ_READY. */
export const VDUSE_F_QUEUE_READY = 0;
/** The device can be suspended: VDUSE_SUSPEND. */
export const VDUSE_F_SUSPEND = 1;

/** Permissions of an IOVA region: advice, since the returned file can be mapped writable all the same. */
export const VDUSE_ACCESS_RO = 1;
export const VDUSE_ACCESS_WO = 2;
export const VDUSE_ACCESS_RW = 3;

/** vduse_iova_info.capability: memory of the process may stand in for the region. */
export const VDUSE_IOVA_CAP_UMEM = 1;

// Messages: vduse_dev_request.type.
/** Asks for the position of queue vq_state.index. */
export const VDUSE_GET_VQ_STATE = 0;
/** The driver writes s.status; 0 resets, whatever the reply. */
export const VDUSE_SET_STATUS = 1;
/** Mappings in iova, or iova_v2 in version 1, have changed: drop them before the reply. */
export const VDUSE_UPDATE_IOTLB = 2;
/** vq_group_asid.group now uses another address space. Since 7.0, version 1. */
export const VDUSE_SET_VQ_GROUP_ASID = 3;
/** vq_ready.num becomes ready or not. Since 7.3, VDUSE_F_QUEUE_READY. */
export const VDUSE_SET_VQ_READY = 4;
/** Stop the rings and keep their state. Since 7.3, VDUSE_F_SUSPEND. */
export const VDUSE_SUSPEND = 5;

// vduse_dev_response.result.
export const VDUSE_REQ_RESULT_OK = 0;
export const VDUSE_REQ_RESULT_FAILED = 1;

/** The device to create. Version 0 wants ngroups and nas 0, version 1 at least 1. */
export const vduseDevConfig = struct('vduse_dev_config', 336, {
  name: [char(VDUSE_NAME_MAX), 0],
  vendor_id: [u32, 256],
  device_id: [u32, 260],
  features: [u64, 264],
  vq_num: [u32, 272],
  vq_align: [u32, 276],
  ngroups: [u32, 280],
  nas: [u32, 284],
  reserved: [array(u32, 11), 288],
  config_size: [u32, 332],
  config: [flexible, 336],
});

/** `char[VDUSE_NAME_MAX]`, the argument of VDUSE_DESTROY_DEV. */
export const vduseName = char(VDUSE_NAME_MAX);

/** An IOVA region, `last` included; `offset` in bytes is where it starts in the returned file. */
export const vduseIotlbEntry = struct('vduse_iotlb_entry', 32, {
  offset: [u64, 0],
  start: [u64, 8],
  last: [u64, 16],
  perm: [u8, 24],
});

/** An IOVA region of address space `asid`. */
export const vduseIotlbEntryV2 = struct('vduse_iotlb_entry_v2', 80, {
  offset: [u64, 0],
  start: [u64, 8],
  last: [u64, 16],
  perm: [u8, 24],
  padding: [array(u8, 7), 25],
  asid: [u32, 32],
  reserved: [array(u32, 11), 36],
});

/** Part of the config space: `length` bytes from `offset`. */
export const vduseConfigData = struct('vduse_config_data', 8, {
  offset: [u32, 0],
  length: [u32, 4],
  buffer: [flexible, 8],
});

/** A queue to set up; `group` counts in version 1. */
export const vduseVqConfig = struct('vduse_vq_config', 32, {
  index: [u32, 0],
  max_size: [u16, 4],
  reserved1: [u16, 6],
  group: [u32, 8],
  reserved2: [array(u16, 10), 12],
});

/** Position of a split virtqueue. */
export const vduseVqStateSplit = struct('vduse_vq_state_split', 2, { avail_index: [u16, 0] });

/** Position of a packed virtqueue; counters are wrap counters. */
export const vduseVqStatePacked = struct('vduse_vq_state_packed', 8, {
  last_avail_counter: [u16, 0],
  last_avail_idx: [u16, 2],
  last_used_counter: [u16, 4],
  last_used_idx: [u16, 6],
});

/** A queue as the driver set it up; addresses are IOVAs, `split` and `packed` a union. */
export const vduseVqInfo = struct('vduse_vq_info', 48, {
  index: [u32, 0],
  num: [u32, 4],
  desc_addr: [u64, 8],
  driver_addr: [u64, 16],
  device_addr: [u64, 24],
  split: [vduseVqStateSplit, 32],
  packed: [vduseVqStatePacked, 32],
  ready: [u8, 40],
});

/** A queue and its kick eventfd. */
export const vduseVqEventfd = struct('vduse_vq_eventfd', 8, { index: [u32, 0], fd: [s32, 4] });

/** Memory of the process, `size` bytes at `uaddr`, that stands in for a region. */
export const vduseIovaUmem = struct('vduse_iova_umem', 48, {
  uaddr: [u64, 0],
  iova: [u64, 8],
  size: [u64, 16],
  asid: [u32, 24],
  reserved: [array(u32, 5), 28],
});

/** An IOVA region, `last` included, and what can be done with it. */
export const vduseIovaInfo = struct('vduse_iova_info', 48, {
  start: [u64, 0],
  last: [u64, 8],
  capability: [u64, 16],
  asid: [u32, 24],
  reserved: [array(u32, 5), 28],
});

/** A queue and its position, a union of `split` and `packed`. */
export const vduseVqState = struct('vduse_vq_state', 12, {
  index: [u32, 0],
  split: [vduseVqStateSplit, 4],
  packed: [vduseVqStatePacked, 4],
});

/** Device status after the driver's write. */
export const vduseDevStatus = struct('vduse_dev_status', 1, { status: [u8, 0] });

/** Range of IOVAs, `last` included. */
export const vduseIovaRange = struct('vduse_iova_range', 16, { start: [u64, 0], last: [u64, 8] });

/** Range of IOVAs of one address space, `last` included. */
export const vduseIovaRangeV2 = struct('vduse_iova_range_v2', 24, {
  start: [u64, 0],
  last: [u64, 8],
  asid: [u32, 16],
  padding: [u32, 20],
});

/** A group of queues and its address space. */
export const vduseVqGroupAsid = struct('vduse_vq_group_asid', 8, { group: [u32, 0], asid: [u32, 4] });

/** A queue and whether it is ready. */
export const vduseVqReady = struct('vduse_vq_ready', 8, { num: [u32, 0], ready: [u32, 4] });

/** Message from the kernel, for read(2); `type` says which member of the union counts. */
export const vduseDevRequest = struct('vduse_dev_request', 152, {
  type: [u32, 0],
  request_id: [u32, 4],
  reserved: [array(u32, 4), 8],
  vq_state: [vduseVqState, 24],
  s: [vduseDevStatus, 24],
  iova: [vduseIovaRange, 24],
  iova_v2: [vduseIovaRangeV2, 24],
  vq_group_asid: [vduseVqGroupAsid, 24],
  vq_ready: [vduseVqReady, 24],
});

/** Reply to the kernel, for write(2); `reserved` must be zero. */
export const vduseDevResponse = struct('vduse_dev_response', 152, {
  request_id: [u32, 0],
  result: [u32, 4],
  reserved: [array(u32, 4), 8],
  vq_state: [vduseVqState, 24],
});

// /dev/vduse/control

/** Gives a u64: the kernel's API version, which it also latches for this file if none was set. Since 5.15. */
export const VDUSE_GET_API_VERSION = ior(VDUSE_BASE, 0x00, u64);
/** Takes a u64: the API version wanted; EINVAL above the kernel's. Since 5.15. */
export const VDUSE_SET_API_VERSION = iow(VDUSE_BASE, 0x01, u64);
/** Takes a vduse_dev_config: makes /dev/vduse/NAME. Since 5.15. */
export const VDUSE_CREATE_DEV = iow(VDUSE_BASE, 0x02, vduseDevConfig);
/** Takes a vduseName; EBUSY while the device is open or attached. Since 5.15. */
export const VDUSE_DESTROY_DEV = iow(VDUSE_BASE, 0x03, vduseName);
/** Gives a u64: VDUSE_F_* that the kernel knows. Since 7.3. */
export const VDUSE_GET_FEATURES = ior(VDUSE_BASE, 0x04, u64);
/** Takes a u64: VDUSE_F_* for the devices created from now on. Since 7.3. */
export const VDUSE_SET_FEATURES = iow(VDUSE_BASE, 0x05, u64);

// /dev/vduse/NAME

/** Takes start and last of a vduse_iotlb_entry, gives the first region that overlaps and returns its file. Since 5.15. */
export const VDUSE_IOTLB_GET_FD = iowr(VDUSE_BASE, 0x10, vduseIotlbEntry);
/** Gives a u64: features that the driver accepted. Since 5.15. */
export const VDUSE_DEV_GET_FEATURES = ior(VDUSE_BASE, 0x11, u64);
/** Takes a vduse_config_data: changes the config space. Since 5.15. */
export const VDUSE_DEV_SET_CONFIG = iow(VDUSE_BASE, 0x12, vduseConfigData);
/** No argument: tells the driver that the config space has changed; EINVAL before DRIVER_OK. Since 5.15. */
export const VDUSE_DEV_INJECT_CONFIG_IRQ = io(VDUSE_BASE, 0x13);
/** Takes a vduse_vq_config; each queue once before the device is attached. Since 5.15. */
export const VDUSE_VQ_SETUP = iow(VDUSE_BASE, 0x14, vduseVqConfig);
/** Takes the index of a vduse_vq_info and gives the rest. Since 5.15. */
export const VDUSE_VQ_GET_INFO = iowr(VDUSE_BASE, 0x15, vduseVqInfo);
/** Takes a vduse_vq_eventfd, which lasts until the next reset. Since 5.15. */
export const VDUSE_VQ_SETUP_KICKFD = iow(VDUSE_BASE, 0x16, vduseVqEventfd);
/** Takes a u32: the queue on which to interrupt the driver. Since 5.15. */
export const VDUSE_VQ_INJECT_IRQ = iow(VDUSE_BASE, 0x17, u32);
/** Takes a vduse_iova_umem. Since 6.0. */
export const VDUSE_IOTLB_REG_UMEM = iow(VDUSE_BASE, 0x18, vduseIovaUmem);
/** Takes iova and size of a vduse_iova_umem. Since 6.0. */
export const VDUSE_IOTLB_DEREG_UMEM = iow(VDUSE_BASE, 0x19, vduseIovaUmem);
/** Takes start and last of a vduse_iova_info and gives the first region that overlaps. Since 6.0. */
export const VDUSE_IOTLB_GET_INFO = iowr(VDUSE_BASE, 0x1a, vduseIovaInfo);
/** VDUSE_IOTLB_GET_FD with an address space. Since 7.0. */
export const VDUSE_IOTLB_GET_FD2 = iowr(VDUSE_BASE, 0x1b, vduseIotlbEntryV2);
