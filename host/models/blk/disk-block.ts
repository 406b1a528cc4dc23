import {
  DISK_BLOCK_SIZE,
  DISK_CAPACITY,
  DISK_FILE_OPS,
  DISK_FLAGS,
  DISK_ID,
  DISK_LINEAR,
  DISK_LOST,
  DISK_MAX_RANGE_SECTORS,
} from '../../../assembly/layout.js';
import { VIRTIO_BLK_SECTOR_SIZE } from '../../../assembly/virtio.js';
import type { Aperture } from '../../aperture/aperture.js';
import { type BlockGeometry, diskFlags, encodeId, MAX_RANGE_SECTORS } from './block-config.js';

/**
 * Allocates the DISK block of assembly/layout.ts for a disk: its linear address. `sigbusFlag` is the linear address of the
 * aperture's SIGBUS counter. Throws ERR_ARGUMENT for a bad id.
 */
export function allocateDiskBlock(
  aperture: Aperture,
  geometry: BlockGeometry,
  id: string,
  sigbusFlag: number,
): number {
  const encoded = encodeId(id);
  const disk = aperture.allocate(DISK_BLOCK_SIZE);
  aperture.data.setUint32(disk + DISK_FLAGS, diskFlags(geometry), true);
  aperture.data.setUint32(disk + DISK_MAX_RANGE_SECTORS, MAX_RANGE_SECTORS, true);
  aperture.data.setUint32(disk + DISK_LOST, sigbusFlag, true);
  aperture.u8.set(encoded, disk + DISK_ID);
  setDiskCapacity(aperture, disk, geometry.capacity);
  return disk;
}

/** Changes the capacity, in bytes. While queues run only from 0. */
export function setDiskCapacity(aperture: Aperture, disk: number, bytes: number): void {
  aperture.data.setBigUint64(disk + DISK_CAPACITY, BigInt(bytes / VIRTIO_BLK_SECTOR_SIZE), true);
}

/** Says where the bytes of a disk can be reached, and which operations (IO_OP_*) are the file's all the same. */
export function setDiskMemory(
  aperture: Aperture,
  disk: number,
  linear: number,
  fileOps: readonly number[],
): void {
  aperture.data.setUint32(disk + DISK_LINEAR, linear, true);
  const bits = fileOps.reduce((mask, op) => mask | (1 << op), 0);
  aperture.data.setUint32(disk + DISK_FILE_OPS, bits, true);
}
