import { constants, write } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { PAGE_SIZE } from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import { systemError } from '../errors.js';
import { loadAddon } from '../native/addon.js';
import type { MmapRequest, VhostVdpaFile } from './file.js';

const writeAsync = promisify(write);

/** /dev/vhost-vdpa-N of the kernel. */
class KernelVhostVdpaFile implements VhostVdpaFile {
  readonly name: string;
  // The only one that our windows can have: WebAssembly.Memory and engine are for pages of this size.
  readonly pageSize = PAGE_SIZE;
  readonly #handle: FileHandle;
  /** System calls under way on other threads. */
  readonly #calls = new Set<Promise<unknown>>();
  #closing: Promise<void> | undefined;

  constructor(path: string, handle: FileHandle) {
    this.name = path;
    this.#handle = handle;
  }

  // On a thread of libuv's pool: a VDUSE device of this very process may have to answer first.
  ioctl(request: number, argument?: Uint8Array): Promise<number> {
    return this.#call('ioctl', (fd) => loadAddon().ioctlAsync(fd, request, argument));
  }

  async write(message: Uint8Array): Promise<void> {
    // Without a position: write(2), the only one that the device knows. Its result says nothing: vhost answers 72 to
    // whatever it takes (vhost_chr_write_iter).
    await this.#call('write', (fd) => writeAsync(fd, message, 0, message.byteLength, null));
  }

  async mmap(aperture: Aperture, linear: number, request: MmapRequest): Promise<void> {
    await this.#call('mmap', async (fd) => {
      const source = { fd, offset: BigInt(request.offset), shared: request.shared };
      aperture.mapAt(linear, source, request.length, request.protection);
    });
  }

  close(): Promise<void> {
    // A call that waits for its thread has the number, not the file: closed now, it might find another file under it.
    this.#closing ??= Promise.allSettled(this.#calls).then(() => this.#handle.close());
    return this.#closing;
  }

  /** Makes a system call, which `close` waits for. EBADF once closed. */
  async #call<T>(syscall: string, run: (fd: number) => Promise<T>): Promise<T> {
    if (this.#closing) throw systemError('EBADF', syscall, `${this.name} was closed`);
    const running = run(this.#handle.fd);
    this.#calls.add(running);
    try {
      return await running;
    } finally {
      this.#calls.delete(running);
    }
  }
}

/** Opens a vhost-vdpa character device, which resets the device. Rejects with ENOENT, EACCES, EBUSY while another has it. */
export async function openKernelVhostVdpa(path: string): Promise<VhostVdpaFile> {
  return new KernelVhostVdpaFile(path, await open(path, constants.O_RDWR));
}
