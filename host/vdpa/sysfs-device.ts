import { existsSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { isSystemError, RingbellError } from '../errors.js';

/** Where the kernel shows its vDPA bus. */
export const VDPA_BUS = '/sys/bus/vdpa';

/** The kernel's two drivers of vDPA devices: a character device for user space, a virtio device for the kernel itself. */
export const VDPA_DRIVERS = ['vhost_vdpa', 'virtio_vdpa'] as const;
/** Name of one of them. */
export type VdpaDriver = (typeof VDPA_DRIVERS)[number];

/** A device of the vDPA bus as sysfs shows it: which driver it is bound to, and what came out of that. */
export class SysfsDevice {
  readonly name: string;
  readonly #bus: string;
  readonly #path: string;

  /** `bus` is where the bus is shown. Looks at nothing yet. Throws ERR_ARGUMENT for what can be no device's name. */
  constructor(name: string, bus: string = VDPA_BUS) {
    if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name))
      throw new RingbellError('ERR_ARGUMENT', `'${name}' is no name of a device`);
    this.name = name;
    this.#bus = bus;
    this.#path = join(bus, 'devices', name);
  }

  /** Whether it is on the bus. */
  get exists(): boolean {
    return existsSync(this.#path);
  }

  /** The driver that it is bound to; undefined without one. */
  get driver(): string | undefined {
    const link = ifThere(() => readlinkSync(join(this.#path, 'driver')));
    return link && basename(link);
  }

  /**
   * Under what name drivers' users find it: '/dev/vhost-vdpa-0' for a device of vhost_vdpa, '/dev/vda' or the network
   * interface 'eth0' for one of virtio_vdpa; undefined without a driver.
   */
  get node(): string | undefined {
    const vhost = this.#children(this.#path).find((child) => /^vhost-vdpa-\d+$/.test(child));
    if (vhost !== undefined) return `/dev/${vhost}`;
    const virtio = this.#virtioPath();
    if (virtio === undefined) return undefined;
    const [disk] = this.#children(join(virtio, 'block'));
    return disk === undefined ? this.#children(join(virtio, 'net'))[0] : `/dev/${disk}`;
  }

  /** Device status that the kernel's virtio driver has set, VIRTIO_CONFIG_S_*; undefined without virtio_vdpa. */
  get virtioStatus(): number | undefined {
    const virtio = this.#virtioPath();
    const text = virtio && ifThere(() => readFileSync(join(virtio, 'status'), 'latin1'));
    return text === undefined ? undefined : Number(text);
  }

  /**
   * Binds the device to a driver, after taking it from another one. Resolves when the driver has looked at the device,
   * which has to answer meanwhile. Rejects with ERR_NOT_SUPPORTED where the driver is not loaded, a SystemError.
   */
  async bind(driver: VdpaDriver): Promise<void> {
    if (!existsSync(join(this.#bus, 'drivers', driver)))
      throw new RingbellError(
        'ERR_NOT_SUPPORTED',
        `${this.name} cannot be bound: the driver ${driver} is not loaded (modprobe ${driver})`,
      );
    const bound = this.driver;
    if (bound === driver) return;
    // From now on no other driver takes it, however the bus probes; unless this one does not either.
    const override = join(this.#path, 'driver_override');
    const before = ifThere(() => readFileSync(override, 'latin1').trim());
    await writeFile(override, driver);
    try {
      if (bound !== undefined) await this.unbind();
      await writeFile(join(this.#bus, 'drivers', driver, 'bind'), this.name);
    } catch (error) {
      // An empty line is the kernel's way to forget it (driver_set_override), "(null)" how it shows that there is none.
      await writeFile(override, `${before === '(null)' ? '' : (before ?? '')}\n`).catch(() => {});
      throw error;
    }
  }

  /** Takes the device from its driver, if it has one. Waits for whoever has /dev/vhost-vdpa-N open. */
  async unbind(): Promise<void> {
    if (this.driver !== undefined) await writeFile(join(this.#path, 'driver', 'unbind'), this.name);
  }

  /** Where sysfs shows the virtio device that virtio_vdpa made of it. */
  #virtioPath(): string | undefined {
    const virtio = this.#children(this.#path).find((child) => /^virtio\d+$/.test(child));
    return virtio === undefined ? undefined : join(this.#path, virtio);
  }

  #children(path: string): string[] {
    return ifThere(() => readdirSync(path)) ?? [];
  }
}

/** What `look` finds; undefined where that is not there, or no longer: others may unbind a device at any moment. */
function ifThere<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    // A file of a device that goes while it is open.
    if (isSystemError(error, 'ENOENT') || isSystemError(error, 'ENODEV')) return undefined;
    throw error;
  }
}
