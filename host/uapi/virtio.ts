/**
 * <linux/virtio_config.h>, <linux/virtio_ids.h>, <linux/virtio_blk.h>, <linux/virtio_console.h>, <linux/virtio_net.h>: the constants of the
 * specification, which assembly/virtio.ts holds for WASM and host alike, and the config spaces as structs.
 */
import {
  ETH_ALEN,
  VIRTIO_BLK_CONFIG_ALIGNMENT_OFFSET,
  VIRTIO_BLK_CONFIG_BLK_SIZE,
  VIRTIO_BLK_CONFIG_BYTES,
  VIRTIO_BLK_CONFIG_CAPACITY,
  VIRTIO_BLK_CONFIG_CYLINDERS,
  VIRTIO_BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT,
  VIRTIO_BLK_CONFIG_HEADS,
  VIRTIO_BLK_CONFIG_MAX_DISCARD_SECTORS,
  VIRTIO_BLK_CONFIG_MAX_DISCARD_SEG,
  VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS,
  VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SEG,
  VIRTIO_BLK_CONFIG_MIN_IO_SIZE,
  VIRTIO_BLK_CONFIG_NUM_QUEUES,
  VIRTIO_BLK_CONFIG_OPT_IO_SIZE,
  VIRTIO_BLK_CONFIG_PHYSICAL_BLOCK_EXP,
  VIRTIO_BLK_CONFIG_SECTORS,
  VIRTIO_BLK_CONFIG_SEG_MAX,
  VIRTIO_BLK_CONFIG_SIZE_MAX,
  VIRTIO_BLK_CONFIG_WCE,
  VIRTIO_BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP,
  VIRTIO_NET_CONFIG_BYTES,
  VIRTIO_NET_CONFIG_DUPLEX,
  VIRTIO_NET_CONFIG_MAC,
  VIRTIO_NET_CONFIG_MAX_VIRTQUEUE_PAIRS,
  VIRTIO_NET_CONFIG_MTU,
  VIRTIO_NET_CONFIG_RSS_MAX_INDIRECTION_TABLE_LENGTH,
  VIRTIO_NET_CONFIG_RSS_MAX_KEY_SIZE,
  VIRTIO_NET_CONFIG_SPEED,
  VIRTIO_NET_CONFIG_STATUS,
  VIRTIO_NET_CONFIG_SUPPORTED_HASH_TYPES,
  VIRTIO_NET_HDR_SIZE,
} from '../../assembly/virtio.js';
import { array, u8, u16, u32, u64 } from './codec.js';
import { struct } from './struct.js';

export * from '../../assembly/virtio.js';

/** Legacy geometry, if VIRTIO_BLK_F_GEOMETRY. */
export const virtioBlkGeometry = struct('virtio_blk_geometry', 4, {
  cylinders: [u16, 0],
  heads: [u8, VIRTIO_BLK_CONFIG_HEADS - VIRTIO_BLK_CONFIG_CYLINDERS],
  sectors: [u8, VIRTIO_BLK_CONFIG_SECTORS - VIRTIO_BLK_CONFIG_CYLINDERS],
});

/**
 * Config space of a block device, up to and with write_zeroes_may_unmap. `capacity` and the sector counts are in units
 * of VIRTIO_BLK_SECTOR_SIZE, `blk_size` and `size_max` in bytes, `min_io_size` and `opt_io_size` in units of `blk_size`.
 * A device may have fewer bytes than the struct, or more.
 */
