/**
 * Constants of the VIRTIO 1.3 specification, under the specification's own names. Compiled by AssemblyScript and by
 * TypeScript, so every value is a plain integer literal. Feature bits are bit numbers, not masks.
 */

// Split virtqueue, descriptor table ("The Virtqueue Descriptor Table").
/** Bytes of one descriptor: addr u64, len u32, flags u16, next u16. */
export const VIRTQ_DESC_SIZE = 16;
export const VIRTQ_DESC_F_NEXT = 1;
export const VIRTQ_DESC_F_WRITE = 2;
export const VIRTQ_DESC_F_INDIRECT = 4;

// Available ring: flags u16, idx u16, ring u16[size], used_event u16.
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
export const VIRTQ_AVAIL_FLAGS = 0;
export const VIRTQ_AVAIL_IDX = 2;
export const VIRTQ_AVAIL_RING = 4;
/** Bytes of one entry of the available ring. */
export const VIRTQ_AVAIL_ENTRY_SIZE = 2;

// Used ring: flags u16, idx u16, ring {id u32, len u32}[size], avail_event u16.
export const VIRTQ_USED_F_NO_NOTIFY = 1;
export const VIRTQ_USED_FLAGS = 0;
export const VIRTQ_USED_IDX = 2;
export const VIRTQ_USED_RING = 4;
/** Bytes of one entry of the used ring. */
export const VIRTQ_USED_ENTRY_SIZE = 8;

/** Bytes behind the ring of entries: used_event, avail_event. */
export const VIRTQ_EVENT_SIZE = 2;

// Packed virtqueue ("Packed Virtqueues"): a ring of descriptors {addr u64, len u32, id u16, flags u16}, of the size and with
// the flags of a split one's, and a flag for each wrap counter.
export const VIRTQ_DESC_F_AVAIL = 128;
export const VIRTQ_DESC_F_USED = 32768;
export const PVIRTQ_DESC_LEN = 8;
export const PVIRTQ_DESC_ID = 12;
export const PVIRTQ_DESC_FLAGS = 14;

// Packed virtqueue, either event suppression structure: {desc u16 (offset, and wrap counter in bit 15), flags u16}.
/** Bytes. */
export const PVIRTQ_EVENT_SUPPRESS_SIZE = 4;
export const PVIRTQ_EVENT_SUPPRESS_ALIGN = 4;
export const RING_EVENT_FLAGS_ENABLE = 0;
export const RING_EVENT_FLAGS_DISABLE = 1;
export const RING_EVENT_FLAGS_DESC = 2;

/** Entries; the largest queue that the specification allows. */
export const VIRTQUEUE_MAX_SIZE = 32768;

// Alignments of the three areas of a split virtqueue, bytes ("Virtqueues").
export const VIRTQ_DESC_ALIGN = 16;
export const VIRTQ_AVAIL_ALIGN = 2;
export const VIRTQ_USED_ALIGN = 4;

// Device status bits ("Device Status Field").
export const VIRTIO_CONFIG_S_ACKNOWLEDGE = 1;
export const VIRTIO_CONFIG_S_DRIVER = 2;
export const VIRTIO_CONFIG_S_DRIVER_OK = 4;
export const VIRTIO_CONFIG_S_FEATURES_OK = 8;
export const VIRTIO_CONFIG_S_NEEDS_RESET = 64;
export const VIRTIO_CONFIG_S_FAILED = 128;

// Device-independent feature bits ("Reserved Feature Bits").
export const VIRTIO_RING_F_INDIRECT_DESC = 28;
export const VIRTIO_RING_F_EVENT_IDX = 29;
export const VIRTIO_F_VERSION_1 = 32;
export const VIRTIO_F_ACCESS_PLATFORM = 33;
export const VIRTIO_F_RING_PACKED = 34;
export const VIRTIO_F_IN_ORDER = 35;
export const VIRTIO_F_ORDER_PLATFORM = 36;
export const VIRTIO_F_SR_IOV = 37;
export const VIRTIO_F_NOTIFICATION_DATA = 38;
export const VIRTIO_F_NOTIF_CONFIG_DATA = 39;
export const VIRTIO_F_RING_RESET = 40;
export const VIRTIO_F_ADMIN_VQ = 41;

// Device ids ("Device Types").
export const VIRTIO_ID_NET = 1;
export const VIRTIO_ID_BLOCK = 2;
export const VIRTIO_ID_CONSOLE = 3;
export const VIRTIO_ID_RNG = 4;
export const VIRTIO_ID_FS = 26;

