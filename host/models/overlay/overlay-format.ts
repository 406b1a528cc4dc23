import { crc32 } from 'node:zlib';
import { RingbellError } from '../../errors.js';

/**
 * An overlay file: a header, a map with a byte for each cluster of the disk, and the clusters themselves, each at a place of its
 * own whether it is used or not: the file is sparse. Numbers are little-endian.
 *
 *     0              4096                 data: whole clusters
 *     ├──────────────┼────────────────────┼──────────┬──────────┬────
 *     │ header       │ map                │ cluster 0│ cluster 1│ …
 */
const MAGIC = 'ringbell overlay';
const VERSION = 1;
/** Bytes of the header; where the map begins. */
export const HEADER_SIZE = 4096;
/** Offsets in the header. The checksum covers what is before it. */
const VERSION_OFFSET = 16;
const CLUSTER_SIZE_OFFSET = 20;
const DISK_BYTES_OFFSET = 24;
const BASE_BYTES_OFFSET = 32;
const FINGERPRINT_OFFSET = 40;
const BOOT_ID_OFFSET = 72;
const CHECKSUM_OFFSET = 88;
const FINGERPRINT_SIZE = BOOT_ID_OFFSET - FINGERPRINT_OFFSET;
const BOOT_ID_SIZE = CHECKSUM_OFFSET - BOOT_ID_OFFSET;

/** Bytes of a cluster, from and to; each is a power of two. */
export const CLUSTER_SIZE_MINIMUM = 4096;
export const CLUSTER_SIZE_LIMIT = 2 ** 21;
/** Clusters, and so bytes of the map, which is kept in memory. */
export const CLUSTERS_LIMIT = 2 ** 28;

/** Where the bytes of a cluster are. */
export const STATE_BASE = 0;
export const STATE_DATA = 1;
export const STATE_ZERO = 2;
/** A byte of the map: the state in the lower half, and in the upper half the state as it was when it was last flushed. */
export const STATE_MASK = 0x0f;
export const FLUSHED_SHIFT = 4;

/** What the header of an overlay file says. */
export interface OverlayHeader {
  /** Bytes. */
  clusterSize: number;
  diskBytes: number;
  baseBytes: number;
  /** Of the base's contents. */
  fingerprint: Uint8Array;
  /** Of the machine when the file was written to last: what was not flushed counts until it boots again. */
  bootId: Uint8Array;
}

/** Clusters of a disk; the last one may be cut off. */
export function clustersOf({ diskBytes, clusterSize }: OverlayHeader): number {
  return Math.ceil(diskBytes / clusterSize);
}

/** Where cluster 0 is. */
export function dataOffsetOf(header: OverlayHeader): number {
  const { clusterSize } = header;
  return Math.ceil((HEADER_SIZE + clustersOf(header)) / clusterSize) * clusterSize;
}

/** Bytes of the whole file. */
export function fileBytesOf(header: OverlayHeader): number {
  return dataOffsetOf(header) + clustersOf(header) * header.clusterSize;
}

export function encodeHeader(header: OverlayHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_SIZE);
  bytes.write(MAGIC, 'latin1');
  bytes.writeUInt32LE(VERSION, VERSION_OFFSET);
  bytes.writeUInt32LE(header.clusterSize, CLUSTER_SIZE_OFFSET);
  bytes.writeBigUInt64LE(BigInt(header.diskBytes), DISK_BYTES_OFFSET);
  bytes.writeBigUInt64LE(BigInt(header.baseBytes), BASE_BYTES_OFFSET);
  bytes.set(header.fingerprint, FINGERPRINT_OFFSET);
  bytes.set(header.bootId, BOOT_ID_OFFSET);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, CHECKSUM_OFFSET)), CHECKSUM_OFFSET);
  return bytes;
}

/** Reads and judges a header; `path` is for messages. Throws ERR_OVERLAY_FILE. */
export function decodeHeader(bytes: Buffer, path: string): OverlayHeader {
  const refuse = (why: string) => new RingbellError('ERR_OVERLAY_FILE', `${path} ${why}`);
  if (bytes.length < HEADER_SIZE || bytes.toString('latin1', 0, MAGIC.length) !== MAGIC)
    throw refuse('is not an overlay file');
  const version = bytes.readUInt32LE(VERSION_OFFSET);
  if (version !== VERSION) throw refuse(`has version ${version} of the format, and ${VERSION} is known here`);
  if (crc32(bytes.subarray(0, CHECKSUM_OFFSET)) !== bytes.readUInt32LE(CHECKSUM_OFFSET))
    throw refuse('is damaged: the checksum of its header is not right');
  const header = {
    clusterSize: bytes.readUInt32LE(CLUSTER_SIZE_OFFSET),
    diskBytes: Number(bytes.readBigUInt64LE(DISK_BYTES_OFFSET)),
    baseBytes: Number(bytes.readBigUInt64LE(BASE_BYTES_OFFSET)),
    fingerprint: bytes.subarray(FINGERPRINT_OFFSET, FINGERPRINT_OFFSET + FINGERPRINT_SIZE),
    bootId: bytes.subarray(BOOT_ID_OFFSET, BOOT_ID_OFFSET + BOOT_ID_SIZE),
  };
  const why = whatIsImpossible(header);
  if (why !== undefined) throw refuse(`is damaged: ${why}`);
  return header;
}

/** What about a geometry cannot be; undefined if nothing is wrong. */
export function whatIsImpossible({
  clusterSize,
  diskBytes,
  baseBytes,
}: Pick<OverlayHeader, 'clusterSize' | 'diskBytes' | 'baseBytes'>): string | undefined {
  const isPowerOfTwo = Number.isInteger(Math.log2(clusterSize));
  if (!isPowerOfTwo || clusterSize < CLUSTER_SIZE_MINIMUM || clusterSize > CLUSTER_SIZE_LIMIT)
    return `a cluster size of ${clusterSize}: it must be a power of two from ${CLUSTER_SIZE_MINIMUM} to ${CLUSTER_SIZE_LIMIT}`;
  if (!Number.isSafeInteger(diskBytes) || diskBytes <= 0 || baseBytes > diskBytes)
    return `a disk of ${diskBytes} bytes over a base of ${baseBytes}`;
  if (diskBytes / clusterSize > CLUSTERS_LIMIT)
    return `more than ${CLUSTERS_LIMIT} clusters: a disk of ${diskBytes} bytes needs larger ones`;
  return undefined;
}
