/**
 * <linux/vhost.h> and <linux/vhost_types.h>, the part that a vhost-vdpa device answers to: ioctls, IOTLB messages,
 * backend features. "Takes" means that the kernel reads the argument, "gives" that it writes it; "owner" that
 * VHOST_SET_OWNER must have come first (EPERM). "Since" names the first Linux release, for documentation only:
 * distributions backport, so probe.
 */
import { flexible, s32, u8, u16, u32, u64 } from './codec.js';
import { io, ior, iow, iowr } from './ioc.js';
import { struct } from './struct.js';

/** Type of all vhost ioctls. */
export const VHOST_VIRTIO = 0xaf;
/** The fd that unbinds an eventfd. */
export const VHOST_FILE_UNBIND = -1;
/** Log writes to the used ring (vhost_vring_addr.flags, bit number); of no use on vdpa. */
export const VHOST_VRING_F_LOG = 0;
/** Log all writes to the driver's memory (bit number of VHOST_GET_FEATURES); not offered on vdpa. */
export const VHOST_F_LOG_ALL = 26;

/** Permissions of an IOTLB entry. */
export const VHOST_ACCESS_RO = 1;
export const VHOST_ACCESS_WO = 2;
export const VHOST_ACCESS_RW = 3;

// Messages (vhost_iotlb_msg.type). A vhost-vdpa device has no read(2), so that MISS and ACCESS_FAIL never come.
export const VHOST_IOTLB_MISS = 1;
/** Adds a mapping: EEXIST where one is. */
export const VHOST_IOTLB_UPDATE = 2;
/** Removes, whole, every mapping that overlaps the range. */
export const VHOST_IOTLB_INVALIDATE = 3;
export const VHOST_IOTLB_ACCESS_FAIL = 4;
/** Needs VHOST_BACKEND_F_IOTLB_BATCH. */
export const VHOST_IOTLB_BATCH_BEGIN = 5;
/** Hands the collected table to the device, whose refusal is not reported. */
export const VHOST_IOTLB_BATCH_END = 6;

/** vhost_msg.type of version 1. */
export const VHOST_IOTLB_MSG = 1;
/** vhost_msg_v2.type. */
export const VHOST_IOTLB_MSG_V2 = 2;

// Backend features: bit numbers of VHOST_GET_BACKEND_FEATURES and VHOST_SET_BACKEND_FEATURES.
/** Messages of version 2. */
export const VHOST_BACKEND_F_IOTLB_MSG_V2 = 1;
/** VHOST_IOTLB_BATCH_BEGIN and VHOST_IOTLB_BATCH_END. Since 5.9. */
export const VHOST_BACKEND_F_IOTLB_BATCH = 2;
/** vhost_msg_v2.asid and the group ioctls. Since 5.19. */
export const VHOST_BACKEND_F_IOTLB_ASID = 3;
/** VHOST_VDPA_SUSPEND. Since 6.0. */
export const VHOST_BACKEND_F_SUSPEND = 4;
/** VHOST_VDPA_RESUME. Since 6.3. */
export const VHOST_BACKEND_F_RESUME = 5;
/** VHOST_VDPA_SET_VRING_ENABLE after DRIVER_OK. Since 6.6. */
export const VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK = 6;
/** A group of its own for the descriptor tables; needs VHOST_BACKEND_F_IOTLB_ASID. Since 6.7. */
export const VHOST_BACKEND_F_DESC_ASID = 7;
/** Mappings survive a reset of the device. Since 6.7. */
export const VHOST_BACKEND_F_IOTLB_PERSIST = 8;

/** A queue, or a group of queues, and one number about it. */
export const vhostVringState = struct('vhost_vring_state', 8, { index: [u32, 0], num: [u32, 4] });

/** A queue and the eventfd that serves it. */
export const vhostVringFile = struct('vhost_vring_file', 8, { index: [u32, 0], fd: [s32, 4] });

/** IOVAs of a ring; a packed ring has its driver area in `avail_user_addr`, its device area in `used_user_addr`. */
export const vhostVringAddr = struct('vhost_vring_addr', 40, {
  index: [u32, 0],
  flags: [u32, 4],
  desc_user_addr: [u64, 8],
  used_user_addr: [u64, 16],
  avail_user_addr: [u64, 24],
  log_guest_addr: [u64, 32],
});

/** Part of the config space: `len` bytes from `off`. */
export const vhostVdpaConfig = struct('vhost_vdpa_config', 8, {
  off: [u32, 0],
  len: [u32, 4],
  buf: [flexible, 8],
});

/** IOVAs that can be mapped, `last` included. */
export const vhostVdpaIovaRange = struct('vhost_vdpa_iova_range', 16, { first: [u64, 0], last: [u64, 8] });