export const virtioBlkConfig = struct('virtio_blk_config', VIRTIO_BLK_CONFIG_BYTES, {
  capacity: [u64, VIRTIO_BLK_CONFIG_CAPACITY],
  size_max: [u32, VIRTIO_BLK_CONFIG_SIZE_MAX],
  seg_max: [u32, VIRTIO_BLK_CONFIG_SEG_MAX],
  geometry: [virtioBlkGeometry, VIRTIO_BLK_CONFIG_CYLINDERS],
  blk_size: [u32, VIRTIO_BLK_CONFIG_BLK_SIZE],
  physical_block_exp: [u8, VIRTIO_BLK_CONFIG_PHYSICAL_BLOCK_EXP],
  alignment_offset: [u8, VIRTIO_BLK_CONFIG_ALIGNMENT_OFFSET],
  min_io_size: [u16, VIRTIO_BLK_CONFIG_MIN_IO_SIZE],
  opt_io_size: [u32, VIRTIO_BLK_CONFIG_OPT_IO_SIZE],
  wce: [u8, VIRTIO_BLK_CONFIG_WCE],
  num_queues: [u16, VIRTIO_BLK_CONFIG_NUM_QUEUES],
  max_discard_sectors: [u32, VIRTIO_BLK_CONFIG_MAX_DISCARD_SECTORS],
  max_discard_seg: [u32, VIRTIO_BLK_CONFIG_MAX_DISCARD_SEG],
  discard_sector_alignment: [u32, VIRTIO_BLK_CONFIG_DISCARD_SECTOR_ALIGNMENT],
  max_write_zeroes_sectors: [u32, VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SECTORS],
  max_write_zeroes_seg: [u32, VIRTIO_BLK_CONFIG_MAX_WRITE_ZEROES_SEG],
  write_zeroes_may_unmap: [u8, VIRTIO_BLK_CONFIG_WRITE_ZEROES_MAY_UNMAP],
});

/** Config space of a console. `max_nr_ports` counts if VIRTIO_CONSOLE_F_MULTIPORT, `emerg_wr` if VIRTIO_CONSOLE_F_EMERG_WRITE. */
export const virtioConsoleConfig = struct('virtio_console_config', 12, {
  cols: [u16, 0],
  rows: [u16, 2],
  max_nr_ports: [u32, 4],
  emerg_wr: [u32, 8],
});

/** Message on a control queue of a console. `event` is VIRTIO_CONSOLE_*; what some events say besides lies behind it. */
export const virtioConsoleControl = struct('virtio_console_control', 8, {
  id: [u32, 0],
  event: [u16, 4],
  value: [u16, 6],
});

/**
 * Config space of a network device. `mtu` is in bytes, `speed` in units of 1 Mbit/s. A device has a part of it, up to the last
 * field that its features make valid.
 */
export const virtioNetConfig = struct('virtio_net_config', VIRTIO_NET_CONFIG_BYTES, {
  mac: [array(u8, ETH_ALEN), VIRTIO_NET_CONFIG_MAC],
  status: [u16, VIRTIO_NET_CONFIG_STATUS],
  max_virtqueue_pairs: [u16, VIRTIO_NET_CONFIG_MAX_VIRTQUEUE_PAIRS],
  mtu: [u16, VIRTIO_NET_CONFIG_MTU],
  speed: [u32, VIRTIO_NET_CONFIG_SPEED],
  duplex: [u8, VIRTIO_NET_CONFIG_DUPLEX],
  rss_max_key_size: [u8, VIRTIO_NET_CONFIG_RSS_MAX_KEY_SIZE],
  rss_max_indirection_table_length: [u16, VIRTIO_NET_CONFIG_RSS_MAX_INDIRECTION_TABLE_LENGTH],
  supported_hash_types: [u32, VIRTIO_NET_CONFIG_SUPPORTED_HASH_TYPES],
});

/** What every frame has in front. `num_buffers` is for frames that are received, and 0 for others; the other numbers are bytes. */
export const virtioNetHdrV1 = struct('virtio_net_hdr_v1', VIRTIO_NET_HDR_SIZE, {
  flags: [u8, 0],
  gso_type: [u8, 1],
  hdr_len: [u16, 2],
  gso_size: [u16, 4],
  csum_start: [u16, 6],
  csum_offset: [u16, 8],
  num_buffers: [u16, 10],
});
