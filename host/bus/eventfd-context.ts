import { readlinkSync } from 'node:fs';
import { systemError } from '../errors.js';
import { loadAddon } from '../native/addon.js';
import { VHOST_FILE_UNBIND } from '../uapi/vhost.js';

/** A reference to somebody's eventfd that outlives their descriptor: the kernel's struct eventfd_ctx. */
export class EventfdContext {
  /** A descriptor of the bus's own. */
  readonly fd: number;

  /** eventfd_ctx_fdget: EBADF where `fd` is not open, EINVAL where it is no eventfd. */
  static get(fd: number): EventfdContext {
    let target: string;
    try {
      target = readlinkSync(`/proc/self/fd/${fd}`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      throw systemError('EBADF', 'ioctl', `${fd} is no open descriptor`);
    }
    // 'anon_inode:[eventfd]', followed by an id on some kernels.
    if (!target.startsWith('anon_inode:[eventfd'))
      throw systemError('EINVAL', 'ioctl', `${fd} is ${target}, no eventfd`);
    return new EventfdContext(loadAddon().duplicate(fd));
  }

  private constructor(fd: number) {
    this.fd = fd;
  }

  signal(): void {
    loadAddon().eventfdSignal(this.fd);
  }

  /** Gives the reference back. */
  put(): void {
    loadAddon().close(this.fd);
  }
}

/** The eventfd that an ioctl of vhost names; none for VHOST_FILE_UNBIND. EBADF, or EINVAL for another kind of file. */
export function eventfdOf(fd: number): EventfdContext | undefined {
  return fd === VHOST_FILE_UNBIND ? undefined : EventfdContext.get(fd);
}