// Block device ("Block Device"): feature bits.
export const VIRTIO_BLK_F_SIZE_MAX = 1;
export const VIRTIO_BLK_F_SEG_MAX = 2;
export const VIRTIO_BLK_F_GEOMETRY = 4;
export const VIRTIO_BLK_F_RO = 5;
export const VIRTIO_BLK_F_BLK_SIZE = 6;
export const VIRTIO_BLK_F_FLUSH = 9;
export const VIRTIO_BLK_F_TOPOLOGY = 10;
export const VIRTIO_BLK_F_CONFIG_WCE = 11;
export const VIRTIO_BLK_F_MQ = 12;
export const VIRTIO_BLK_F_DISCARD = 13;
export const VIRTIO_BLK_F_WRITE_ZEROES = 14;
export const VIRTIO_BLK_F_LIFETIME = 15;
export const VIRTIO_BLK_F_SECURE_ERASE = 16;
export const VIRTIO_BLK_F_ZONED = 17;

// Block device: request types.
export const VIRTIO_BLK_T_IN = 0;
export const VIRTIO_BLK_T_OUT = 1;
export const VIRTIO_BLK_T_FLUSH = 4;
export const VIRTIO_BLK_T_GET_ID = 8;
export const VIRTIO_BLK_T_DISCARD = 11;
export const VIRTIO_BLK_T_WRITE_ZEROES = 13;

// Block device: request status, the last byte of the last writable descriptor.
export const VIRTIO_BLK_S_OK = 0;
export const VIRTIO_BLK_S_IOERR = 1;
export const VIRTIO_BLK_S_UNSUPP = 2;

/** Bytes; the unit of `sector` and `capacity`, whatever blk_size says. */
export const VIRTIO_BLK_SECTOR_SIZE = 512;
/** Bytes of the device id string that GET_ID returns. */
export const VIRTIO_BLK_ID_BYTES = 20;

// Block device: request header {type u32, reserved u32, sector u64}.
export const VIRTIO_BLK_HEADER_SIZE = 16;
export const VIRTIO_BLK_HEADER_TYPE = 0;
export const VIRTIO_BLK_HEADER_SECTOR = 8;

// Block device: one range of DISCARD and WRITE_ZEROES {sector u64, num_sectors u32, flags u32}.
export const VIRTIO_BLK_RANGE_SIZE = 16;
export const VIRTIO_BLK_RANGE_SECTOR = 0;
export const VIRTIO_BLK_RANGE_NUM_SECTORS = 8;
export const VIRTIO_BLK_RANGE_FLAGS = 12;
export const VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP = 1;

// Block device: struct virtio_blk_config, byte offsets.
export const VIRTIO_BLK_CONFIG_CAPACITY = 0;
export const VIRTIO_BLK_CONFIG_SIZE_MAX = 8;
export const VIRTIO_BLK_CONFIG_SEG_MAX = 12;
export const VIRTIO_BLK_CONFIG_CYLINDERS = 16;
export const VIRTIO_BLK_CONFIG_HEADS = 18;
export const VIRTIO_BLK_CONFIG_SECTORS = 19;
export const VIRTIO_BLK_CONFIG_BLK_SIZE = 20;
export const VIRTIO_BLK_CONFIG_PHYSICAL_BLOCK_EXP = 24;
export const VIRTIO_BLK_CONFIG_ALIGNMENT_OFFSET = 25;
export const VIRTIO_BLK_CONFIG_MIN_IO_SIZE = 26;
export const VIRTIO_BLK_CONFIG_OPT_IO_SIZE = 28;
export const VIRTIO_BLK_CONFIG_WCE = 32;
export const VIRTIO_BLK_CONFIG_NUM_QUEUES = 34;
export const VIRTIO_BLK_CONFIG_MAX_DISCARD_SECTORS = 36;
export const VIRTIO_BLK_CONFIG_MAX_DISCARD_SEG = 40;
export const VIRTIO_BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT = 44;
export const VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS = 48;
export const VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SEG = 52;
export const VIRTIO_BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP = 56;
/** Bytes of the part of struct virtio_blk_config up to write_zeroes_may_unmap and its padding. */
export const VIRTIO_BLK_CONFIG_BYTES = 60;

// Console device ("Console Device"): feature bits.
export const VIRTIO_CONSOLE_F_SIZE = 0;
export const VIRTIO_CONSOLE_F_MULTIPORT = 1;
export const VIRTIO_CONSOLE_F_EMERG_WRITE = 2;

// Console device: events of control messages.
export const VIRTIO_CONSOLE_DEVICE_READY = 0;
export const VIRTIO_CONSOLE_PORT_ADD = 1;
export const VIRTIO_CONSOLE_PORT_REMOVE = 2;
export const VIRTIO_CONSOLE_PORT_READY = 3;
export const VIRTIO_CONSOLE_CONSOLE_PORT = 4;
export const VIRTIO_CONSOLE_RESIZE = 5;
export const VIRTIO_CONSOLE_PORT_OPEN = 6;
export const VIRTIO_CONSOLE_PORT_NAME = 7;

