/**
 * <linux/vdpa.h>: the generic netlink family by which devices are put on the kernel's vDPA bus. The type of each attribute
 * stands beside it. "Since" names the first Linux release, for documentation only: distributions backport, so probe.
 */

/** Name of the family. */
export const VDPA_GENL_NAME = 'vdpa';
export const VDPA_GENL_VERSION = 1;

// Commands; replies to GET come as NEW.
export const VDPA_CMD_MGMTDEV_NEW = 1;
/** One management device, or a dump of all. */
export const VDPA_CMD_MGMTDEV_GET = 2;
/** Makes a device of a management device and puts it on the bus; CAP_NET_ADMIN. */
export const VDPA_CMD_DEV_NEW = 3;
/** Takes one off again; CAP_NET_ADMIN. */
export const VDPA_CMD_DEV_DEL = 4;
/** One device, or a dump of all. */
export const VDPA_CMD_DEV_GET = 5;
/** Its config space, by field. Since 5.17. */
export const VDPA_CMD_DEV_CONFIG_GET = 6;
/** The vendor's counters of a queue; CAP_NET_ADMIN. Since 5.19. */
export const VDPA_CMD_DEV_VSTATS_GET = 7;

/** String; absent where the management device is on no bus, as VDUSE. */
export const VDPA_ATTR_MGMTDEV_BUS_NAME = 1;
/** String: 'vduse', 'vdpasim_blk', '0000:00:04.0'. */
export const VDPA_ATTR_MGMTDEV_DEV_NAME = 2;
/** u64: bit VIRTIO_ID_* for each kind of device that it can make. */
export const VDPA_ATTR_MGMTDEV_SUPPORTED_CLASSES = 3;
/** String. */
export const VDPA_ATTR_DEV_NAME = 4;
/** u32: VIRTIO_ID_*. */
export const VDPA_ATTR_DEV_ID = 5;
/** u32. */
export const VDPA_ATTR_DEV_VENDOR_ID = 6;
/** u32: virtqueues. */
export const VDPA_ATTR_DEV_MAX_VQS = 7;
/** u16: entries. */
export const VDPA_ATTR_DEV_MAX_VQ_SIZE = 8;
/** u16: entries. */
export const VDPA_ATTR_DEV_MIN_VQ_SIZE = 9;
/** Six bytes. */
export const VDPA_ATTR_DEV_NET_CFG_MACADDR = 10;
/** u16, though the header says u8: VIRTIO_NET_S_*. */
export const VDPA_ATTR_DEV_NET_STATUS = 11;
/** u16: virtqueue pairs. */
export const VDPA_ATTR_DEV_NET_CFG_MAX_VQP = 12;
/** u16: bytes. */
export const VDPA_ATTR_DEV_NET_CFG_MTU = 13;
/** u64: what the driver has accepted; absent before FEATURES_OK. */
export const VDPA_ATTR_DEV_NEGOTIATED_FEATURES = 14;
/** u32: virtqueues that a device of this management device may have. */
export const VDPA_ATTR_DEV_MGMTDEV_MAX_VQS = 15;
/** u64: features that devices of this management device may have. */
export const VDPA_ATTR_DEV_SUPPORTED_FEATURES = 16;
/** u32. */
export const VDPA_ATTR_DEV_QUEUE_INDEX = 17;
/** String; its value follows it, and the two repeat. */
export const VDPA_ATTR_DEV_VENDOR_ATTR_NAME = 18;
/** u64. */
export const VDPA_ATTR_DEV_VENDOR_ATTR_VALUE = 19;
/** u64: features that the device offers. Since 6.1. */
export const VDPA_ATTR_DEV_FEATURES = 20;

// Config space of a block device, as virtio_blk_config of <linux/virtio_blk.h>; each only with its feature. Since 6.9.
/** u64: sectors of 512 bytes. */
export const VDPA_ATTR_DEV_BLK_CFG_CAPACITY = 21;
/** u32: bytes. */
export const VDPA_ATTR_DEV_BLK_CFG_SIZE_MAX = 22;
/** u32: bytes. */
export const VDPA_ATTR_DEV_BLK_CFG_BLK_SIZE = 23;
/** u32. */
export const VDPA_ATTR_DEV_BLK_CFG_SEG_MAX = 24;
/** u16. */
export const VDPA_ATTR_DEV_BLK_CFG_NUM_QUEUES = 25;
/** u8. */
export const VDPA_ATTR_DEV_BLK_CFG_PHY_BLK_EXP = 26;
/** u8. */
export const VDPA_ATTR_DEV_BLK_CFG_ALIGN_OFFSET = 27;
/** u16: blocks. */
export const VDPA_ATTR_DEV_BLK_CFG_MIN_IO_SIZE = 28;
/** u32: blocks. */
export const VDPA_ATTR_DEV_BLK_CFG_OPT_IO_SIZE = 29;
/** u32: sectors. */
export const VDPA_ATTR_DEV_BLK_CFG_MAX_DISCARD_SEC = 30;
/** u32. */
export const VDPA_ATTR_DEV_BLK_CFG_MAX_DISCARD_SEG = 31;
/** u32: sectors. */
export const VDPA_ATTR_DEV_BLK_CFG_DISCARD_SEC_ALIGN = 32;
/** u32: sectors. */
export const VDPA_ATTR_DEV_BLK_CFG_MAX_WRITE_ZEROES_SEC = 33;
/** u32. */
export const VDPA_ATTR_DEV_BLK_CFG_MAX_WRITE_ZEROES_SEG = 34;
/** u8: 1 with VIRTIO_BLK_F_RO. */
export const VDPA_ATTR_DEV_BLK_READ_ONLY = 35;
/** u8: 1 with VIRTIO_BLK_F_FLUSH. */
export const VDPA_ATTR_DEV_BLK_FLUSH = 36;
