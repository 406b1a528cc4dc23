import { addressSpace } from '../aperture/address-space.js';
import type { Aperture } from '../aperture/aperture.js';
import { systemError } from '../errors.js';
import { Mutex } from '../mutex.js';
import type { MmapRequest } from '../vhost-vdpa/file.js';
import type { FaultInjection } from './fault-injection.js';
import { refusalOf } from './notification-area.js';
import type { VdpaDevice } from './vdpa-device.js';

/**
 * A device of the bus that a driver has open, by whichever face: one call after the other, until it is closed or the device
 * leaves. The kernel holds one mutex across every ioctl and message, waiting for the device's answer included; so does this.
 */
export abstract class DriverFile {
  readonly name: string;
  readonly pageSize: number;
  protected readonly device: VdpaDevice;
  protected readonly faults: FaultInjection;
  readonly #mutex = new Mutex();
  readonly #released: () => void | Promise<void>;
  #closed = false;
  /** The device was taken off the bus: its last status. */
  #gone: number | undefined;

  /** `released` is called when the driver has let go of the device. */
  protected constructor(device: VdpaDevice, faults: FaultInjection, released: () => void | Promise<void>) {
    this.name = device.name;
    this.pageSize = device.pageSize;
    this.device = device;
    this.faults = faults;
    this.#released = released;
  }

  ioctl(request: number, argument?: Uint8Array): Promise<number> {
    return this.call('ioctl', async () => {
      await this.faults.strike('ioctl', this.name, request);
      await this.carryOut(request, argument);
      return 0;
    });
  }

  mmap(aperture: Aperture, linear: number, request: MmapRequest): Promise<void> {
    return this.call('mmap', async () => {
      await this.faults.strike('mmap', this.name);
      this.checkGone('mmap');
      this.#mapDoorbell(aperture, linear, request);
    });
  }

  close(): Promise<void> {
    return this.#mutex.run(async () => {
      if (this.#closed) return;
      this.#closed = true;
      if (this.#gone === undefined) await this.#release();
    });
  }

  /**
   * The device leaves the bus. The kernel would wait for the driver to close its file; here the driver is told: its status
   * says DEVICE_NEEDS_RESET from now on, its config call eventfd is signalled, whatever else it does is ENODEV.
   */
  remove(): Promise<void> {
    return this.#mutex.run(async () => {
      if (this.#closed || this.#gone !== undefined) return;
      this.device.needsReset();
      this.#gone = this.device.getStatus();
      await this.#release();
    });
  }

  /** Status of the device; its last one when it has left. */
  protected get status(): number {
    return this.#gone ?? this.device.getStatus();
  }

  /** A system call, in its turn. EBADF once the file is closed. */
  protected call<T>(syscall: string, run: () => Promise<T>): Promise<T> {
    return this.#mutex.run(() => {
      if (this.#closed) throw systemError('EBADF', syscall, `${this.name} was closed`);
      return run();
    });
  }

  /** ENODEV when the device has left. */
  protected checkGone(syscall: string): void {
    if (this.#gone !== undefined) throw systemError('ENODEV', syscall, `${this.name} has left the bus`);
  }

  /** An ioctl. */
  protected abstract carryOut(request: number, argument: Uint8Array | undefined): Promise<void>;

  /** Gives back what the driver holds of the device. */
  protected abstract release(): Promise<void>;

  async #release(): Promise<void> {
    try {
      await this.release();
    } finally {
      await this.#released();
    }
  }

  /** mmap(2), then vhost_vdpa_mmap, in its order. */
  #mapDoorbell(aperture: Aperture, linear: number, request: MmapRequest): void {
    const refuse = (detail: string) => systemError('EINVAL', 'mmap', detail);
    const { pageSize } = this;
    const index = request.offset / pageSize;
    if (!Number.isInteger(index)) throw refuse('the offset is no multiple of a page');
    // mmap(2) rounds up to whole pages before the driver sees it.
    if (Math.ceil(request.length / pageSize) !== 1) throw refuse('a doorbell is one page');
    if (!request.shared) throw refuse('a doorbell is mapped shared');
    if (request.protection.includes('r')) throw refuse('a doorbell is not to be read');
    const { doorbell } = this.device;
    if (!doorbell) throw systemError('ENOTSUPP', 'mmap', 'the parent has no doorbells to map');
    if (index < 0 || index >= this.device.vqs.length) throw refuse(`no queue ${index}`);
    const area = doorbell.getVqNotification(index);
    const refusal = refusalOf(area, pageSize);
    if (refusal) throw refusal;
    aperture.mapAt(
      linear,
      { fd: doorbell.fd, offset: doorbell.offsetOf(area.addr) },
      pageSize,
      request.protection,
    );
    // The kernel maps it VM_IO and VM_PFNMAP, which an IOTLB UPDATE over it skips.
    addressSpace.remove(aperture.address + BigInt(linear), pageSize);
  }
}
