import { DISK_F_DISCARD, DISK_F_FLUSH, DISK_F_RO, DISK_F_WRITE_ZEROES } from '../../../assembly/layout.js';
import { RingbellError } from '../../errors.js';
import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_SECTOR_SIZE,
  virtioBlkConfig,
} from '../../uapi/virtio.js';

/** Sectors: 32 MiB, so that one DISCARD or WRITE_ZEROES does not hold up a pause for long. */
export const MAX_RANGE_SECTORS = 65536;
/** Data segments of one request that are announced at most; more gain nothing. */
const SEG_MAX_LIMIT = 254;
/** Bytes; the longest segment that is announced: SEG_MAX_LIMIT of them stay below BLK_REQUEST_BYTES. */
export const SIZE_MAX = 2 ** 20;
/** Bytes; the longest segment that a disk served by JavaScript announces, and the longest request. */
export const JAVASCRIPT_SIZE_MAX = 65536;
export const JAVASCRIPT_REQUEST_LIMIT = 2 ** 23;
/** Bytes; what a disk writes at a time at its best: the page cache's unit. */
const PHYSICAL_BLOCK_BYTES = 4096;
/** Bytes; more than a page is no block size to any driver. */
export const BLOCK_SIZE_LIMIT = 4096;

/** What a driver is told about a disk. */
export interface BlockGeometry {
  /** Bytes. */
  capacity: number;
  /** Bytes; a power of two from 512 to 4096. */
  blockSize: number;
  readOnly: boolean;
  flush: boolean;
  discard: boolean;
  writeZeroes: boolean;
  /** Bytes; the longest segment of a request. */
  sizeMax: number;
  /** Bytes; the longest request. */
  requestLimit: number;
}

/** Judges a capacity in bytes. `what` names it in the message. Throws ERR_ARGUMENT. */
export function checkCapacity(capacity: number, blockSize: number, what: string): void {
  if (!Number.isSafeInteger(capacity) || capacity <= 0)
    throw new RingbellError('ERR_ARGUMENT', `${what} must be a positive number of bytes, not ${capacity}`);
  if (capacity % blockSize)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `${what} must be a multiple of the block size of ${blockSize} bytes, not ${capacity}`,
    );
}

/** Judges a block size. Throws ERR_ARGUMENT. */
export function checkBlockSize(blockSize: number): void {
  const valid = blockSize >= VIRTIO_BLK_SECTOR_SIZE && blockSize <= BLOCK_SIZE_LIMIT;
  if (!valid || (blockSize & (blockSize - 1)) !== 0)
    throw new RingbellError('ERR_ARGUMENT', `blockSize must be 512, 1024, 2048 or 4096, not ${blockSize}`);
}

/** The 20 bytes that GET_ID answers. Throws ERR_ARGUMENT if `id` is longer. */
export function encodeId(id: string): Uint8Array {
  const bytes = new TextEncoder().encode(id);
  if (bytes.length > VIRTIO_BLK_ID_BYTES)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `id must be at most ${VIRTIO_BLK_ID_BYTES} bytes long, not ${bytes.length}`,
    );
  const padded = new Uint8Array(VIRTIO_BLK_ID_BYTES);
  padded.set(bytes);
  return padded;
}

/** Bit numbers of the features of a disk with `queues` queues, besides those that every device has. */
export function blockFeatures(geometry: BlockGeometry, queues: number): number[] {
  const bits = [VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_TOPOLOGY];
  if (queues > 1) bits.push(VIRTIO_BLK_F_MQ);
  if (geometry.readOnly) bits.push(VIRTIO_BLK_F_RO);
  if (geometry.flush) bits.push(VIRTIO_BLK_F_FLUSH);
  if (geometry.discard) bits.push(VIRTIO_BLK_F_DISCARD);
  if (geometry.writeZeroes) bits.push(VIRTIO_BLK_F_WRITE_ZEROES);
  return bits;
}

/** DISK_F_* of a disk. */
export function diskFlags(geometry: BlockGeometry): number {
  let flags = 0;
  if (geometry.readOnly) flags |= DISK_F_RO;
  if (geometry.flush) flags |= DISK_F_FLUSH;
  if (geometry.discard) flags |= DISK_F_DISCARD;
  if (geometry.writeZeroes) flags |= DISK_F_WRITE_ZEROES;
  return flags;
}

/** The config space of a disk with `queues` queues of at most `queueSize` entries. */
export function encodeBlockConfig(geometry: BlockGeometry, queues: number, queueSize: number): Uint8Array {
  const { capacity, blockSize, sizeMax, requestLimit } = geometry;
  const blocksPerPhysical = PHYSICAL_BLOCK_BYTES / blockSize;
  return virtioBlkConfig.encode({
    capacity: BigInt(capacity / VIRTIO_BLK_SECTOR_SIZE),
    size_max: sizeMax,
    // Header and status take a descriptor each.
    seg_max: Math.min(queueSize - 2, SEG_MAX_LIMIT, requestLimit / sizeMax),
    blk_size: blockSize,
    physical_block_exp: Math.log2(blocksPerPhysical),
    min_io_size: blocksPerPhysical,
    num_queues: queues,
    max_discard_sectors: geometry.discard ? MAX_RANGE_SECTORS : 0,
    max_discard_seg: geometry.discard ? 1 : 0,
    discard_sector_alignment: geometry.discard ? blockSize / VIRTIO_BLK_SECTOR_SIZE : 0,
    max_write_zeroes_sectors: geometry.writeZeroes ? MAX_RANGE_SECTORS : 0,
    max_write_zeroes_seg: geometry.writeZeroes ? 1 : 0,
    write_zeroes_may_unmap: geometry.writeZeroes && geometry.discard ? 1 : 0,
  });
}
