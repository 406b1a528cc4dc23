/**
 * The kernel's numbers, written down by hand: what host/uapi is held against where the headers of the machine are too old
 * or missing. Names are C expressions as in inventory.ts.
 */
import { endOf, isPadding, offsetOf, sizeOf, sizeOfMember } from './expressions.js';

/** Constants and ioctl numbers, the rings, the block requests: expression, value. */
const CONSTANTS = `
VHOST_VIRTIO 0xAF
VHOST_FILE_UNBIND -1
VHOST_VRING_F_LOG 0
VHOST_ACCESS_RO 1
VHOST_ACCESS_WO 2
VHOST_ACCESS_RW 3
VHOST_IOTLB_MISS 1
VHOST_IOTLB_UPDATE 2
VHOST_IOTLB_INVALIDATE 3
VHOST_IOTLB_ACCESS_FAIL 4
VHOST_IOTLB_BATCH_BEGIN 5
VHOST_IOTLB_BATCH_END 6
VHOST_IOTLB_MSG 1
VHOST_IOTLB_MSG_V2 2
VHOST_BACKEND_F_IOTLB_MSG_V2 1
VHOST_BACKEND_F_IOTLB_BATCH 2
VHOST_BACKEND_F_IOTLB_ASID 3
VHOST_BACKEND_F_SUSPEND 4
VHOST_BACKEND_F_RESUME 5
VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK 6
VHOST_BACKEND_F_DESC_ASID 7
VHOST_BACKEND_F_IOTLB_PERSIST 8
VHOST_GET_FEATURES 0x8008AF00
VHOST_SET_FEATURES 0x4008AF00
VHOST_SET_OWNER 0x0000AF01
VHOST_RESET_OWNER 0x0000AF02
VHOST_SET_MEM_TABLE 0x4008AF03
VHOST_SET_LOG_BASE 0x4008AF04
VHOST_SET_LOG_FD 0x4004AF07
VHOST_SET_VRING_NUM 0x4008AF10
VHOST_SET_VRING_ADDR 0x4028AF11
VHOST_SET_VRING_BASE 0x4008AF12
VHOST_GET_VRING_BASE 0xC008AF12
VHOST_SET_VRING_ENDIAN 0x4008AF13
VHOST_GET_VRING_ENDIAN 0x4008AF14
VHOST_SET_VRING_KICK 0x4008AF20
VHOST_SET_VRING_CALL 0x4008AF21
VHOST_SET_VRING_ERR 0x4008AF22
VHOST_SET_VRING_BUSYLOOP_TIMEOUT 0x4008AF23
VHOST_GET_VRING_BUSYLOOP_TIMEOUT 0x4008AF24
VHOST_SET_BACKEND_FEATURES 0x4008AF25
VHOST_GET_BACKEND_FEATURES 0x8008AF26
VHOST_VDPA_GET_DEVICE_ID 0x8004AF70
VHOST_VDPA_GET_STATUS 0x8001AF71
VHOST_VDPA_SET_STATUS 0x4001AF72
VHOST_VDPA_GET_CONFIG 0x8008AF73
VHOST_VDPA_SET_CONFIG 0x4008AF74
VHOST_VDPA_SET_VRING_ENABLE 0x4008AF75
VHOST_VDPA_GET_VRING_NUM 0x8002AF76
VHOST_VDPA_SET_CONFIG_CALL 0x4004AF77
VHOST_VDPA_GET_IOVA_RANGE 0x8010AF78
VHOST_VDPA_GET_CONFIG_SIZE 0x8004AF79
VHOST_VDPA_GET_AS_NUM 0x8004AF7A
VHOST_VDPA_GET_VRING_GROUP 0xC008AF7B
VHOST_VDPA_SET_GROUP_ASID 0x4008AF7C
VHOST_VDPA_SUSPEND 0x0000AF7D
VHOST_VDPA_RESUME 0x0000AF7E
VHOST_VDPA_GET_VRING_DESC_GROUP 0xC008AF7F
VHOST_VDPA_GET_VQS_COUNT 0x8004AF80
VHOST_VDPA_GET_GROUP_NUM 0x8004AF81
VHOST_VDPA_GET_VRING_SIZE 0xC008AF82
VDUSE_BASE 0x81
VDUSE_API_VERSION 0
VDUSE_API_VERSION_1 1
VDUSE_NAME_MAX 256
VDUSE_EVENTFD_DEASSIGN -1
VDUSE_F_QUEUE_READY 0
VDUSE_F_SUSPEND 1
VDUSE_ACCESS_RO 1
VDUSE_ACCESS_WO 2
VDUSE_ACCESS_RW 3
VDUSE_IOVA_CAP_UMEM 1
VDUSE_GET_VQ_STATE 0
VDUSE_SET_STATUS 1
VDUSE_UPDATE_IOTLB 2
VDUSE_SET_VQ_GROUP_ASID 3
VDUSE_SET_VQ_READY 4
VDUSE_SUSPEND 5
VDUSE_REQ_RESULT_OK 0
VDUSE_REQ_RESULT_FAILED 1
VDUSE_GET_API_VERSION 0x80088100
VDUSE_SET_API_VERSION 0x40088101
VDUSE_CREATE_DEV 0x41508102
VDUSE_DESTROY_DEV 0x41008103
VDUSE_GET_FEATURES 0x80088104
VDUSE_SET_FEATURES 0x40088105
VDUSE_IOTLB_GET_FD 0xC0208110
VDUSE_DEV_GET_FEATURES 0x80088111
VDUSE_DEV_SET_CONFIG 0x40088112
VDUSE_DEV_INJECT_CONFIG_IRQ 0x00008113
VDUSE_VQ_SETUP 0x40208114
VDUSE_VQ_GET_INFO 0xC0308115
VDUSE_VQ_SETUP_KICKFD 0x40088116
VDUSE_VQ_INJECT_IRQ 0x40048117
VDUSE_IOTLB_REG_UMEM 0x40308118
VDUSE_IOTLB_DEREG_UMEM 0x40308119
VDUSE_IOTLB_GET_INFO 0xC030811A
VDUSE_IOTLB_GET_FD2 0xC050811B
sizeof(struct vring_desc) 16
offsetof(struct vring_avail, flags) 0
offsetof(struct vring_avail, idx) 2
offsetof(struct vring_avail, ring) 4
sizeof(((struct vring_avail *)0)->ring[0]) 2
offsetof(struct vring_used, flags) 0
offsetof(struct vring_used, idx) 2
offsetof(struct vring_used, ring) 4
sizeof(struct vring_used_elem) 8
sizeof(vring_used_event((struct vring *)0)) 2
VRING_DESC_F_NEXT 1
VRING_DESC_F_WRITE 2
VRING_DESC_F_INDIRECT 4
VRING_AVAIL_F_NO_INTERRUPT 1
VRING_USED_F_NO_NOTIFY 1
1 << VRING_PACKED_DESC_F_AVAIL 128
1 << VRING_PACKED_DESC_F_USED 32768
offsetof(struct vring_packed_desc, len) 8
offsetof(struct vring_packed_desc, id) 12
offsetof(struct vring_packed_desc, flags) 14
sizeof(struct vring_packed_desc_event) 4
PVIRTQ_EVENT_SUPPRESS_ALIGN 4
VRING_PACKED_EVENT_FLAG_ENABLE 0
VRING_PACKED_EVENT_FLAG_DISABLE 1
VRING_PACKED_EVENT_FLAG_DESC 2
VRING_DESC_ALIGN_SIZE 16
VRING_AVAIL_ALIGN_SIZE 2
VRING_USED_ALIGN_SIZE 4
VIRTQUEUE_MAX_SIZE 32768
VIRTIO_CONFIG_S_ACKNOWLEDGE 1
VIRTIO_CONFIG_S_DRIVER 2
VIRTIO_CONFIG_S_DRIVER_OK 4
VIRTIO_CONFIG_S_FEATURES_OK 8
VIRTIO_CONFIG_S_NEEDS_RESET 0x40
VIRTIO_CONFIG_S_FAILED 0x80
VIRTIO_RING_F_INDIRECT_DESC 28
VIRTIO_RING_F_EVENT_IDX 29
VIRTIO_F_VERSION_1 32
VIRTIO_F_ACCESS_PLATFORM 33
VIRTIO_F_RING_PACKED 34
VIRTIO_F_IN_ORDER 35
VIRTIO_F_ORDER_PLATFORM 36
VIRTIO_F_SR_IOV 37
VIRTIO_F_NOTIFICATION_DATA 38
VIRTIO_F_NOTIF_CONFIG_DATA 39
VIRTIO_F_RING_RESET 40
VIRTIO_F_ADMIN_VQ 41
VIRTIO_ID_NET 1
VIRTIO_ID_BLOCK 2
VIRTIO_ID_CONSOLE 3
VIRTIO_ID_RNG 4
VIRTIO_ID_FS 26
VIRTIO_BLK_F_SIZE_MAX 1
VIRTIO_BLK_F_SEG_MAX 2
VIRTIO_BLK_F_GEOMETRY 4
VIRTIO_BLK_F_RO 5
VIRTIO_BLK_F_BLK_SIZE 6
VIRTIO_BLK_F_FLUSH 9
VIRTIO_BLK_F_TOPOLOGY 10
VIRTIO_BLK_F_CONFIG_WCE 11
VIRTIO_BLK_F_MQ 12
VIRTIO_BLK_F_DISCARD 13
VIRTIO_BLK_F_WRITE_ZEROES 14
VIRTIO_BLK_F_LIFETIME 15
VIRTIO_BLK_F_SECURE_ERASE 16
VIRTIO_BLK_F_ZONED 17
VIRTIO_BLK_T_IN 0
VIRTIO_BLK_T_OUT 1
VIRTIO_BLK_T_FLUSH 4
VIRTIO_BLK_T_GET_ID 8
VIRTIO_BLK_T_DISCARD 11
VIRTIO_BLK_T_WRITE_ZEROES 13
VIRTIO_BLK_S_OK 0
VIRTIO_BLK_S_IOERR 1
VIRTIO_BLK_S_UNSUPP 2
VIRTIO_BLK_SECTOR_SIZE 512
VIRTIO_BLK_ID_BYTES 20
VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP 1
sizeof(struct virtio_blk_outhdr) 16
offsetof(struct virtio_blk_outhdr, type) 0
offsetof(struct virtio_blk_outhdr, sector) 8
sizeof(struct virtio_blk_discard_write_zeroes) 16
offsetof(struct virtio_blk_discard_write_zeroes, sector) 0
offsetof(struct virtio_blk_discard_write_zeroes, num_sectors) 8
offsetof(struct virtio_blk_discard_write_zeroes, flags) 12
VIRTIO_NET_F_CSUM 0
VIRTIO_NET_F_GUEST_CSUM 1
VIRTIO_NET_F_CTRL_GUEST_OFFLOADS 2
VIRTIO_NET_F_MTU 3
VIRTIO_NET_F_MAC 5
VIRTIO_NET_F_GUEST_TSO4 7
VIRTIO_NET_F_GUEST_TSO6 8
VIRTIO_NET_F_GUEST_ECN 9
VIRTIO_NET_F_GUEST_UFO 10
VIRTIO_NET_F_HOST_TSO4 11
VIRTIO_NET_F_HOST_TSO6 12
VIRTIO_NET_F_HOST_ECN 13
VIRTIO_NET_F_HOST_UFO 14
VIRTIO_NET_F_MRG_RXBUF 15
VIRTIO_NET_F_STATUS 16
VIRTIO_NET_F_CTRL_VQ 17
VIRTIO_NET_F_CTRL_RX 18
VIRTIO_NET_F_CTRL_VLAN 19
VIRTIO_NET_F_CTRL_RX_EXTRA 20
VIRTIO_NET_F_GUEST_ANNOUNCE 21
VIRTIO_NET_F_MQ 22
VIRTIO_NET_F_CTRL_MAC_ADDR 23
VIRTIO_NET_F_HASH_TUNNEL 51
VIRTIO_NET_F_VQ_NOTF_COAL 52
VIRTIO_NET_F_NOTF_COAL 53
VIRTIO_NET_F_GUEST_USO4 54
VIRTIO_NET_F_GUEST_USO6 55
VIRTIO_NET_F_HOST_USO 56
VIRTIO_NET_F_HASH_REPORT 57
VIRTIO_NET_F_GUEST_HDRLEN 59
VIRTIO_NET_F_RSS 60
VIRTIO_NET_F_RSC_EXT 61
VIRTIO_NET_F_STANDBY 62
VIRTIO_NET_F_SPEED_DUPLEX 63
VIRTIO_NET_S_LINK_UP 1
VIRTIO_NET_S_ANNOUNCE 2
VIRTIO_NET_RECEIVEQ1 0
VIRTIO_NET_TRANSMITQ1 1
sizeof(struct virtio_net_hdr_v1) 12
ETH_ALEN 6
ETH_HLEN 14
NETLINK_GENERIC 16
NLM_F_REQUEST 1
NLM_F_MULTI 2
NLM_F_ACK 4
NLM_F_DUMP 768
NLM_F_CAPPED 256
NLM_F_ACK_TLVS 512
NLMSG_NOOP 1
NLMSG_ERROR 2
NLMSG_DONE 3
NLMSG_ALIGNTO 4
NLA_ALIGNTO 4
NLA_TYPE_MASK & 0xFFFF 0x3FFF
NLMSGERR_ATTR_MSG 1
GENL_ID_CTRL 16
CTRL_CMD_GETFAMILY 3
CTRL_ATTR_FAMILY_ID 1
CTRL_ATTR_FAMILY_NAME 2
VDPA_GENL_VERSION 1
VDPA_CMD_MGMTDEV_NEW 1
VDPA_CMD_MGMTDEV_GET 2
VDPA_CMD_DEV_NEW 3
VDPA_CMD_DEV_DEL 4
VDPA_CMD_DEV_GET 5
VDPA_CMD_DEV_CONFIG_GET 6
VDPA_CMD_DEV_VSTATS_GET 7
VDPA_ATTR_MGMTDEV_BUS_NAME 1
VDPA_ATTR_MGMTDEV_DEV_NAME 2
VDPA_ATTR_MGMTDEV_SUPPORTED_CLASSES 3
VDPA_ATTR_DEV_NAME 4
VDPA_ATTR_DEV_ID 5
VDPA_ATTR_DEV_VENDOR_ID 6
VDPA_ATTR_DEV_MAX_VQS 7
VDPA_ATTR_DEV_MAX_VQ_SIZE 8
VDPA_ATTR_DEV_MIN_VQ_SIZE 9
VDPA_ATTR_DEV_NET_CFG_MACADDR 10
VDPA_ATTR_DEV_NET_STATUS 11
VDPA_ATTR_DEV_NET_CFG_MAX_VQP 12
VDPA_ATTR_DEV_NET_CFG_MTU 13
VDPA_ATTR_DEV_NEGOTIATED_FEATURES 14
VDPA_ATTR_DEV_MGMTDEV_MAX_VQS 15
VDPA_ATTR_DEV_SUPPORTED_FEATURES 16
VDPA_ATTR_DEV_QUEUE_INDEX 17
VDPA_ATTR_DEV_VENDOR_ATTR_NAME 18
VDPA_ATTR_DEV_VENDOR_ATTR_VALUE 19
VDPA_ATTR_DEV_FEATURES 20
VDPA_ATTR_DEV_BLK_CFG_CAPACITY 21
VDPA_ATTR_DEV_BLK_CFG_SIZE_MAX 22
VDPA_ATTR_DEV_BLK_CFG_BLK_SIZE 23
VDPA_ATTR_DEV_BLK_CFG_SEG_MAX 24
VDPA_ATTR_DEV_BLK_CFG_NUM_QUEUES 25
VDPA_ATTR_DEV_BLK_CFG_PHY_BLK_EXP 26
VDPA_ATTR_DEV_BLK_CFG_ALIGN_OFFSET 27
VDPA_ATTR_DEV_BLK_CFG_MIN_IO_SIZE 28
VDPA_ATTR_DEV_BLK_CFG_OPT_IO_SIZE 29
VDPA_ATTR_DEV_BLK_CFG_MAX_DISCARD_SEC 30
VDPA_ATTR_DEV_BLK_CFG_MAX_DISCARD_SEG 31
VDPA_ATTR_DEV_BLK_CFG_DISCARD_SEC_ALIGN 32
VDPA_ATTR_DEV_BLK_CFG_MAX_WRITE_ZEROES_SEC 33
VDPA_ATTR_DEV_BLK_CFG_MAX_WRITE_ZEROES_SEG 34
VDPA_ATTR_DEV_BLK_READ_ONLY 35
VDPA_ATTR_DEV_BLK_FLUSH 36
`;

