import {
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_GEOMETRY,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_SECTOR_SIZE,
} from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import { hasBit } from '../uapi/bits.js';
import { virtioBlkConfig } from '../uapi/virtio.js';

/** Limits of DISCARD or WRITE_ZEROES. */
export interface BlockRangeLimits {
  /** Bytes of one request. */
  readonly maxBytes: number;
}

/** A disk's config space, as far as the negotiated features make it valid. */
export interface BlockConfig {
  /** Bytes. */
  readonly capacity: number;
  /** Bytes; the unit in which the device likes requests. Requests need only be whole sectors of 512 bytes. */
  readonly blockSize: number;
  /** Queues that the device offers. */
  readonly queues: number;
  /** Bytes of one data segment; undefined without a limit. */
  readonly sizeMax: number | undefined;
  /** Data segments of one request; undefined without a limit. */
  readonly segMax: number | undefined;
  /** Undefined where the device says nothing about it, as most do. */
  readonly geometry:
    | { readonly cylinders: number; readonly heads: number; readonly sectors: number }
    | undefined;
  /** How the device would like its requests laid out; undefined where it says nothing. */
  readonly topology:
    | {
        /** Bytes. */
        readonly physicalBlockSize: number;
        /** Bytes from the start of the disk to the first aligned physical block. */
        readonly alignmentOffset: number;
        /** Bytes, suggested; 0 for none. */
        readonly minIoSize: number;
        readonly optIoSize: number;
      }
    | undefined;
  /** Undefined on a device without DISCARD. */
  readonly discard: (BlockRangeLimits & { /** Bytes. */ readonly alignment: number }) | undefined;
  /** Undefined on a device without WRITE_ZEROES. */
  readonly writeZeroes: (BlockRangeLimits & { readonly mayUnmap: boolean }) | undefined;
}

/** Sectors; what a u32 range can say. */
const RANGE_SECTORS_MAX = 0xffff_ffff;

/**
 * Reads a config space that may be shorter than the struct. The device is not trusted: rejects with ERR_NOT_SUPPORTED a
 * capacity beyond 2^53 bytes and a segment limit below one sector; a block size of 0 is taken for a sector.
 */
export function decodeBlockConfig(bytes: Uint8Array, features: bigint): BlockConfig {
  const padded = new Uint8Array(virtioBlkConfig.size);
  padded.set(bytes.subarray(0, padded.length));
  const raw = virtioBlkConfig.decode(padded);
  const has = (bit: number) => hasBit(features, bit);
  const capacity = Number(raw.capacity) * VIRTIO_BLK_SECTOR_SIZE;
  if (capacity > Number.MAX_SAFE_INTEGER)
    throw new RingbellError('ERR_NOT_SUPPORTED', `a disk of ${raw.capacity} sectors is beyond 2^53 bytes`);
  const blockSize = (has(VIRTIO_BLK_F_BLK_SIZE) && raw.blk_size) || VIRTIO_BLK_SECTOR_SIZE;
  const sizeMax = has(VIRTIO_BLK_F_SIZE_MAX) ? raw.size_max : undefined;
  if (sizeMax !== undefined && sizeMax < VIRTIO_BLK_SECTOR_SIZE)
    throw new RingbellError('ERR_NOT_SUPPORTED', `size_max is ${sizeMax} bytes, less than a sector`);
  const rangeBytes = (sectors: number) => (sectors || RANGE_SECTORS_MAX) * VIRTIO_BLK_SECTOR_SIZE;
  return {
    capacity,
    blockSize,
    queues: (has(VIRTIO_BLK_F_MQ) && raw.num_queues) || 1,
    sizeMax,
    segMax: has(VIRTIO_BLK_F_SEG_MAX) ? raw.seg_max : undefined,
    geometry: has(VIRTIO_BLK_F_GEOMETRY) ? raw.geometry : undefined,
    topology: has(VIRTIO_BLK_F_TOPOLOGY)
      ? {
          physicalBlockSize: blockSize * 2 ** raw.physical_block_exp,
          alignmentOffset: blockSize * raw.alignment_offset,
          minIoSize: blockSize * raw.min_io_size,
          optIoSize: blockSize * raw.opt_io_size,
        }
      : undefined,
    discard: has(VIRTIO_BLK_F_DISCARD)
      ? {
          maxBytes: rangeBytes(raw.max_discard_sectors),
          alignment: (raw.discard_sector_alignment || 1) * VIRTIO_BLK_SECTOR_SIZE,
        }
      : undefined,
    writeZeroes: has(VIRTIO_BLK_F_WRITE_ZEROES)
      ? {
          maxBytes: rangeBytes(raw.max_write_zeroes_sectors),
          mayUnmap: raw.write_zeroes_may_unmap !== 0,
        }
      : undefined,
  };
}
