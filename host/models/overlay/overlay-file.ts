import { closeSync, fdatasync, fstatSync, read, write } from 'node:fs';
import { promisify } from 'node:util';
import { isSystemError } from '../../errors.js';
import { loadAddon } from '../../native/addon.js';

/** <linux/falloc.h>: punches a hole, in a regular file of any file system that can (since Linux 5.5). */
const FS_IOC_UNRESVSP64 = 0x4030582b;
/** struct space_resv: its size, and where l_start and l_len are. l_whence stays 0, SEEK_SET. */
const SPACE_RESV_SIZE = 48;
const L_START_OFFSET = 8;
const L_LEN_OFFSET = 16;

const readAt = promisify(read);
const writeAt = promisify(write);
const datasync = promisify(fdatasync);

/** Fills `into` from a descriptor; what lies behind the end of the file is left as it is. */
export async function readFully(fd: number, into: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < into.length; ) {
    const { bytesRead } = await readAt(fd, into, done, into.length - done, position + done);
    if (bytesRead === 0) return;
    done += bytesRead;
  }
}

/** The open file of an overlay. */
export class OverlayFile {
  readonly #fd: number;
  /** Whether the file system is known not to punch holes. */
  #cannotPunch = false;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Bytes. */
  get size(): number {
    return fstatSync(this.#fd).size;
  }

  async read(into: Uint8Array, position: number): Promise<void> {
    await readFully(this.#fd, into, position);
  }

  async write(from: Uint8Array, position: number): Promise<void> {
    for (let done = 0; done < from.length; ) {
      const { bytesWritten } = await writeAt(this.#fd, from, done, from.length - done, position + done);
      done += bytesWritten;
    }
  }

  /** Makes all durable that has been written so far. */
  datasync(): Promise<void> {
    return datasync(this.#fd);
  }

  /** Gives storage back, where the file system can: the bytes read as zeroes then. */
  async punch(position: number, bytes: number): Promise<void> {
    if (this.#cannotPunch) return;
    const range = new DataView(new ArrayBuffer(SPACE_RESV_SIZE));
    range.setBigInt64(L_START_OFFSET, BigInt(position), true);
    range.setBigInt64(L_LEN_OFFSET, BigInt(bytes), true);
    try {
      await loadAddon().ioctlAsync(this.#fd, FS_IOC_UNRESVSP64, new Uint8Array(range.buffer));
    } catch (error) {
      if (!['EOPNOTSUPP', 'ENOTTY', 'EINVAL'].some((code) => isSystemError(error, code))) throw error;
      this.#cannotPunch = true;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }
}
