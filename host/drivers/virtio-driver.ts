import {
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
} from '../../assembly/virtio.js';
import { isSystemError, RingbellError } from '../errors.js';
import type { FlightRecorderPlan } from '../options.js';
import { hasBit, mask } from '../uapi/bits.js';
import { PACKED_VRING_BASE_RESET, SPLIT_VRING_BASE_RESET } from '../uapi/vring-base.js';
import { VhostVdpa } from '../vhost-vdpa/device.js';
import { refusalOfDoorbell } from '../vhost-vdpa/doorbell.js';
import type { VhostVdpaFile } from '../vhost-vdpa/file.js';
import { VHOST_BACKEND_F_RESET_VRING } from '../vhost-vdpa/reset-extension.js';
import { DriverMemory } from './driver-memory.js';
import { DriverQueue, type QueueShape } from './driver-queue.js';
import type { BounceSize } from './iova-domain.js';
import { compatible } from './ring-features.js';

/** What a driver brings to a device. */
export interface VirtioDriverOptions {
  /** VIRTIO_ID_* that it drives. */
  deviceId: number;
  /** Features that it makes use of besides REQUIRED, as a mask. */
  wanted: bigint;
  /** Queues that it uses at most. */
  queues: number;
}

/**
 * Features without which no driver here works. A device without ACCESS_PLATFORM takes addresses for physical ones ("Reserved
 * Feature Bits"), whatever an IOMMU maps: it would wait for ever for rings that lie elsewhere, and write over what lies
 * where it looks.
 */
const REQUIRED = mask(VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM);

/** What a driver asks of `setUp`. Bytes a queue are the driver's own: rings and slots come on top. */
export interface QueuePlan extends Omit<QueueShape, 'flightChains'> {
  queues: number;
  bufferBytesPerQueue: number;
  privateBytesPerQueue: number;
  arenaBytes: number;
  /** Bounce buffers, if the device is to see nothing else of what requests are about. */
  bounce: BounceSize | undefined;
  /** Whether to map doorbell pages where the device has them. */
  doorbell: boolean;
}

/** What happens to a started device by itself. */
export interface VirtioDriverEvents {
  /** The config space changed. */
  config(): void;
  /** Kicks of a queue go by eventfd although a doorbell page was wanted. `code`: errno name of the refusal. */
  doorbellRefused(queue: number, code: string): void;
  /** The device asks for a reset, or can no longer be asked. */
  broken(error: RingbellError): void;
}

/**
 * What every virtio driver does, in three steps: `connect` agrees on features, `setUp` makes memory and queues, `start`
 * sets DRIVER_OK. A step that fails has to be followed by `close`.
 */
export class VirtioDriver {
  readonly device: VhostVdpa;
  /** Negotiated, as a mask. */
  readonly features: bigint;
  /** How the queues are recorded; undefined for not at all. */
  readonly flightRecorder: FlightRecorderPlan | undefined;
  #memory: DriverMemory | undefined;
  #queues: DriverQueue[] = [];
  /** Code with which each queue's doorbell was refused. */
  readonly doorbellRefusals: (string | undefined)[] = [];

  /** Takes an open file over, up to FEATURES_OK. Closes it if that fails. */
  static async connect(
    file: VhostVdpaFile,
    options: VirtioDriverOptions,
    flightRecorder: FlightRecorderPlan | undefined,
  ): Promise<VirtioDriver> {
    const device = await VhostVdpa.open(file);
    try {
      if (device.deviceId !== options.deviceId)
        throw new RingbellError(
          'ERR_NOT_SUPPORTED',
          `${device.name} has device id ${device.deviceId}, this driver is for ${options.deviceId}`,
        );
      await device.reset();
      await device.acknowledge();
      let wanted = compatible((await device.offeredFeatures()) & options.wanted);
      if (hasBit(wanted, VIRTIO_F_NOTIFICATION_DATA) && !(await everyDoorbell(device, options.queues)))
        wanted &= ~mask(VIRTIO_F_NOTIFICATION_DATA);
      // Devices of the kernel may offer it as well, but nothing there passes a reset on.
      if (!device.hasBackendFeature(VHOST_BACKEND_F_RESET_VRING)) wanted &= ~mask(VIRTIO_F_RING_RESET);
      return new VirtioDriver(device, await device.negotiate(REQUIRED, wanted), flightRecorder);
    } catch (error) {
      await device.fail().catch(() => {});
      await device.close().catch(() => {});
      throw error;
    }
  }

  private constructor(device: VhostVdpa, features: bigint, flightRecorder: FlightRecorderPlan | undefined) {
    this.device = device;
    this.features = features;
    this.flightRecorder = flightRecorder;
  }

  hasFeature(bit: number): boolean {
    return hasBit(this.features, bit);
  }

