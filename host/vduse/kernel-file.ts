import { close, constants, openSync, readFileSync, readSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isSystemError, RingbellError, type SystemError, systemError } from '../errors.js';
import { loadAddon, type Watcher } from '../native/addon.js';
import { u64 } from '../uapi/codec.js';
import { VDUSE_DEV_GET_FEATURES, vduseDevRequest } from '../uapi/vduse.js';
import type { VduseControlFile, VduseFile } from './file.js';

const DIRECTORY = '/dev/vduse/';
const { O_NONBLOCK, O_RDWR } = constants;

/** /dev/vduse/control of this machine's kernel. */
export class KernelVduseControlFile implements VduseControlFile {
  readonly #fd: number;
  #closed = false;

  /** Opens it. Throws ERR_NOT_SUPPORTED, with the kernel's answer as cause, where that is not possible. */
  constructor() {
    try {
      this.#fd = openSync(`${DIRECTORY}control`, O_RDWR);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      const { code, errno, syscall } = error;
      const why =
        code === 'ENOENT' ? 'this kernel has no VDUSE (load the module vduse)' : 'VDUSE cannot be used';
      throw new RingbellError('ERR_NOT_SUPPORTED', `${why}: ${error.message}`, {
        cause: error,
        errno,
        syscall,
      });
    }
  }

  // None of the control device's ioctls waits for a device.
  async ioctl(request: number, argument?: Uint8Array): Promise<number> {
    if (this.#closed) throw closed('ioctl');
    return loadAddon().ioctl(this.#fd, request, argument);
  }

  async open(name: string): Promise<VduseFile> {
    return new KernelVduseFile(name, openSync(DIRECTORY + name, O_RDWR | O_NONBLOCK));
  }

  /** The boot, and the number of the device's directory in sysfs, of which no other has the same (kernfs_new_node). */
  async instance(name: string): Promise<string> {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${boot} ${statSync(join('/sys/class/vduse', name), { bigint: true }).ino}`;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await promisify(close)(this.#fd);
  }
}

/** /dev/vduse/NAME of this machine's kernel. Any thread of the process may use it by its descriptor. */
export class KernelVduseFile implements VduseFile {
  readonly name: string;
  /** Non-blocking. */
  readonly fd: number;
  #waiting: { watcher: Watcher; reject: (error: Error) => void } | undefined;
  #closed = false;

  /** `fd` is an open, non-blocking descriptor of the device node. */
  constructor(name: string, fd: number) {
    this.name = name;
    this.fd = fd;
  }

  // Nor do these wait for a message to be answered: they may be made by the thread that answers.
  async ioctl(request: number, argument?: Uint8Array): Promise<number> {
    if (this.#closed) throw closed('ioctl');
    return loadAddon().ioctl(this.fd, request, argument);
  }

  async read(): Promise<Uint8Array> {
    const request = new Uint8Array(vduseDevRequest.size);
    for (let woken = false; ; woken = true) {
      if (this.#closed) throw closed('read');
      try {
        readSync(this.fd, request);
        return request;
      } catch (error) {
        if (!isSystemError(error, 'EAGAIN')) throw error;
      }
      if (woken) this.#checkBroken();
      await new Promise<void>((resolve, reject) => {
        const watcher = loadAddon().watch(this.fd, () => {
          watcher.close();
          this.#waiting = undefined;
          resolve();
        });
        this.#waiting = { watcher, reject };
      });
    }
  }

  async write(response: Uint8Array): Promise<void> {
    if (this.#closed) throw closed('write');
    writeSync(this.fd, response);
  }

  async kickFd(_index: number, fd: number): Promise<number> {
    return fd;
  }

  async callFd(): Promise<number> {
    return -1;
  }

  async doorbell(): Promise<undefined> {
    return undefined;
  }

  async needsReset(): Promise<boolean> {
    return false;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiting?.watcher.close();
    this.#waiting?.reject(closed('read'));
    await promisify(close)(this.fd);
  }

  /**
   * Of a broken device poll(2) says POLLERR at once, each time, while read(2) has nothing: waiting would be spinning. Only
   * an ioctl tells it from a message that somebody else has read: EIO here, as for whoever sends it a message.
   */
  #checkBroken(): void {
    try {
      loadAddon().ioctl(this.fd, VDUSE_DEV_GET_FEATURES, new Uint8Array(u64.size));
    } catch (error) {
      if (isSystemError(error, 'EPERM')) throw systemError('EIO', 'read', `${this.name} is broken`);
      throw error;
    }
  }
}

/** What the kernel would say, as long as nobody else was given the number: a closed descriptor is never passed to it. */
function closed(syscall: string): SystemError {
  return systemError('EBADF', syscall, 'the file is closed');
}
