import { inspect } from 'node:util';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { RingbellError, systemError } from '../errors.js';
import type { VduseControlFile } from '../vduse/file.js';
import type { VhostVdpaFile } from '../vhost-vdpa/file.js';
import type { VfioContainerFile, VfioGroupFile } from '../vhost-vdpa/vfio-file.js';
import type { AttachOptions, BusDriver } from './attachment.js';
import type { DirtyLogMemory } from './dirty-log-file.js';
import { FaultInjection } from './fault-injection.js';
import type { VdpaDevice } from './vdpa-device.js';
import { VduseControl } from './vduse-control.js';
import { VfioContainer } from './vfio-container.js';
import { VfioGroup } from './vfio-group.js';
import { VhostVdpaFace } from './vhost-vdpa-face.js';

/** One device of a bus, as `Bus.list` shows it. */
export interface BusDevice {
  /** As it was created under. */
  readonly name: string;
  /** Virtio device id. */
  readonly deviceId: number;
  /** Virtio vendor id. */
  readonly vendorId: number;
  /** Virtqueues. */
  readonly queues: number;
  /** Virtio status bits. */
  readonly status: number;
  /** Configuration generation: changes at each reset. */
  readonly generation: number;
  /** On the bus: drivers can open it. */
  readonly attached: boolean;
  /** Its device side is open. */
  readonly served: boolean;
  /** A driver has it open. */
  readonly driven: boolean;
  /** It let a message time out and answers nothing until it is destroyed. */
  readonly broken: boolean;
}

/** What kind of host a bus imitates. */
export interface BusOptions {
  /**
   * Bytes of a page of the host, of which doorbells are mapped: 4096 (default), 16384 or 65536. Of this machine's own pages,
   * which are smaller, a page of the host takes several.
   */
  pageSize?: number;
  /**
   * Types of device that its VDUSE takes: 'any' (default), or 'kernel', those that Linux allows (allowed_device_id,
   * features_is_valid), which are disks, network devices without a control queue, and file system devices.
   */
  deviceIds?: 'any' | 'kernel';
}

/** Page sizes that Linux has. */
const PAGE_SIZES: readonly number[] = [PAGE_SIZE, 4 * PAGE_SIZE, 16 * PAGE_SIZE];

/**
 * A vDPA bus inside this process: devices are created and served through the same files as the kernel's VDUSE, and driven
 * through the same file as its vhost-vdpa, or through those of VFIO, as was proposed before; with no kernel module and no
 * privilege. A bus belongs to the thread that made it; its files may be bridged to others.
 */
export class Bus {
  static #default: Bus | undefined;

  /** The one of this thread that is used when none is named. */
  static get default(): Bus {
    Bus.#default ??= new Bus();
    return Bus.#default;
  }

  /** Makes system calls and messages on this bus fail on demand. */
  readonly faults = new FaultInjection();
  /** Bytes of a page of the host that it imitates. */
  readonly pageSize: number;
  readonly #deviceIds: 'any' | 'kernel';
  readonly #devices = new Map<string, VdpaDevice>();
  /** Drivers' files by device; undefined while one is being opened. */
  readonly #drivers = new Map<VdpaDevice, VhostVdpaFace | VfioGroup | undefined>();
  readonly #closed = new AbortController();
  #closing: Promise<void> | undefined;

  /** Throws ERR_ARGUMENT for pages that no host has. */
  constructor({ pageSize = PAGE_SIZE, deviceIds = 'any' }: BusOptions = {}) {
    if (!PAGE_SIZES.includes(pageSize))
      throw new RingbellError('ERR_ARGUMENT', `pageSize must be ${PAGE_SIZES.join(', ')}, not ${pageSize}`);
    if (deviceIds !== 'any' && deviceIds !== 'kernel')
      throw new RingbellError('ERR_ARGUMENT', `deviceIds must be 'any' or 'kernel', not '${deviceIds}'`);
    this.pageSize = pageSize;
    this.#deviceIds = deviceIds;
  }

