import { fstatSync } from 'node:fs';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { systemError } from '../errors.js';
import type { DeviceIotlb } from './device-iotlb.js';
import { MapFile } from './map-file.js';

const LAST_IOVA = (1n << 64n) - 1n;
/** Pages of IOVA that a byte of a log stands for. */
const PAGES_PER_BYTE = 8;

/** Memory that a driver hands in for a device to mark what it writes: vhost's log, bit n % 8 of byte n / 8 for page n. */
export interface DirtyLogMemory {
  /** A file that can be mapped shared and writable. The bus keeps a descriptor of its own. */
  fd: number;
  /** Byte of the file at which the log starts: whole pages. */
  offset: bigint;
  /** Bytes. Pages of IOVA beyond 8 × bytes are not marked. */
  bytes: number;
  /** Address space whose IOVAs are meant; 0 if left out. */
  asid?: number;
}

/** The dirty log of a device, as its bus holds it. */
export class DirtyLogFile {
  readonly offset: bigint;
  readonly bytes: number;
  readonly asid: number;
  readonly file: MapFile;

  /**
   * Takes `memory` for the log of a device with these mappings, by vhost's rules: EINVAL unless it is whole and aligned (and
   * its address space is there), EFAULT when its file is shorter,
   * or a mapping reaches beyond what it has bits for (vq_memory_access_ok).
   */
  constructor({ fd, offset, bytes, asid = 0 }: DirtyLogMemory, iotlbs: readonly DeviceIotlb[]) {
    const iotlb = iotlbs[asid];
    if (!iotlb) throw systemError('EINVAL', 'ioctl', `no address space ${asid}`);
    if (!Number.isSafeInteger(bytes) || bytes <= 0 || offset < 0n || offset % BigInt(PAGE_SIZE))
      throw systemError('EINVAL', 'ioctl', `no log has ${bytes} bytes at byte ${offset} of its file`);
    if (offset + BigInt(bytes) > BigInt(fstatSync(fd).size))
      throw systemError('EFAULT', 'ioctl', `its file ends before a log of ${bytes} bytes`);
    if (iotlb.first(BigInt(bytes) * BigInt(PAGES_PER_BYTE * PAGE_SIZE), LAST_IOVA))
      throw systemError('EFAULT', 'ioctl', `a log of ${bytes} bytes does not reach the last mapping`);
    this.offset = offset;
    this.bytes = bytes;
    this.asid = asid;
    this.file = MapFile.open(fd);
  }
}