/** Body of an IOTLB message: `size` bytes at process address `uaddr` seen at `iova`. */
export const vhostIotlbMsg = struct('vhost_iotlb_msg', 32, {
  iova: [u64, 0],
  size: [u64, 8],
  uaddr: [u64, 16],
  perm: [u8, 24],
  type: [u8, 25],
});

/** Message of version 1, for write(2). */
export const vhostMsg = struct('vhost_msg', 72, { type: [s32, 0], iotlb: [vhostIotlbMsg, 8] });

/** Message of version 2, for write(2); `asid` counts once VHOST_BACKEND_F_IOTLB_ASID is acknowledged. */
export const vhostMsgV2 = struct('vhost_msg_v2', 72, {
  type: [u32, 0],
  asid: [u32, 4],
  iotlb: [vhostIotlbMsg, 8],
});

/** One region of VHOST_SET_MEM_TABLE. */
export const vhostMemoryRegion = struct('vhost_memory_region', 32, {
  guest_phys_addr: [u64, 0],
  memory_size: [u64, 8],
  userspace_addr: [u64, 16],
  flags_padding: [u64, 24],
});

/** Table of `nregions` vhost_memory_region. */
export const vhostMemory = struct('vhost_memory', 8, {
  nregions: [u32, 0],
  padding: [u32, 4],
  regions: [flexible, 8],
});

/** Gives a u64: features that the device offers. Since 5.7. */
export const VHOST_GET_FEATURES = ior(VHOST_VIRTIO, 0x00, u64);
/** Takes a u64: features that the driver accepts; EBUSY once FEATURES_OK is set. Since 5.7. */
export const VHOST_SET_FEATURES = iow(VHOST_VIRTIO, 0x00, u64);
/** No argument: makes this process the owner, whose memory and limits count. Since 5.7. */
export const VHOST_SET_OWNER = io(VHOST_VIRTIO, 0x01);
/** No argument; owner. Of no use on vdpa. */
export const VHOST_RESET_OWNER = io(VHOST_VIRTIO, 0x02);
/** Takes a vhost_memory; owner. Without effect on vdpa, where the IOTLB maps. Since 5.7. */
export const VHOST_SET_MEM_TABLE = iow(VHOST_VIRTIO, 0x03, vhostMemory);
/** Takes a u64. Refused on vdpa: ENOTTY. */
export const VHOST_SET_LOG_BASE = iow(VHOST_VIRTIO, 0x04, u64);
/** Takes an s32. Refused on vdpa: ENOTTY. */
export const VHOST_SET_LOG_FD = iow(VHOST_VIRTIO, 0x07, s32);
/** Takes a vhost_vring_state: entries of a queue, a power of two; owner. Since 5.7. */
export const VHOST_SET_VRING_NUM = iow(VHOST_VIRTIO, 0x10, vhostVringState);
/** Takes a vhost_vring_addr; owner. EINVAL after DRIVER_OK unless suspended. Since 5.7. */
export const VHOST_SET_VRING_ADDR = iow(VHOST_VIRTIO, 0x11, vhostVringAddr);
/** Takes a vhost_vring_state: vring base (vring-base.ts); owner. EINVAL after DRIVER_OK unless suspended. Since 5.7. */
export const VHOST_SET_VRING_BASE = iow(VHOST_VIRTIO, 0x12, vhostVringState);
/** Takes a vhost_vring_state and gives its num: vring base, asked from the device; owner. Since 5.7. */
export const VHOST_GET_VRING_BASE = iowr(VHOST_VIRTIO, 0x12, vhostVringState);
/** Takes a vhost_vring_state; owner. Legacy devices only. */
export const VHOST_SET_VRING_ENDIAN = iow(VHOST_VIRTIO, 0x13, vhostVringState);
/** Takes a vhost_vring_state and gives its num, though encoded as write-only; owner. Legacy devices only. */
export const VHOST_GET_VRING_ENDIAN = iow(VHOST_VIRTIO, 0x14, vhostVringState);
/** Takes a vhost_vring_file: eventfd that the driver signals; owner. Since 5.7. */
export const VHOST_SET_VRING_KICK = iow(VHOST_VIRTIO, 0x20, vhostVringFile);
/** Takes a vhost_vring_file: eventfd that the device signals; owner. Since 5.7. */
export const VHOST_SET_VRING_CALL = iow(VHOST_VIRTIO, 0x21, vhostVringFile);
/** Takes a vhost_vring_file; owner. Accepted on vdpa, never signalled. Since 5.7. */
export const VHOST_SET_VRING_ERR = iow(VHOST_VIRTIO, 0x22, vhostVringFile);
/** Takes a vhost_vring_state; owner. Of vhost-net only. */
export const VHOST_SET_VRING_BUSYLOOP_TIMEOUT = iow(VHOST_VIRTIO, 0x23, vhostVringState);
/** Takes a vhost_vring_state and gives its num, though encoded as write-only; owner. Of vhost-net only. */
export const VHOST_GET_VRING_BUSYLOOP_TIMEOUT = iow(VHOST_VIRTIO, 0x24, vhostVringState);
/** Takes a u64: VHOST_BACKEND_F_* wanted; EOPNOTSUPP for one that is not offered. Since 5.9. */
export const VHOST_SET_BACKEND_FEATURES = iow(VHOST_VIRTIO, 0x25, u64);
/** Gives a u64: VHOST_BACKEND_F_* offered. Since 5.9. */
export const VHOST_GET_BACKEND_FEATURES = ior(VHOST_VIRTIO, 0x26, u64);

