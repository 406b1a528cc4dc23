import { closeSync, constants, fstatSync, ftruncateSync, openSync, statfsSync } from 'node:fs';
import { PAGE_SIZE } from '../../../assembly/layout.js';
import type { Aperture, Window } from '../../aperture/aperture.js';
import { isSystemError, RingbellError } from '../../errors.js';
import { loadAddon, type Protection } from '../../native/addon.js';
import { u64 } from '../../uapi/codec.js';

/** Address space set aside for a disk in memory, so that it can grow in place. Bytes. */
const RESERVED_BYTES = 2 ** 31;
/** <linux/fs.h>: gives the bytes of a host's block device as u64. */
const BLKGETSIZE64 = 0x80081272;
/** <linux/magic.h>. */
const TMPFS_MAGIC = 0x01021994;

/** How a disk's file is to be opened. */
export interface OpenOptions {
  readOnly: boolean;
  /** Past the page cache. */
  direct: boolean;
  /** Bytes of a file to be made if there is none. */
  create: number | undefined;
  /** Give the file storage for all of its bytes. */
  allocate: boolean;
}

/**
 * What a disk's bytes are kept in: a file that may have holes, one without holes, a block device, or memory, which the
 * kernel gives until there is none.
 */
type Kind = 'sparse' | 'allocated' | 'device' | 'memory';

/** The bytes of a disk: a memory file or a file, and the window over it where there is one. */
export class DiskStorage {
  readonly fd: number;
  /** Bytes. */
  #bytes: number;
  readonly #kind: Kind;
  /** Whoever opened the descriptor closes it. */
  readonly #close: (fd: number) => void;
  #mapping: { aperture: Aperture; reserved: Window; mapped: number; protection: Protection } | undefined;

  /** Memory of this process, zeroed, `bytes` long. */
  static inMemory(bytes: number): DiskStorage {
    // Not sealed: it has to grow, and nobody else ever gets the descriptor.
    return new DiskStorage(loadAddon().memfd('ringbell-disk', bytes, false), bytes, 'memory', (fd) =>
      loadAddon().close(fd),
    );
  }

  /** A file or a block device. Throws ERR_ARGUMENT, with the reason, if it cannot be used. */
  static inFile(path: string, options: OpenOptions): DiskStorage {
    const { O_CREAT, O_DIRECT, O_RDONLY, O_RDWR } = constants;
    let flags = options.readOnly ? O_RDONLY : O_RDWR;
    if (options.direct) flags |= O_DIRECT;
    if (options.create !== undefined) flags |= O_CREAT;
    let fd: number;
    try {
      fd = openSync(path, flags, 0o600);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      throw new RingbellError('ERR_ARGUMENT', `cannot open the disk's file: ${error.message}`, {
        cause: error,
      });
    }
    try {
      const stat = fstatSync(fd);
      if (stat.isBlockDevice()) return new DiskStorage(fd, blockDeviceBytes(fd), 'device');
      if (!stat.isFile())
        throw new RingbellError('ERR_ARGUMENT', `${path} is neither a file nor a block device`);
      const create = stat.size === 0 ? options.create : undefined;
      if (create !== undefined) ftruncateSync(fd, create);
      const bytes = create ?? stat.size;
      if (options.allocate && bytes > 0) loadAddon().allocate(fd, bytes);
      return new DiskStorage(fd, bytes, options.allocate ? 'allocated' : 'sparse');
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  private constructor(fd: number, bytes: number, kind: Kind, close = closeSync) {
    this.fd = fd;
    this.#bytes = bytes;
    this.#kind = kind;
    this.#close = close;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Whether a store into the mapping may find the file system full, which would be a SIGBUS. */
  get storesMayFail(): boolean {
    return this.#kind === 'sparse';
  }

  /** Whether even a load may: a hole of tmpfs takes a page when it is read through a mapping. */
  get loadsMayFail(): boolean {
    return this.#kind === 'sparse' && statfsSync(`/proc/self/fd/${this.fd}`).type === TMPFS_MAGIC;
  }

  /** Maps all of it: linear address of the first byte. Throws ERR_APERTURE_FULL. */
  map(aperture: Aperture, protection: Protection): number {
    const reserved = aperture.reserveWindow(Math.max(this.#bytes, RESERVED_BYTES));
    this.#mapping = { aperture, reserved, mapped: 0, protection };
    this.#extend();
    return reserved.linear;
  }

  /** Makes it `bytes` long; no thread is using it. Throws ERR_NOT_SUPPORTED, ERR_APERTURE_FULL, or as ftruncate and posix_fallocate do. */
  resize(bytes: number): void {
    if (this.#kind === 'device')
      throw new RingbellError('ERR_NOT_SUPPORTED', 'a block device cannot be resized');
    const room = this.#mapping?.reserved.bytes ?? bytes;
    if (bytes > room)
      throw new RingbellError(
        'ERR_APERTURE_FULL',
        `a mapped disk can grow to ${room} bytes, not to ${bytes}`,
      );
    ftruncateSync(this.fd, bytes);
    if (this.#kind === 'allocated' && bytes > this.#bytes) this.#allocate(bytes);
    this.#bytes = bytes;
    // What lies behind a shorter end stays mapped: the capacity keeps everyone away, and it may grow again.
    this.#extend();
  }

  close(): void {
    if (this.#mapping) this.#mapping.aperture.unmap(this.#mapping.reserved);
    this.#mapping = undefined;
    this.#close(this.fd);
  }

  /** Gives a file that was made longer its storage, or makes it what it was. */
  #allocate(bytes: number): void {
    try {
      loadAddon().allocate(this.fd, bytes);
    } catch (error) {
      ftruncateSync(this.fd, this.#bytes);
      throw error;
    }
  }

  #extend(): void {
    if (!this.#mapping) return;
    const { aperture, reserved, mapped, protection } = this.#mapping;
    const wanted = Math.ceil(this.#bytes / PAGE_SIZE) * PAGE_SIZE;
    if (wanted <= mapped) return;
    const source = { fd: this.fd, offset: BigInt(mapped) };
    aperture.mapAt(reserved.linear + mapped, source, wanted - mapped, protection);
    this.#mapping.mapped = wanted;
  }
}

function blockDeviceBytes(fd: number): number {
  const size = new Uint8Array(u64.size);
  loadAddon().ioctl(fd, BLKGETSIZE64, size);
  return Number(u64.decode(size));
}