/** Structs: size in bytes, then each member as name@offset:bytes; 0 bytes for a flexible array member. */
const STRUCTS = `
vhost_vring_state 8 index@0:4 num@4:4
vhost_vring_file 8 index@0:4 fd@4:4
vhost_vring_addr 40 index@0:4 flags@4:4 desc_user_addr@8:8 used_user_addr@16:8 avail_user_addr@24:8 log_guest_addr@32:8
vhost_vdpa_config 8 off@0:4 len@4:4 buf@8:0
vhost_vdpa_iova_range 16 first@0:8 last@8:8
vhost_iotlb_msg 32 iova@0:8 size@8:8 uaddr@16:8 perm@24:1 type@25:1
vhost_msg 72 type@0:4 iotlb@8:32
vhost_msg_v2 72 type@0:4 asid@4:4 iotlb@8:32
vhost_memory_region 32 guest_phys_addr@0:8 memory_size@8:8 userspace_addr@16:8 flags_padding@24:8
vhost_memory 8 nregions@0:4 padding@4:4 regions@8:0
vduse_dev_config 336 name@0:256 vendor_id@256:4 device_id@260:4 features@264:8 vq_num@272:4 vq_align@276:4 ngroups@280:4 nas@284:4 reserved@288:44 config_size@332:4 config@336:0
vduse_iotlb_entry 32 offset@0:8 start@8:8 last@16:8 perm@24:1
vduse_iotlb_entry_v2 80 offset@0:8 start@8:8 last@16:8 perm@24:1 padding@25:7 asid@32:4 reserved@36:44
vduse_config_data 8 offset@0:4 length@4:4 buffer@8:0
vduse_vq_config 32 index@0:4 max_size@4:2 reserved1@6:2 group@8:4 reserved2@12:20
vduse_vq_state_split 2 avail_index@0:2
vduse_vq_state_packed 8 last_avail_counter@0:2 last_avail_idx@2:2 last_used_counter@4:2 last_used_idx@6:2
vduse_vq_info 48 index@0:4 num@4:4 desc_addr@8:8 driver_addr@16:8 device_addr@24:8 split@32:2 packed@32:8 ready@40:1
vduse_vq_eventfd 8 index@0:4 fd@4:4
vduse_iova_umem 48 uaddr@0:8 iova@8:8 size@16:8 asid@24:4 reserved@28:20
vduse_iova_info 48 start@0:8 last@8:8 capability@16:8 asid@24:4 reserved@28:20
vduse_vq_state 12 index@0:4 split@4:2 packed@4:8
vduse_dev_status 1 status@0:1
vduse_iova_range 16 start@0:8 last@8:8
vduse_iova_range_v2 24 start@0:8 last@8:8 asid@16:4 padding@20:4
vduse_vq_group_asid 8 group@0:4 asid@4:4
vduse_vq_ready 8 num@0:4 ready@4:4
vduse_dev_request 152 type@0:4 request_id@4:4 reserved@8:16 vq_state@24:12 s@24:1 iova@24:16 iova_v2@24:24 vq_group_asid@24:8 vq_ready@24:8
vduse_dev_response 152 request_id@0:4 result@4:4 reserved@8:16 vq_state@24:12
virtio_blk_geometry 4 cylinders@0:2 heads@2:1 sectors@3:1
virtio_blk_config 60 capacity@0:8 size_max@8:4 seg_max@12:4 geometry@16:4 blk_size@20:4 physical_block_exp@24:1 alignment_offset@25:1 min_io_size@26:2 opt_io_size@28:4 wce@32:1 num_queues@34:2 max_discard_sectors@36:4 max_discard_seg@40:4 discard_sector_alignment@44:4 max_write_zeroes_sectors@48:4 max_write_zeroes_seg@52:4 write_zeroes_may_unmap@56:1
virtio_net_config 24 mac@0:6 status@6:2 max_virtqueue_pairs@8:2 mtu@10:2 speed@12:4 duplex@16:1 rss_max_key_size@17:1 rss_max_indirection_table_length@18:2 supported_hash_types@20:4
nlmsghdr 16 nlmsg_len@0:4 nlmsg_type@4:2 nlmsg_flags@6:2 nlmsg_seq@8:4 nlmsg_pid@12:4
nlmsgerr 20 error@0:4 msg@4:16
genlmsghdr 4 cmd@0:1 version@1:1 reserved@2:2
nlattr 4 nla_len@0:2 nla_type@2:2
`;