/** Gives a u32: VIRTIO_ID_*. Since 5.7. */
export const VHOST_VDPA_GET_DEVICE_ID = ior(VHOST_VIRTIO, 0x70, u32);
/** Gives a u8: device status. Since 5.7. */
export const VHOST_VDPA_GET_STATUS = ior(VHOST_VIRTIO, 0x71, u8);
/** Takes a u8: device status, whose bits may only be added; 0 resets. Since 5.7. */
export const VHOST_VDPA_SET_STATUS = iow(VHOST_VIRTIO, 0x72, u8);
/** Takes a vhost_vdpa_config, though encoded as read-only, and gives its buf. Since 5.7. */
export const VHOST_VDPA_GET_CONFIG = ior(VHOST_VIRTIO, 0x73, vhostVdpaConfig);
/** Takes a vhost_vdpa_config. VDUSE drops it. Since 5.7. */
export const VHOST_VDPA_SET_CONFIG = iow(VHOST_VIRTIO, 0x74, vhostVdpaConfig);
/** Takes a vhost_vring_state: 1 enables, 0 disables; owner. Since 5.7. */
export const VHOST_VDPA_SET_VRING_ENABLE = iow(VHOST_VIRTIO, 0x75, vhostVringState);
/** Gives a u16: the most entries that a queue may have. Since 5.7. */
export const VHOST_VDPA_GET_VRING_NUM = ior(VHOST_VIRTIO, 0x76, u16);
/** Takes an s32: eventfd that a config change signals. Since 5.8. */
export const VHOST_VDPA_SET_CONFIG_CALL = iow(VHOST_VIRTIO, 0x77, s32);
/** Gives a vhost_vdpa_iova_range. Since 5.10. */
export const VHOST_VDPA_GET_IOVA_RANGE = ior(VHOST_VIRTIO, 0x78, vhostVdpaIovaRange);
/** Gives a u32: bytes of the config space. Since 5.18. */
export const VHOST_VDPA_GET_CONFIG_SIZE = ior(VHOST_VIRTIO, 0x79, u32);
/** Gives a u32: address spaces. Since 5.19. */
export const VHOST_VDPA_GET_AS_NUM = ior(VHOST_VIRTIO, 0x7a, u32);
/** Takes a vhost_vring_state and gives its num: group of a queue; owner. Since 5.19. */
export const VHOST_VDPA_GET_VRING_GROUP = iowr(VHOST_VIRTIO, 0x7b, vhostVringState);
/** Takes a vhost_vring_state: group in index, its address space in num; owner. Since 5.19. */
export const VHOST_VDPA_SET_GROUP_ASID = iow(VHOST_VIRTIO, 0x7c, vhostVringState);
/** No argument: stops the rings and keeps their state; does nothing before DRIVER_OK. Since 6.0. */
export const VHOST_VDPA_SUSPEND = io(VHOST_VIRTIO, 0x7d);
/** No argument: ends a suspension. Since 6.3. */
export const VHOST_VDPA_RESUME = io(VHOST_VIRTIO, 0x7e);
/** Takes a vhost_vring_state and gives its num: group of a queue's descriptor table; owner. Since 6.7. */
export const VHOST_VDPA_GET_VRING_DESC_GROUP = iowr(VHOST_VIRTIO, 0x7f, vhostVringState);
/** Gives a u32: queues. Since 5.18. */
export const VHOST_VDPA_GET_VQS_COUNT = ior(VHOST_VIRTIO, 0x80, u32);
/** Gives a u32: groups. Since 5.19. */
export const VHOST_VDPA_GET_GROUP_NUM = ior(VHOST_VIRTIO, 0x81, u32);
/** Takes a vhost_vring_state and gives its num: the most entries that this queue may have; owner. Since 6.9. */
export const VHOST_VDPA_GET_VRING_SIZE = iowr(VHOST_VIRTIO, 0x82, vhostVringState);
