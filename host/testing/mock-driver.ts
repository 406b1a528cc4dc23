import { inspect } from 'node:util';
import {
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_NOTIFICATION_DATA,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
} from '../../assembly/virtio.js';
import type { Bus } from '../bus/index.js';
import { RingbellError } from '../errors.js';
import { openVhostVdpa } from '../open-vhost-vdpa.js';
import { checkOptions } from '../options.js';
import { hasBit, mask } from '../uapi/bits.js';
import { u64 } from '../uapi/codec.js';
import { featureNames } from '../uapi/names.js';
import { VHOST_SET_FEATURES } from '../uapi/vhost.js';
import type { VhostVdpa } from '../vhost-vdpa/device.js';
import { MISBEHAVIOURS, type Misbehaviour } from './misbehaviour.js';
import { MockMemory } from './mock-memory.js';
import { type MockAnswer, MockQueue, type MockRequest } from './mock-queue.js';
import { until } from './waiting.js';

/** What no driver of ours does without. */
const REQUIRED = mask(VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM);
/** What decides how rings look and how their bells ring: accepted where it is asked for, or never. */
const RINGS = mask(VIRTIO_F_RING_PACKED, VIRTIO_F_IN_ORDER, VIRTIO_F_NOTIFICATION_DATA);
/** Bytes that a driver has for rings and chains, unless it is to have more. */
const MEMORY_BYTES = 2 ** 24;

/** How a mock driver is made. */
export interface MockDriverOptions {
  /** Where the device is; the thread's default bus if left out. */
  bus?: Bus;
  /** Queues that it uses; 1 if left out. */
  queues?: number;
  /** Entries of each, a power of two; 64 if left out. */
  queueSize?: number;
  /** Bytes of its memory; 16 MiB if left out. */
  memoryBytes?: number;
}

/** How a mock driver starts its device. */
export interface MockStartOptions {
  /** Feature bits to accept besides those of rings, where they are offered; all that are offered if left out. */
  features?: readonly number[];
  /** Packed rings, where they are offered; false, split ones, if left out. */
  packed?: boolean;
  /** VIRTIO_F_IN_ORDER, where it is offered; false if left out. */
  inOrder?: boolean;
  /** Feature bits to accept whether or not they are offered. */
  forced?: readonly number[];
  /** Where each queue goes on, as `vringBase` gave it: with the rings that it has. From the start of new ones if left out. */
  bases?: readonly number[];
}

/**
 * A driver whose rings are written by hand, well or badly: for tests of devices and their models. It believes nothing and
 * hides nothing: what a device does to a ring that none may is in `violations`.
 */
export class MockDriver {
  /** The control plane of the device: config space, status, vring bases, suspension, and all else. */
  device: VhostVdpa;
  readonly memory: MockMemory;
  readonly #queueCount: number;
  readonly #queueSize: number;
  #queues: MockQueue[] = [];
  #features = 0n;
  readonly #pastViolations: string[] = [];

  /** Opens a device by its name: it is reset by that, and waits for `start`. Rejects as `openVhostVdpa`. */
  static async open(name: string, options: MockDriverOptions = {}): Promise<MockDriver> {
    checkOptions('MockDriver', options, ['bus', 'queues', 'queueSize', 'memoryBytes']);
    const { bus } = options;
    return new MockDriver(await openVhostVdpa(name, bus ? { bus } : {}), options);
  }

  private constructor(
    device: VhostVdpa,
    { queues = 1, queueSize = 64, memoryBytes = MEMORY_BYTES }: MockDriverOptions,
  ) {
    this.device = device;
    this.memory = new MockMemory(memoryBytes);
    this.#queueCount = queues;
    this.#queueSize = queueSize;
  }

  /** The queues, from `start` to the next. */
  get queues(): readonly MockQueue[] {
    return this.#queues;
  }

  /** Features negotiated, as a mask. */
  get features(): bigint {
    return this.#features;
  }

