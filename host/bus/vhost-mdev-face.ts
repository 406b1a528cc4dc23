import { systemError } from '../errors.js';
import { s32, u8, u64 } from '../uapi/codec.js';
import * as vfio from '../uapi/vfio.js';
import * as vhost from '../uapi/vhost.js';
import { VFIO_DEVICE_FLAGS_VHOST, VHOST_MDEV_SET_STATE } from '../uapi/vhost-mdev.js';
import type { VfioDeviceFile } from '../vhost-vdpa/vfio-file.js';
import { DeviceIoctls } from './device-ioctls.js';
import { DriverFile } from './driver-file.js';
import { type EventfdContext, eventfdOf } from './eventfd-context.js';
import type { FaultInjection } from './fault-injection.js';
import { checkArgsz, copyFromUser, copyToUser } from './user-memory.js';
import type { VdpaDevice } from './vdpa-device.js';
import { VhostDev } from './vhost-dev.js';
import { VhostMdev } from './vhost-mdev.js';
import { VhostVirtqueue } from './vhost-virtqueue.js';

/**
 * An open VFIO device that is bound to vhost_mdev: what the proposed drivers/vhost/mdev.c does, in its order, with its errnos.
 * Doorbells, whose mapping was left to do (vhost_mdev_mmap), are mapped as the merged vhost-vdpa does. Besides, the face
 * answers what the proposal says nothing of and a driver cannot do without: which device this is, its config space and
 * changes of it, its status, how many queues it has and how long they may be, by the ioctls that vhost-vdpa has for that.
 */
export class VhostMdevFace extends DriverFile implements VfioDeviceFile {
  readonly #mdev: VhostMdev;
  readonly #dev: VhostDev<VhostVirtqueue>;
  readonly #ioctls: DeviceIoctls;
  #logFd: EventfdContext | undefined;

  /** Opens the device, which makes sure that it is stopped. EIO when it does not confirm. `released` is called at close. */
  static async open(
    device: VdpaDevice,
    faults: FaultInjection,
    released: () => Promise<void>,
  ): Promise<VhostMdevFace> {
    await device.reset(false);
    return new VhostMdevFace(device, faults, released);
  }

  private constructor(device: VdpaDevice, faults: FaultInjection, released: () => Promise<void>) {
    super(device, faults, released);
    const mdev = new VhostMdev(device);
    this.#mdev = mdev;
    this.#dev = new VhostDev(
      device.name,
      device.vqs.map((vq) => new VhostVirtqueue(mdev, vq)),
    );
    this.#ioctls = new DeviceIoctls(device);
  }

  /** vhost_mdev_read. */
  read(_bytes: Uint8Array): Promise<number> {
    return this.call('read', async () => {
      throw systemError('EINVAL', 'read', 'a vhost device is not read');
    });
  }

  /** vhost_mdev_write. */
  write(_bytes: Uint8Array): Promise<void> {
    return this.call('write', async () => {
      throw systemError('EINVAL', 'write', 'a vhost device is not written: its container maps memory');
    });
  }

  /** vhost_mdev_ioctl. */
  protected async carryOut(request: number, argument: Uint8Array | undefined): Promise<void> {
    if (request === vhost.VHOST_VDPA_GET_STATUS) return copyToUser(u8, argument, this.status);
    this.checkGone('ioctl');
    if (this.#ioctls.ioctl(request, argument)) return;
    switch (request) {
      case vfio.VFIO_DEVICE_GET_INFO:
        return getInfo(argument);
      case vfio.VFIO_DEVICE_GET_REGION_INFO:
      case vfio.VFIO_DEVICE_GET_IRQ_INFO:
      case vfio.VFIO_DEVICE_SET_IRQS:
      case vfio.VFIO_DEVICE_RESET:
        throw systemError('EINVAL', 'ioctl', 'a vhost device has no regions and interrupts of VFIO');
      case VHOST_MDEV_SET_STATE:
        return this.#mdev.setState(copyFromUser(u64, argument));
      case vhost.VHOST_GET_FEATURES:
        return copyToUser(u64, argument, this.#mdev.features);
      case vhost.VHOST_SET_FEATURES:
        return this.#setFeatures(argument);
      // Without an owner, too: it does not pass vhost_dev_ioctl.
      case vhost.VHOST_GET_VRING_BASE:
        return this.#dev.vringIoctl(request, argument);
    }
    // What follows needs an owner.
    if (this.#dev.ioctl(request, argument)) return;
    switch (request) {
      case vhost.VHOST_SET_LOG_BASE:
        return this.#mdev.setLogBase(copyFromUser(u64, argument));
      case vhost.VHOST_SET_LOG_FD:
        return this.#setLogFd(argument);
      case vhost.VHOST_SET_VRING_ADDR:
        checkLogAddress(argument);
    }
    await this.#dev.vringIoctl(request, argument);
  }

  /** vhost_mdev_close. */
  protected async release(): Promise<void> {
    try {
      await this.#mdev.release();
    } finally {
      this.#dev.release();
      this.#ioctls.release();
      this.#logFd?.put();
      this.#logFd = undefined;
    }
  }

  /** Taken and never signalled: what logs has no system call to spare. */
  #setLogFd(argument: Uint8Array | undefined): void {
    const logFd = eventfdOf(copyFromUser(s32, argument));
    this.#logFd?.put();
    this.#logFd = logFd;
  }

  async #setFeatures(argument: Uint8Array | undefined): Promise<void> {
    const features = copyFromUser(u64, argument);
    await this.#mdev.setFeatures(features);
    for (const vq of this.#dev.vqs) vq.ackedFeatures = features;
  }
}

/**
 * The log of a used ring is where the ring is: the device marks by IOVA, and its addresses are IOVAs already. EOPNOTSUPP for
 * another place (vhost_vring_addr.log_guest_addr).
 */
function checkLogAddress(argument: Uint8Array | undefined): void {
  const { flags, used_user_addr, log_guest_addr } = copyFromUser(vhost.vhostVringAddr, argument);
  if (flags & (1 << vhost.VHOST_VRING_F_LOG) && log_guest_addr !== used_user_addr)
    throw systemError('EOPNOTSUPP', 'ioctl', 'the used ring is logged at its IOVA');
}

function getInfo(argument: Uint8Array | undefined): void {
  checkArgsz(vfio.vfioDeviceInfo, argument);
  copyToUser(vfio.vfioDeviceInfo, argument, { flags: VFIO_DEVICE_FLAGS_VHOST, num_regions: 0, num_irqs: 0 });
}