// Network device ("Network Device"): feature bits.
export const VIRTIO_NET_F_CSUM = 0;
export const VIRTIO_NET_F_GUEST_CSUM = 1;
export const VIRTIO_NET_F_CTRL_GUEST_OFFLOADS = 2;
export const VIRTIO_NET_F_MTU = 3;
export const VIRTIO_NET_F_MAC = 5;
export const VIRTIO_NET_F_GUEST_TSO4 = 7;
export const VIRTIO_NET_F_GUEST_TSO6 = 8;
export const VIRTIO_NET_F_GUEST_ECN = 9;
export const VIRTIO_NET_F_GUEST_UFO = 10;
export const VIRTIO_NET_F_HOST_TSO4 = 11;
export const VIRTIO_NET_F_HOST_TSO6 = 12;
export const VIRTIO_NET_F_HOST_ECN = 13;
export const VIRTIO_NET_F_HOST_UFO = 14;
export const VIRTIO_NET_F_MRG_RXBUF = 15;
export const VIRTIO_NET_F_STATUS = 16;
export const VIRTIO_NET_F_CTRL_VQ = 17;
export const VIRTIO_NET_F_CTRL_RX = 18;
export const VIRTIO_NET_F_CTRL_VLAN = 19;
export const VIRTIO_NET_F_CTRL_RX_EXTRA = 20;
export const VIRTIO_NET_F_GUEST_ANNOUNCE = 21;
export const VIRTIO_NET_F_MQ = 22;
export const VIRTIO_NET_F_CTRL_MAC_ADDR = 23;
export const VIRTIO_NET_F_HASH_TUNNEL = 51;
export const VIRTIO_NET_F_VQ_NOTF_COAL = 52;
export const VIRTIO_NET_F_NOTF_COAL = 53;
export const VIRTIO_NET_F_GUEST_USO4 = 54;
export const VIRTIO_NET_F_GUEST_USO6 = 55;
export const VIRTIO_NET_F_HOST_USO = 56;
export const VIRTIO_NET_F_HASH_REPORT = 57;
export const VIRTIO_NET_F_GUEST_HDRLEN = 59;
export const VIRTIO_NET_F_RSS = 60;
export const VIRTIO_NET_F_RSC_EXT = 61;
export const VIRTIO_NET_F_STANDBY = 62;
export const VIRTIO_NET_F_SPEED_DUPLEX = 63;

// Network device: struct virtio_net_config, byte offsets.
export const VIRTIO_NET_CONFIG_MAC = 0;
export const VIRTIO_NET_CONFIG_STATUS = 6;
export const VIRTIO_NET_CONFIG_MAX_VIRTQUEUE_PAIRS = 8;
export const VIRTIO_NET_CONFIG_MTU = 10;
export const VIRTIO_NET_CONFIG_SPEED = 12;
export const VIRTIO_NET_CONFIG_DUPLEX = 16;
export const VIRTIO_NET_CONFIG_RSS_MAX_KEY_SIZE = 17;
export const VIRTIO_NET_CONFIG_RSS_MAX_INDIRECTION_TABLE_LENGTH = 18;
export const VIRTIO_NET_CONFIG_SUPPORTED_HASH_TYPES = 20;
/** Bytes of struct virtio_net_config. */
export const VIRTIO_NET_CONFIG_BYTES = 24;

// Network device: `status` of the config space.
export const VIRTIO_NET_S_LINK_UP = 1;
export const VIRTIO_NET_S_ANNOUNCE = 2;

// Network device: queues of the first pair ("Virtqueues" of "Network Device").
export const VIRTIO_NET_RECEIVEQ1 = 0;
export const VIRTIO_NET_TRANSMITQ1 = 1;

// Network device: struct virtio_net_hdr_v1, `flags` and `gso_type`; VIRTIO_NET_HDR_GSO_ECN goes with another type.
export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
export const VIRTIO_NET_HDR_F_DATA_VALID = 2;
export const VIRTIO_NET_HDR_GSO_NONE = 0;
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
export const VIRTIO_NET_HDR_GSO_UDP = 3;
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
export const VIRTIO_NET_HDR_GSO_ECN = 128;

// Network device: commands of the control queue ("Control Virtqueue"), each {class u8, command u8, its data, ack u8}.
export const VIRTIO_NET_OK = 0;
export const VIRTIO_NET_ERR = 1;
export const VIRTIO_NET_CTRL_MQ = 4;
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET = 0;
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MIN = 1;
export const VIRTIO_NET_CTRL_MQ_VQ_PAIRS_MAX = 32768;

/** Bytes of struct virtio_net_hdr_v1, which every frame of a VIRTIO_F_VERSION_1 device has in front. */
export const VIRTIO_NET_HDR_SIZE = 12;
/** Bytes of an Ethernet address. */
export const ETH_ALEN = 6;
/** Bytes of an Ethernet header: destination, source, EtherType. */
export const ETH_HLEN = 14;
