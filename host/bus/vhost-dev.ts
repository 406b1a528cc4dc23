import { systemError } from '../errors.js';
import { u32 } from '../uapi/codec.js';
import * as vhost from '../uapi/vhost.js';
import { copyFromUser, userMemory } from './user-memory.js';
import type { VhostVirtqueue } from './vhost-virtqueue.js';

/** Regions; the kernel's default for max_mem_regions. */
const MAX_MEM_REGIONS = 64;

/** What every kind of vhost device has: the kernel's struct vhost_dev, and the ioctls that it answers itself. */
export class VhostDev<Vq extends VhostVirtqueue> {
  readonly vqs: readonly Vq[];
  readonly #name: string;
  #owned = false;

  constructor(name: string, vqs: readonly Vq[]) {
    this.#name = name;
    this.vqs = vqs;
  }

  /** vhost_dev_ioctl: whether it was one of these. EPERM for any other before VHOST_SET_OWNER. */
  ioctl(request: number, argument: Uint8Array | undefined): boolean {
    if (request === vhost.VHOST_SET_OWNER) {
      if (this.#owned) throw systemError('EBUSY', 'ioctl', `${this.#name} has an owner`);
      this.#owned = true;
      return true;
    }
    this.checkOwner('ioctl');
    if (request !== vhost.VHOST_SET_MEM_TABLE) return false;
    setMemTable(argument);
    return true;
  }

  /** vhost_vring_ioctl. ENOBUFS for a queue that there is not, ENOTTY for an ioctl that it does not know. */
  async vringIoctl(request: number, argument: Uint8Array | undefined): Promise<void> {
    await this.vq(argument).ioctl(request, argument);
  }

  /** The queue that an argument starts with. ENOBUFS where there is none. */
  vq(argument: Uint8Array | undefined): Vq {
    const index = copyFromUser(u32, argument);
    const vq = this.vqs[index];
    if (!vq) throw systemError('ENOBUFS', 'ioctl', `no queue ${index}, the device has ${this.vqs.length}`);
    return vq;
  }

  /** EPERM before VHOST_SET_OWNER. */
  checkOwner(syscall: string): void {
    if (!this.#owned)
      throw systemError('EPERM', syscall, `${this.#name} has no owner: VHOST_SET_OWNER first`);
  }

  /** The file was closed. */
  release(): void {
    for (const vq of this.vqs) vq.release();
  }
}

/** Taken as vhost takes it, with no effect on what the device can reach: that is the IOTLB's business. */
function setMemTable(argument: Uint8Array | undefined): void {
  const { nregions, padding } = copyFromUser(vhost.vhostMemory, argument);
  if (padding) throw systemError('EOPNOTSUPP', 'ioctl', 'padding must be zero');
  if (nregions > MAX_MEM_REGIONS) throw systemError('E2BIG', 'ioctl', `at most ${MAX_MEM_REGIONS} regions`);
  userMemory(argument, vhost.vhostMemory.size + nregions * vhost.vhostMemoryRegion.size);
}
