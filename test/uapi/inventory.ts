import * as netlink from '../../host/uapi/netlink.js';
import { type Fields, Struct } from '../../host/uapi/struct.js';
import * as tun from '../../host/uapi/tun.js';
import * as vdpa from '../../host/uapi/vdpa.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vfio from '../../host/uapi/vfio.js';
import * as vhost from '../../host/uapi/vhost.js';
import * as vhostMdev from '../../host/uapi/vhost-mdev.js';
import * as virtio from '../../host/uapi/virtio.js';
import { endOf, isPadding, offsetOf, sizeOf, sizeOfMember } from './expressions.js';

/** One fact that host/uapi states: a C expression, as recorded.ts and the kernel headers know it, and our value. */
export interface Fact {
  /** 'VHOST_SET_OWNER', 'sizeof(struct vhost_msg)', 'offsetof(struct vhost_msg, type)'. */
  expression: string;
  value: number;
}

/** Constants that are the place of something in a struct, or that the kernel's headers put otherwise. */
const EXPRESSIONS: Readonly<Record<string, string>> = {
  NLA_TYPE_MASK: 'NLA_TYPE_MASK & 0xFFFF',
  VIRTQ_DESC_SIZE: 'sizeof(struct vring_desc)',
  VIRTQ_DESC_F_NEXT: 'VRING_DESC_F_NEXT',
  VIRTQ_DESC_F_WRITE: 'VRING_DESC_F_WRITE',
  VIRTQ_DESC_F_INDIRECT: 'VRING_DESC_F_INDIRECT',
  VIRTQ_AVAIL_F_NO_INTERRUPT: 'VRING_AVAIL_F_NO_INTERRUPT',
  VIRTQ_AVAIL_FLAGS: 'offsetof(struct vring_avail, flags)',
  VIRTQ_AVAIL_IDX: 'offsetof(struct vring_avail, idx)',
  VIRTQ_AVAIL_RING: 'offsetof(struct vring_avail, ring)',
  VIRTQ_AVAIL_ENTRY_SIZE: 'sizeof(((struct vring_avail *)0)->ring[0])',
  VIRTQ_USED_F_NO_NOTIFY: 'VRING_USED_F_NO_NOTIFY',
  VIRTQ_USED_FLAGS: 'offsetof(struct vring_used, flags)',
  VIRTQ_USED_IDX: 'offsetof(struct vring_used, idx)',
  VIRTQ_USED_RING: 'offsetof(struct vring_used, ring)',
  VIRTQ_USED_ENTRY_SIZE: 'sizeof(struct vring_used_elem)',
  VIRTQ_EVENT_SIZE: 'sizeof(vring_used_event((struct vring *)0))',
  VIRTQ_DESC_F_AVAIL: '1 << VRING_PACKED_DESC_F_AVAIL',
  VIRTQ_DESC_F_USED: '1 << VRING_PACKED_DESC_F_USED',
  PVIRTQ_DESC_LEN: 'offsetof(struct vring_packed_desc, len)',
  PVIRTQ_DESC_ID: 'offsetof(struct vring_packed_desc, id)',
  PVIRTQ_DESC_FLAGS: 'offsetof(struct vring_packed_desc, flags)',
  PVIRTQ_EVENT_SUPPRESS_SIZE: 'sizeof(struct vring_packed_desc_event)',
  RING_EVENT_FLAGS_ENABLE: 'VRING_PACKED_EVENT_FLAG_ENABLE',
  RING_EVENT_FLAGS_DISABLE: 'VRING_PACKED_EVENT_FLAG_DISABLE',
  RING_EVENT_FLAGS_DESC: 'VRING_PACKED_EVENT_FLAG_DESC',
  VIRTQ_DESC_ALIGN: 'VRING_DESC_ALIGN_SIZE',
  VIRTQ_AVAIL_ALIGN: 'VRING_AVAIL_ALIGN_SIZE',
  VIRTQ_USED_ALIGN: 'VRING_USED_ALIGN_SIZE',
  VIRTIO_BLK_HEADER_SIZE: 'sizeof(struct virtio_blk_outhdr)',
  VIRTIO_BLK_HEADER_TYPE: 'offsetof(struct virtio_blk_outhdr, type)',
  VIRTIO_BLK_HEADER_SECTOR: 'offsetof(struct virtio_blk_outhdr, sector)',
  VIRTIO_BLK_RANGE_SIZE: 'sizeof(struct virtio_blk_discard_write_zeroes)',
  VIRTIO_BLK_RANGE_SECTOR: 'offsetof(struct virtio_blk_discard_write_zeroes, sector)',
  VIRTIO_BLK_RANGE_NUM_SECTORS: 'offsetof(struct virtio_blk_discard_write_zeroes, num_sectors)',
  VIRTIO_BLK_RANGE_FLAGS: 'offsetof(struct virtio_blk_discard_write_zeroes, flags)',
};

function factsOfStruct({ name, size, fields }: Struct<Fields>): Fact[] {
  const facts = [{ expression: sizeOf(name), value: size }];
  for (const [member, [codec, offset]] of Object.entries(fields)) {
    if (isPadding(member)) {
      facts.push({ expression: endOf(name, member), value: offset + codec.size });
      continue;
    }
    facts.push({ expression: offsetOf(name, member), value: offset });
    // sizeof of a flexible array member is no valid C.
    if (codec.size) facts.push({ expression: sizeOfMember(name, member), value: codec.size });
  }
  return facts;
}

function factsOfModule(module: object): Fact[] {
  return Object.entries(module).flatMap(([name, value]): Fact[] => {
    if (value instanceof Struct) return factsOfStruct(value);
    // The offsets in the config space are those of the structs virtio_blk_config and virtio_net_config, and the size is that of
    // virtio_net_hdr_v1.
    if (typeof value !== 'number' || /^VIRTIO_((BLK|NET)_CONFIG_|NET_HDR_SIZE$)/.test(name)) return [];
    return [{ expression: EXPRESSIONS[name] ?? name, value }];
  });
}

/** Every number of host/uapi: constants, sizes and offsets. */
export const facts: readonly Fact[] = [vhost, vhostMdev, vfio, vduse, virtio, netlink, vdpa, tun].flatMap(
  factsOfModule,
);