  /** Opens /dev/vduse/control. */
  control(): VduseControlFile {
    this.#checkOpen();
    return new VduseControl(this.#devices, this.pageSize, this.#deviceIds, this.faults, this.#closed.signal);
  }

  /**
   * Puts a created device on the bus, as `vdpa dev add` does: EINVAL when there is none or its queues are not all set up,
   * EEXIST when it is there already.
   */
  async attach(name: string, options: AttachOptions = {}): Promise<void> {
    this.#checkOpen();
    this.#device(name, 'attach').attach(options);
  }

  /** The driver of the bus that a device is bound to; undefined when it is not on the bus. */
  driverOf(name: string): BusDriver | undefined {
    return this.#devices.get(name)?.driver;
  }

  /**
   * Opens a device that is bound to vhost_vdpa, which resets it: ENOENT when there is none, EBUSY while another driver has it
   * open, EIO when it does not answer.
   */
  async openVhostVdpa(name: string): Promise<VhostVdpaFile> {
    this.#checkOpen();
    await this.faults.strike('open', name);
    const device = this.#claim(name, 'vhost_vdpa');
    this.#drivers.set(device, undefined);
    try {
      const face = await VhostVdpaFace.open(device, this.faults, () => this.#drivers.delete(device));
      if (!device.attached) throw systemError('ENODEV', 'open', `${name} has left the bus`);
      this.#drivers.set(device, face);
      return face;
    } catch (error) {
      this.#drivers.delete(device);
      throw error;
    }
  }

  /** Opens /dev/vfio/vfio: a new container. */
  async openVfioContainer(): Promise<VfioContainerFile> {
    this.#checkOpen();
    return new VfioContainer(this.faults);
  }

  /** Opens the group of a device that is bound to vhost_mdev: ENOENT when there is none, EBUSY while another driver has it open. */
  async openVfioGroup(name: string): Promise<VfioGroupFile> {
    this.#checkOpen();
    await this.faults.strike('open', name);
    const device = this.#claim(name, 'vhost_mdev');
    const group = new VfioGroup(device, this.faults, () => this.#drivers.delete(device));
    this.#drivers.set(device, group);
    return group;
  }

  /**
   * Has a device mark every page of its driver's memory that it writes in `memory`, from the moment this resolves, for
   * whoever shares the memory to read and clear at any time; undefined ends it. EINVAL when there is no such device or the
   * memory can be no log, EFAULT when it does not reach the last mapping, EIO when the device refuses.
   */
  async setLog(name: string, memory: DirtyLogMemory | undefined): Promise<void> {
    await this.#device(name, 'setLog').setLog(memory);
  }

  /** The devices, in the order of their creation. */
  list(): BusDevice[] {
    return [...this.#devices.values()].map((device) => ({
      name: device.name,
      deviceId: device.deviceId,
      vendorId: device.vendorId,
      queues: device.vqs.length,
      status: device.getStatus(),
      generation: device.generation,
      attached: device.attached,
      served: device.connected,
      driven: this.#drivers.has(device),
      broken: device.messages.broken,
    }));
  }

  /**
   * Takes a device off the bus, as `vdpa dev del` does: EINVAL when it is not there. A driver that has it open finds its
   * status at DEVICE_NEEDS_RESET and its file at ENODEV; the device gets a last reset to answer.
   */
  async detach(name: string): Promise<void> {
    const device = this.#device(name, 'detach');
    if (!device.attached) throw systemError('EINVAL', 'detach', `${name} is not on the bus`);
    // Its driver's last reset would wait for the time limit: nobody is there to answer it.
    if (!device.connected && this.#drivers.has(device)) device.messages.break();
    await this.#drivers.get(device)?.remove();
    device.detach();
  }

  /**
   * Takes every device off the bus and destroys it, whoever uses it: files that are open fail from then on. The
   * descriptors that VduseFile.kickFd and callFd gave last until that file is closed. Later calls wait too.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#closed.abort();
    if (Bus.#default === this) Bus.#default = undefined;
    for (const device of this.#devices.values()) {
      device.messages.break();
      await this.#drivers.get(device)?.remove();
      device.destroy();
    }
    this.#devices.clear();
  }

  #device(name: string, operation: string): VdpaDevice {
    const device = this.#devices.get(name);
    if (!device) throw systemError('EINVAL', operation, `no VDUSE device ${name}`);
    return device;
  }

  /** A device that a driver of the bus may hand out. */
  #claim(name: string, driver: BusDriver): VdpaDevice {
    const device = this.#devices.get(name);
    if (device?.driver !== driver)
      throw systemError('ENOENT', 'open', `no device ${name} is bound to ${driver}`);
    if (this.#drivers.has(device)) throw systemError('EBUSY', 'open', `${name} has a driver`);
    return device;
  }

  #checkOpen(): void {
    if (this.#closed.signal.aborted) throw new RingbellError('ERR_CLOSED', 'the bus is closed');
  }

  [inspect.custom](): string {
    return `Bus { ${this.#closed.signal.aborted ? 'closed' : [...this.#devices.keys()].join(', ') || 'no device'} }`;
  }
}