  /** Whether the feature of bit number `bit` was negotiated. */
  negotiated(bit: number): boolean {
    return hasBit(this.#features, bit);
  }

  /** What the device has done to rings, since the driver was opened, that no device may do. */
  get violations(): readonly string[] {
    return [...this.#pastViolations, ...this.#queues.flatMap(({ violations }) => violations)];
  }

  /**
   * From status 0 to DRIVER_OK. Rejects with ERR_FEATURES where the device does not take the features, ERR_CONTROL_PLANE
   * where it does not take DRIVER_OK.
   */
  async start(options: MockStartOptions = {}): Promise<void> {
    const { device } = this;
    await device.acknowledge();
    this.#features = await this.#negotiate(options);
    if (device.iotlb.mapped.length === 0) await device.map([this.memory.region]);
    if (!options.bases) this.#makeQueues();
    for (const queue of this.#queues) {
      await device.setVring(queue.vring(options.bases?.[queue.index]));
      await device.enableVring(queue.index);
    }
    await device.driverOk();
  }

  /** Makes a chain available and kicks: resolves once it is back. Rejects when the driver resets before; throws ERR_RING_FULL. */
  request(request: MockRequest): Promise<MockAnswer> {
    const queue = this.queue(request.queue);
    const answer = queue.publish(request);
    queue.kick();
    return answer;
  }

  /** Queue `index`. Throws ERR_ARGUMENT for one that there is not. */
  queue(index = 0): MockQueue {
    const queue = this.#queues[index];
    if (!queue) throw new RingbellError('ERR_ARGUMENT', `the driver has no queue ${index}`);
    return queue;
  }

  /** Does something that no driver may. The queue is good for nothing afterwards but a reset, unless its outcome is 'unharmed'. */
  async misbehave(misbehaviour: Misbehaviour, queue = 0): Promise<void> {
    const { outcome, act } = MISBEHAVIOURS[misbehaviour];
    // What comes back of chains that are none is no violation of the device's.
    if (outcome !== 'unharmed') this.queue(queue).reaping = false;
    await act(this.queue(queue), this);
  }

  /** Resolves once the device asks for a reset. Rejects after 30 seconds. */
  async needsReset(): Promise<void> {
    await until(
      async () => ((await this.device.status()) & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0,
      'a device that needs a reset',
    );
  }

  /** Resets the device: chains that it has not given back reject. */
  async reset(): Promise<void> {
    await this.device.reset();
    this.#closeQueues('the driver has reset the device');
  }

  /**
   * Lets go of its device, and takes over another one, `name`, with its memory, its rings and the chains in them as they are:
   * what a virtual machine does that moves. `start` with `bases` goes on.
   */
  async move(name: string, options: { bus?: Bus } = {}): Promise<void> {
    await this.device.close();
    this.device = await openVhostVdpa(name, options);
  }

  /** Closes the device, which resets it, and gives its memory back. */
  async close(): Promise<void> {
    await this.device.close();
    this.#closeQueues('the driver has been closed');
    this.memory.close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #negotiate({ features, packed, inOrder, forced = [] }: MockStartOptions): Promise<bigint> {
    const { device } = this;
    const all = (await device.offeredFeatures()) & ~RINGS;
    const rings = [packed && VIRTIO_F_RING_PACKED, inOrder && VIRTIO_F_IN_ORDER].filter(
      (bit) => bit !== undefined && bit !== false,
    );
    const wanted = (features ? mask(...features) : all) | mask(...rings);
    if (forced.length === 0) return device.negotiate(REQUIRED, wanted);
    const accepted = ((await device.offeredFeatures()) & (REQUIRED | wanted)) | mask(...forced);
    // Past `negotiate`, which accepts nothing that is not offered. Which of the two steps refuses is the transport's affair.
    const refused = (cause?: unknown) =>
      new RingbellError('ERR_FEATURES', `${device.name} refused the features`, { cause });
    try {
      await device.file.ioctl(VHOST_SET_FEATURES, u64.encode(accepted));
      await device.addStatus(VIRTIO_CONFIG_S_FEATURES_OK);
    } catch (error) {
      throw refused(error);
    }
    if (!((await device.status()) & VIRTIO_CONFIG_S_FEATURES_OK)) throw refused();
    return accepted;
  }

  #makeQueues(): void {
    this.#closeQueues('the driver has started anew');
    const packed = this.negotiated(VIRTIO_F_RING_PACKED);
    const inOrder = this.negotiated(VIRTIO_F_IN_ORDER);
    this.#queues = Array.from(
      { length: this.#queueCount },
      (_, index) => new MockQueue(this.memory, { index, size: this.#queueSize, packed, inOrder }),
    );
  }

  #closeQueues(why: string): void {
    for (const queue of this.#queues.splice(0)) {
      this.#pastViolations.push(...queue.violations);
      queue.close(new RingbellError('ERR_CLOSED', why));
    }
  }

  [inspect.custom](): string {
    return `MockDriver { ${this.device.name}, ${featureNames(this.device.deviceId, this.#features).join(' ')} }`;
  }
}
