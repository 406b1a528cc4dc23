import { isSystemError, RingbellError } from './errors.js';
import type { DeviceTransport } from './served/served-device-options.js';
import { SysfsDevice, type VdpaDriver } from './vdpa/sysfs-device.js';
import { VdpaBus } from './vdpa/vdpa-bus.js';
import { KernelVduseControlFile } from './vduse/kernel-file.js';

/** To whom the kernel hands a served device: a driver in user space, one of its own, or nobody. */
export type KernelAttachment = 'vhost' | 'virtio' | false;

/** Name of the management device that puts VDUSE devices on the bus. */
const VDUSE = 'vduse';
const DRIVERS: Readonly<Record<Exclude<KernelAttachment, false>, VdpaDriver>> = {
  vhost: 'vhost_vdpa',
  virtio: 'virtio_vdpa',
};

/**
 * The kernel's VDUSE and its vDPA bus. Without an attachment, a device goes on the bus and the kernel probes drivers as it is
 * set to (drivers_autoprobe). The constructor throws ERR_NOT_SUPPORTED without VDUSE.
 */
export class KernelTransport implements DeviceTransport {
  readonly control = new KernelVduseControlFile();
  readonly #attachment: KernelAttachment | undefined;

  constructor(attachment: KernelAttachment | undefined) {
    this.#attachment = attachment;
  }

  /** Rejects with ERR_CONTROL_PLANE as the kernel refuses, ERR_NOT_SUPPORTED for a driver that is not loaded. */
  async attach(name: string): Promise<void> {
    if (this.#attachment === false) return;
    try {
      const bus = new VdpaBus();
      // A device that outlived its last server is still there.
      const added = !(await isServed(bus, name));
      if (added) await bus.add(name, VDUSE);
      // Whoever has bound it since is using it.
      if (this.#attachment === undefined || (!added && new SysfsDevice(name).driver !== undefined)) return;
      try {
        await bus.bind(name, DRIVERS[this.#attachment]);
      } catch (error) {
        if (added) await bus.delete(name).catch(() => {});
        throw error;
      }
    } catch (error) {
      throw refused(name, error);
    }
  }

  /** Takes the device off the bus, whoever put it there. Rejects with ERR_DEVICE_BUSY while a driver has it open. */
  async detach(name: string): Promise<void> {
    if (!new SysfsDevice(name).exists) return;
    try {
      await new VdpaBus().delete(name);
    } catch (error) {
      throw refused(name, error);
    }
  }
}

/** Whether the device is on the bus, and one of VDUSE's: adding another kind's name is for the kernel to refuse. */
async function isServed(bus: VdpaBus, name: string): Promise<boolean> {
  if (!new SysfsDevice(name).exists) return false;
  return (await bus.show(name)).managementDevice === VDUSE;
}

function refused(name: string, error: unknown): unknown {
  if (!isSystemError(error)) return error;
  const remedy = error.code === 'EPERM' ? ' (it takes CAP_NET_ADMIN)' : '';
  return new RingbellError('ERR_CONTROL_PLANE', `${name}: ${error.message}${remedy}`, {
    cause: error,
    errno: error.errno,
    syscall: error.syscall,
  });
}
