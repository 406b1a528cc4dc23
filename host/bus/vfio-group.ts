import { systemError } from '../errors.js';
import { Mutex } from '../mutex.js';
import * as vfio from '../uapi/vfio.js';
import type { VfioContainerFile, VfioDeviceFile, VfioGroupFile } from '../vhost-vdpa/vfio-file.js';
import type { FaultInjection } from './fault-injection.js';
import { checkArgsz, copyToUser } from './user-memory.js';
import type { VdpaDevice } from './vdpa-device.js';
import { VfioContainer } from './vfio-container.js';
import { VhostMdevFace } from './vhost-mdev-face.js';

/**
 * An open /dev/vfio/N of the bus: the group of one device that is bound to vhost_mdev, with the rules of drivers/vfio/vfio.c
 * (group.c since Linux 6.3).
 */
export class VfioGroup implements VfioGroupFile {
  readonly name: string;
  readonly #device: VdpaDevice;
  readonly #faults: FaultInjection;
  readonly #released: () => void;
  readonly #mutex = new Mutex();
  #container: VfioContainer | undefined;
  #face: VhostMdevFace | undefined;
  #closed = false;
  #gone = false;

  /** `released` is called when the driver has let go of the group and of its device. */
  constructor(device: VdpaDevice, faults: FaultInjection, released: () => void) {
    this.name = device.name;
    this.#device = device;
    this.#faults = faults;
    this.#released = released;
  }

  ioctl(request: number, argument?: Uint8Array): Promise<number> {
    return this.#call(request, async () => {
      switch (request) {
        case vfio.VFIO_GROUP_GET_STATUS:
          this.#getStatus(argument);
          return 0;
        case vfio.VFIO_GROUP_UNSET_CONTAINER:
          await this.#unsetContainer();
          return 0;
        default:
          throw systemError('ENOTTY', 'ioctl', `no ioctl 0x${request.toString(16)} of a group`);
      }
    });
  }

  /** EINVAL for a group that is in a container, and for what is no container of the bus. */
  setContainer(container: VfioContainerFile): Promise<void> {
    return this.#call(vfio.VFIO_GROUP_SET_CONTAINER, async () => {
      if (this.#container) throw systemError('EINVAL', 'ioctl', `${this.name} is in a container`);
      if (!(container instanceof VfioContainer)) throw systemError('EINVAL', 'ioctl', 'this is no container');
      await container.attachGroup(this.#device);
      this.#container = container;
    });
  }

  /** EINVAL before VFIO_SET_IOMMU, ENODEV for a device of another group, EBUSY while it is open, EIO when it does not answer. */
  openDevice(name: string): Promise<VfioDeviceFile> {
    return this.#call(vfio.VFIO_GROUP_GET_DEVICE_FD, async () => {
      if (!this.#container?.hasIommu)
        throw systemError('EINVAL', 'ioctl', `${this.name} has no container with an IOMMU`);
      if (name !== this.#device.name) throw systemError('ENODEV', 'ioctl', `no device ${name} in the group`);
      if (this.#face) throw systemError('EBUSY', 'ioctl', `${name} has a driver`);
      this.#face = await VhostMdevFace.open(this.#device, this.#faults, () => this.#deviceReleased());
      return this.#face;
    });
  }

  close(): Promise<void> {
    return this.#mutex.run(async () => {
      if (this.#closed) return;
      this.#closed = true;
      if (!this.#face && !this.#gone) await this.#dissolve();
    });
  }

  /** The device leaves the bus: its driver is told as far as it has it open, and whatever else it does is ENODEV. */
  remove(): Promise<void> {
    return this.#mutex.run(async () => {
      if (this.#gone) return;
      this.#gone = true;
      await this.#face?.remove();
      // A group that was closed before goes with its device.
      if (!this.#closed) await this.#dissolve();
    });
  }

  /** An ioctl, in its turn. EBADF once closed, ENODEV when the device has left. */
  #call<T>(request: number, run: () => Promise<T>): Promise<T> {
    return this.#mutex.run(async () => {
      if (this.#closed) throw systemError('EBADF', 'ioctl', `the group of ${this.name} was closed`);
      await this.#faults.strike('ioctl', this.name, request);
      if (this.#gone) throw systemError('ENODEV', 'ioctl', `${this.name} has left the bus`);
      return run();
    });
  }

  #getStatus(argument: Uint8Array | undefined): void {
    checkArgsz(vfio.vfioGroupStatus, argument);
    copyToUser(vfio.vfioGroupStatus, argument, {
      flags: vfio.VFIO_GROUP_FLAGS_VIABLE | (this.#container ? vfio.VFIO_GROUP_FLAGS_CONTAINER_SET : 0),
    });
  }

  async #unsetContainer(): Promise<void> {
    if (!this.#container) throw systemError('EINVAL', 'ioctl', `${this.name} is in no container`);
    if (this.#face) throw systemError('EBUSY', 'ioctl', `${this.name} is open`);
    await this.#leaveContainer();
  }

  async #deviceReleased(): Promise<void> {
    this.#face = undefined;
    if (this.#closed) await this.#dissolve();
  }

  async #dissolve(): Promise<void> {
    await this.#leaveContainer();
    this.#released();
  }

  async #leaveContainer(): Promise<void> {
    const container = this.#container;
    this.#container = undefined;
    await container?.detachGroup(this.#device);
  }
}