  get memory(): DriverMemory {
    if (!this.#memory) throw new RingbellError('ERR_CLOSED', 'the driver has no memory');
    return this.#memory;
  }

  get queues(): readonly DriverQueue[] {
    return this.#queues;
  }

  /** Makes memory and queues, and shows them to the device. */
  async setUp(plan: QueuePlan): Promise<void> {
    const { device } = this;
    const flightChains = this.flightRecorder?.chains ?? 0;
    const memory = new DriverMemory({
      name: `ringbell.${device.name.replaceAll('/', '.')}`,
      coherentBytes: plan.queues * DriverQueue.coherentBytes(plan.maxQueueSize, plan.slot),
      bufferBytes:
        plan.queues * (DriverQueue.bufferBytes(plan.maxQueueSize, plan.slot) + plan.bufferBytesPerQueue),
      privateBytes:
        plan.queues * (DriverQueue.privateBytes(plan.maxQueueSize, flightChains) + plan.privateBytesPerQueue),
      arenaBytes: plan.arenaBytes,
      doorbellBytes: plan.doorbell ? plan.queues * device.file.pageSize : 0,
      iovaRange: device.iovaRange,
      bounce: plan.bounce,
    });
    this.#memory = memory;
    await memory.share((region) => device.map([region]));
    for (let index = 0; index < plan.queues; index++) {
      const queue = new DriverQueue(memory, index, { ...plan, flightChains }, this.features, device.deviceId);
      this.#queues.push(queue);
      await this.#setVring(queue);
      if (plan.doorbell) await this.#mapDoorbell(queue);
    }
  }

  /** Enables the queues and sets DRIVER_OK. */
  async start(events: VirtioDriverEvents): Promise<void> {
    for (const queue of this.#queues) await this.device.enableVring(queue.index);
    await this.device.watchConfig(() => void this.#configInterrupt(events));
    await this.device.driverOk();
    // Later, when whoever opens the device has got it and can listen.
    setImmediate(() => {
      this.doorbellRefusals.forEach((code, queue) => {
        if (code !== undefined) events.doorbellRefused(queue, code);
      });
    });
  }

  /** Has the device let go of a queue: it touches nothing of it any more, and says nothing of it. */
  async resetQueue(queue: DriverQueue): Promise<void> {
    await this.device.resetVring(queue.index);
  }

  /** Shows the device a queue that it has let go of, and that has been started anew, and has it run that. */
  async enableQueue(queue: DriverQueue): Promise<void> {
    await this.#setVring(queue);
    await this.device.enableVring(queue.index);
  }

  /** Closes the device, which resets it, then gives the memory back: in this order, since the device may write until then. */
  async close(): Promise<void> {
    // Before the file: a page of it that stays mapped keeps the device open.
    for (const queue of this.#queues) queue.unmapDoorbell();
    try {
      await this.device.close();
    } finally {
      for (const queue of this.#queues.splice(0)) queue.close();
      this.#memory?.close();
    }
  }

  async #setVring({ index, size, packed, rings, kickFd, callFd }: DriverQueue): Promise<void> {
    const { memory } = this;
    await this.device.setVring({
      index,
      num: size,
      base: packed ? PACKED_VRING_BASE_RESET : SPLIT_VRING_BASE_RESET,
      desc: memory.iova(rings.desc),
      avail: memory.iova(rings.driver),
      used: memory.iova(rings.device),
      kickFd,
      callFd,
    });
  }

  async #mapDoorbell(queue: DriverQueue): Promise<void> {
    const { aperture } = this.memory;
    const page = aperture.reserveWindow(this.device.file.pageSize);
    try {
      await this.device.mapDoorbell(aperture, page.linear, queue.index);
      queue.doorbell = page;
    } catch (error) {
      // Per queue, never fatal: some queues have a page, most devices have none, and the eventfd always works.
      this.doorbellRefusals[queue.index] = isSystemError(error) ? error.code : (error as RingbellError).code;
      aperture.unmap(page);
    }
  }

  async #configInterrupt(events: VirtioDriverEvents): Promise<void> {
    try {
      const needsReset = (await this.device.status()) & VIRTIO_CONFIG_S_NEEDS_RESET;
      if (needsReset)
        events.broken(new RingbellError('ERR_DEVICE_BROKEN', `${this.device.name} needs a reset`));
      else events.config();
    } catch (error) {
      events.broken(
        new RingbellError('ERR_DEVICE_BROKEN', `${this.device.name} no longer answers`, { cause: error }),
      );
    }
  }
}

/**
 * Whether the first `queues` queues all have a doorbell page. A kick through an eventfd says which queue it is for and nothing
 * else (handle_vq_kick): a device that was promised notification data would take its 16 bits for 32.
 */
async function everyDoorbell(device: VhostVdpa, queues: number): Promise<boolean> {
  for (let index = 0; index < Math.min(queues, device.queueCount ?? queues); index++)
    if ((await refusalOfDoorbell(device, index)) !== undefined) return false;
  return true;
}
