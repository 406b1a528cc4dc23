import { readFileSync } from 'node:fs';
import type { Aperture, Window } from '../aperture/aperture.js';
import { isSystemError } from '../errors.js';
import { loadAddon } from '../native/addon.js';
import { VDUSE_IOTLB_DEREG_UMEM, VDUSE_IOTLB_REG_UMEM, vduseIovaUmem } from '../uapi/vduse.js';
import type { VduseFile } from './file.js';

/**
 * Memory of this process that is the bounce buffer of an address space: a window of the aperture over a sealed memory file,
 * so that no access to it can be a SIGBUS, and a fork leaves its pages with us. The kernel pins them and takes them for its
 * bounce pages, contents included, at the moment of registration: the region must not be mapped by its own file before,
 * since what is mapped then stays on the kernel's pages.
 */
export class UserMemory {
  readonly window: Window;
  readonly #file: VduseFile;
  readonly #aperture: Aperture;
  readonly #umem: Uint8Array;

  /** Registers memory for the region of `bytes` bytes at `iova`. Throws a SystemError, and leaves nothing. */
  static async register(
    file: VduseFile,
    aperture: Aperture,
    iova: bigint,
    bytes: number,
    asid: number,
  ): Promise<UserMemory> {
    const fd = loadAddon().memfd('bounce-buffer', bytes, true);
    let memory: UserMemory;
    try {
      memory = new UserMemory(file, aperture, aperture.map({ fd, offset: 0n }, bytes, 'rw'), iova, asid);
    } finally {
      loadAddon().close(fd);
    }
    try {
      await memory.#register();
      return memory;
    } catch (error) {
      aperture.unmap(memory.window);
      throw error;
    }
  }

  private constructor(file: VduseFile, aperture: Aperture, window: Window, iova: bigint, asid: number) {
    this.#file = file;
    this.#aperture = aperture;
    this.window = window;
    const uaddr = aperture.address + BigInt(window.linear);
    this.#umem = vduseIovaUmem.encode({ uaddr, iova, size: BigInt(window.bytes), asid });
  }

  /** Gives the bounce buffer back to the kernel, and the memory free. No queue may be using it. */
  async release(): Promise<void> {
    try {
      await this.#file.ioctl(VDUSE_IOTLB_DEREG_UMEM, this.#umem);
    } catch (error) {
      // The file is broken or closed already: the kernel lets go of the pages with its last descriptor.
      if (!isSystemError(error)) throw error;
    } finally {
      this.#aperture.unmap(this.window);
    }
  }

  async #register(): Promise<void> {
    try {
      await this.#file.ioctl(VDUSE_IOTLB_REG_UMEM, this.#umem);
    } catch (error) {
      // RLIMIT_MEMLOCK counts all that the process has pinned, and holds for root too.
      if (!isSystemError(error, 'ENOMEM')) throw error;
      loadAddon().raiseMemlockLimit(pinnedBytes() + this.window.bytes);
      await this.#file.ioctl(VDUSE_IOTLB_REG_UMEM, this.#umem);
    }
  }
}

/** Bytes that this process has pinned: what the kernel adds to before it looks at RLIMIT_MEMLOCK. */
function pinnedBytes(): number {
  const [, kilobytes = '0'] = /^VmPin:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}
