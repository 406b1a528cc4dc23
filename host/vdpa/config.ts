import { array, type Codec, u8, u16, u32, u64 } from '../uapi/codec.js';
import type { Attributes } from '../uapi/netlink.js';
import * as vdpa from '../uapi/vdpa.js';
import { ETH_ALEN } from '../uapi/virtio.js';

/** A device's config space as the kernel tells it; what a feature that the device does not offer governs is left out. */
export interface VdpaConfig {
  /** VIRTIO_ID_*. */
  readonly deviceId: number;
  /** Features that the device offers, as a mask; undefined where the kernel is too old to say. */
  readonly features: bigint | undefined;
  /** Those that its driver has accepted; undefined before FEATURES_OK. */
  readonly negotiatedFeatures: bigint | undefined;
  /** By the names of virtio_blk_config and virtio_net_config; a MAC address as text. */
  readonly fields: Readonly<Record<string, number | bigint | string>>;
}

/** Of a MAC address. */
const macAddress = array(u8, ETH_ALEN);

const BLOCK_FIELDS: Readonly<
  Record<string, readonly [attribute: number, codec: Codec<number | bigint, never>]>
> = {
  capacity: [vdpa.VDPA_ATTR_DEV_BLK_CFG_CAPACITY, u64],
  size_max: [vdpa.VDPA_ATTR_DEV_BLK_CFG_SIZE_MAX, u32],
  seg_max: [vdpa.VDPA_ATTR_DEV_BLK_CFG_SEG_MAX, u32],
  blk_size: [vdpa.VDPA_ATTR_DEV_BLK_CFG_BLK_SIZE, u32],
  physical_block_exp: [vdpa.VDPA_ATTR_DEV_BLK_CFG_PHY_BLK_EXP, u8],
  alignment_offset: [vdpa.VDPA_ATTR_DEV_BLK_CFG_ALIGN_OFFSET, u8],
  min_io_size: [vdpa.VDPA_ATTR_DEV_BLK_CFG_MIN_IO_SIZE, u16],
  opt_io_size: [vdpa.VDPA_ATTR_DEV_BLK_CFG_OPT_IO_SIZE, u32],
  num_queues: [vdpa.VDPA_ATTR_DEV_BLK_CFG_NUM_QUEUES, u16],
  max_discard_sectors: [vdpa.VDPA_ATTR_DEV_BLK_CFG_MAX_DISCARD_SEC, u32],
  max_discard_seg: [vdpa.VDPA_ATTR_DEV_BLK_CFG_MAX_DISCARD_SEG, u32],
  discard_sector_alignment: [vdpa.VDPA_ATTR_DEV_BLK_CFG_DISCARD_SEC_ALIGN, u32],
  max_write_zeroes_sectors: [vdpa.VDPA_ATTR_DEV_BLK_CFG_MAX_WRITE_ZEROES_SEC, u32],
  max_write_zeroes_seg: [vdpa.VDPA_ATTR_DEV_BLK_CFG_MAX_WRITE_ZEROES_SEG, u32],
};
const NET_FIELDS: typeof BLOCK_FIELDS = {
  status: [vdpa.VDPA_ATTR_DEV_NET_STATUS, u16],
  max_virtqueue_pairs: [vdpa.VDPA_ATTR_DEV_NET_CFG_MAX_VQP, u16],
  mtu: [vdpa.VDPA_ATTR_DEV_NET_CFG_MTU, u16],
};

/** The config space in the reply to VDPA_CMD_DEV_CONFIG_GET. */
export function decodeConfig(reply: Attributes): VdpaConfig {
  const fields: Record<string, number | bigint | string> = {};
  const mac = reply.find(vdpa.VDPA_ATTR_DEV_NET_CFG_MACADDR, macAddress);
  if (mac) fields.mac = formatMacAddress(mac);
  for (const [name, [attribute, codec]] of Object.entries({ ...NET_FIELDS, ...BLOCK_FIELDS })) {
    const value = reply.find(attribute, codec);
    if (value !== undefined) fields[name] = value;
  }
  return {
    deviceId: reply.get(vdpa.VDPA_ATTR_DEV_ID, u32),
    features: reply.find(vdpa.VDPA_ATTR_DEV_FEATURES, u64),
    negotiatedFeatures: reply.find(vdpa.VDPA_ATTR_DEV_NEGOTIATED_FEATURES, u64),
    fields,
  };
}

/** '52:54:00:12:34:56' of its six bytes. */
export function formatMacAddress(bytes: readonly number[]): string {
  return bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** The six bytes of '52:54:00:12:34:56'; undefined for what is no address of one device. */
export function parseMacAddress(text: string): number[] | undefined {
  if (!/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(text)) return undefined;
  const bytes = text.split(':').map((byte) => Number.parseInt(byte, 16));
  const multicast = bytes[0]! & 1;
  return multicast || bytes.every((byte) => byte === 0) ? undefined : bytes;
}