/** Names that the headers of Linux 6.1 do not have: newer ones, and the specification's that no kernel header has. */
const LATER_THAN_LINUX_6_1 = new RegExp(
  `\\b(${[
    'VHOST_BACKEND_F_(RESUME|ENABLE_AFTER_DRIVER_OK|DESC_ASID|IOTLB_PERSIST)',
    'VHOST_VDPA_(RESUME|GET_VRING_DESC_GROUP|GET_VRING_SIZE)',
    'VDUSE_(API_VERSION_1|F_QUEUE_READY|F_SUSPEND|GET_FEATURES|SET_FEATURES|IOTLB_GET_FD2)',
    'VDUSE_(SET_VQ_GROUP_ASID|SET_VQ_READY|SUSPEND)',
    'vduse_(iotlb_entry_v2|iova_range_v2|vq_group_asid|vq_ready)',
    'ngroups|nas|asid|group|reserved1|reserved2|iova_v2|vq_group_asid|vq_ready',
    'VIRTIO_BLK_(F_LIFETIME|F_ZONED|SECTOR_SIZE)|VIRTQUEUE_MAX_SIZE|PVIRTQ_EVENT_SUPPRESS_ALIGN',
    'VIRTIO_NET_(RECEIVEQ1|TRANSMITQ1)',
    'VIRTIO_F_(NOTIFICATION_DATA|NOTIF_CONFIG_DATA|ADMIN_VQ)',
    'VDPA_ATTR_DEV_BLK_\\w+',
    'VIRTIO_NET_F_(HASH_TUNNEL|VQ_NOTF_COAL|GUEST_USO4|GUEST_USO6|HOST_USO|GUEST_HDRLEN)',
  ].join('|')})\\b`,
);

/** Whether headers of Linux 6.1 or later may lack what `expression` names. */
export function mayBeAbsent(expression: string): boolean {
  return LATER_THAN_LINUX_6_1.test(expression);
}

function recordsOfStruct(line: string): [string, number][] {
  const [name, size, ...members] = line.split(' ') as [string, string, ...string[]];
  return [
    [sizeOf(name), Number(size)],
    ...members.flatMap((member): [string, number][] => {
      const [field, offset, bytes] = member.split(/[@:]/) as [string, string, string];
      if (isPadding(field)) return [[endOf(name, field), Number(offset) + Number(bytes)]];
      const place: [string, number] = [offsetOf(name, field), Number(offset)];
      return bytes === '0' ? [place] : [place, [sizeOfMember(name, field), Number(bytes)]];
    }),
  ];
}

/** Every recorded number, by C expression. */
export const recorded: ReadonlyMap<string, number> = new Map([
  ...CONSTANTS.trim()
    .split('\n')
    .map((line): [string, number] => {
      const end = line.lastIndexOf(' ');
      return [line.slice(0, end), Number(line.slice(end))];
    }),
  ...STRUCTS.trim().split('\n').flatMap(recordsOfStruct),
]);
