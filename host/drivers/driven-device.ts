import type { Channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
import { VIRTIO_F_RING_RESET } from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import type { Flight } from '../flight.js';
import { Mutex } from '../mutex.js';
import { FlightKeeper } from '../observability/flight-keeper.js';
import { addOpenDevice, removeOpenDevice } from '../observability/open-devices.js';
import { type DeviceSnapshot, known, type Observable } from '../observability/snapshot.js';
import { checkOptions, checkQueueSize } from '../options.js';
import { threadId } from '../queue/thread-id.js';
import { featureNames } from '../uapi/names.js';
import type { DriverLane } from './driver-lane.js';
import type { DriverQueueStats } from './driver-queue.js';
import type { VirtioDriver } from './virtio-driver.js';

/** Milliseconds that `close` gives requests on their way. */
const CLOSE_TIMEOUT_MS = 10_000;

/** What a device emits that this process drives. */
export interface DrivenDeviceEvents<Config> {
  /** The device did what it must not, or asks for a reset: every call fails from now on. */
  error: [error: RingbellError];
  /** The config space changed. */
  config: [config: Config];
  /**
   * A queue has no doorbell page although one was wanted: its kicks go by eventfd. `code` is the errno name of the refusal.
   * At most once a queue, in the turn after the opening.
   */
  doorbellRefused: [queue: number, code: string];
  /** The device has been closed, by `close` or by a signal. */
  close: [];
}

/** What a driven device has done so far: the sum of its queues, and each. */
export interface DrivenDeviceStats extends Omit<DriverQueueStats, 'doorbell'> {
  /** Each queue in use, by index. */
  queues: DrivenQueueStats[];
}

/** How a queue is to start again. */
export interface ResetQueueOptions {
  /** Entries: a power of two, up to the `maxQueueSize` that the device was opened with. As many as before if left out. */
  queueSize?: number | undefined;
}

/** What one queue has done so far, and how it is now. */
export interface DrivenQueueStats extends DriverQueueStats {
  /** Entries of its ring. */
  size: number;
  /** Requests on the ring. */
  inFlight: number;
  /** Why kicks go by eventfd although a doorbell was wanted: an errno name. */
  doorbellRefused: string | undefined;
}

/** Diagnostics channels of a kind of device. */
export interface DrivenDeviceChannels {
  /** Key of the device in messages. */
  readonly key: string;
  readonly open: Channel;
  readonly doorbell: Channel;
  readonly config: Channel;
  readonly error: Channel;
  readonly close: Channel;
}

/** What every device is that this process drives, whatever its type: from an opened driver to the end of its life. */
export abstract class DrivenDevice<Config>
  extends EventEmitter<DrivenDeviceEvents<Config>>
  implements Observable
{
  /** As given when it was opened. */
  readonly name: string;
  /** Names of the negotiated features. */
  readonly features: readonly string[];
  /** @internal */
  protected readonly driver: VirtioDriver;
  /** @internal */
  protected abstract readonly lanes: readonly DriverLane[];
  /** @internal */
  protected broken = false;
  /** @internal */
  protected closing: Promise<void> | undefined;
  readonly #channels: DrivenDeviceChannels;
  readonly #flight: FlightKeeper;
  #config: Config;
  /** Nothing of the device matters any more. */
  #closed = false;
  /** The thread that drives it. */
  readonly #thread = threadId();
  /** Queues are reset one after the other. */
  readonly #resets = new Mutex();

  /** @internal */
  protected constructor(driver: VirtioDriver, config: Config, channels: DrivenDeviceChannels) {
    super();
    this.driver = driver;
    this.name = driver.device.name;
    this.features = featureNames(driver.device.deviceId, driver.features);
    this.#config = config;
    this.#channels = channels;
    this.#flight = new FlightKeeper(
      driver.flightRecorder,
      { device: this.name, side: 'driver', deviceId: driver.device.deviceId },
      () => this.lanes.map(({ queue }) => queue.flightOf()),
      (error) => this.#publish('error', { error }),
    );
  }

  /**
   * Sets DRIVER_OK.
   * @internal
   */
  async start(): Promise<void> {
    await this.driver.start({
      config: () => void this.#configChanged(),
      doorbellRefused: (queue, code) => {
        this.#publish('doorbell', { queue, code });
        this.emit('doorbellRefused', queue, code);
      },
      broken: (error) => this.breakDevice(error),
    });
    addOpenDevice(this);
    this.#publish('open', {});
  }

  /** The config space, as it was last read: when the device was opened, or at the last 'config' event. */
  get config(): Config {
    return this.#config;
  }

  /** Counters; readable at any time before `close`, after it what they were at the end. */
  stats(): DrivenDeviceStats {
    const queues = this.lanes.map(({ queue }) => ({
      ...queue.stats(),
      size: queue.size,
      inFlight: queue.slots - queue.free,
      doorbellRefused: this.driver.doorbellRefusals[queue.index],
    }));
    const sum = (key: Exclude<keyof DriverQueueStats, 'doorbell'>) =>
      queues.reduce((total, queue) => total + queue[key], 0);
    return {
      requests: sum('requests'),
      bytesRead: sum('bytesRead'),
      bytesWritten: sum('bytesWritten'),
      kicks: sum('kicks'),
      kicksSuppressed: sum('kicksSuppressed'),
      interrupts: sum('interrupts'),
      crossings: sum('crossings'),
      queues,
    };
  }

  /** What the device is doing now, as plain data. */
  snapshot(): DeviceSnapshot {
    return {
      name: this.name,
      side: 'driver',
      deviceId: this.driver.device.deviceId,
      broken: this.broken,
      queues: this.lanes.map(({ queue }) => ({
        queue: queue.index,
        ...queue.stats(),
        inFlight: queue.slots - queue.free,
        ...known({ latency: queue.latency.snapshot(), thread: this.#thread || undefined }),
      })),
    };
  }

  /** What the queues have done last. Throws ERR_NOT_SUPPORTED without `flightRecorder`. */
  flight(): Flight {
    return this.#flight.read();
  }

  /**
   * Writes that to a file, which `ringbell inspect` reads. Rejects with ERR_NOT_SUPPORTED without `flightRecorder`, the
   * SystemError of a path that cannot be written to.
   */
  dumpFlight(path: string): Promise<void> {
    return this.#flight.dump(path);
  }

  /**
   * For whoever wants to know how long requests take.
   * @internal
   */
  timeRequests(on: boolean): void {
    for (const { queue } of this.lanes) queue.latency.on = on;
  }

  /** Lets the open device keep the process alive, even when idle. */
  ref(): this {
    this.driver.device.ref();
    for (const lane of this.lanes) lane.hold(true);
    return this;
  }

  /** Lets the process end even while requests are on their way. */
  unref(): this {
    this.driver.device.unref();
    for (const lane of this.lanes) lane.hold(false);
    return this;
  }

  /**
   * Resets queue `queue` and starts it again, with `queueSize` entries if that is given ("Virtqueue Reset"); the other queues go
   * on. Calls on their way end as ever: what the device had not given back is put on the new ring, so it may carry it out twice.
   * Only requests of a batch are not repeated: they come back with VIRTIO_BLK_S_IOERR. Rejects with ERR_NOT_SUPPORTED where
   * VIRTIO_F_RING_RESET was not negotiated, ERR_ARGUMENT for a queue that there is not or a size that is no power of two up to
   * `maxQueueSize`, ERR_CLOSED, and ERR_DEVICE_BROKEN where it fails, which breaks the device.
   */
  async resetQueue(queue: number, options: ResetQueueOptions = {}): Promise<void> {
    this.checkOpen();
    checkOptions('resetQueue', options, ['queueSize']);
    const lane = this.lanes[queue];
    if (!lane)
      throw new RingbellError('ERR_ARGUMENT', `queue ${queue}: ${this.name} uses ${this.lanes.length}`);
    if (!this.driver.hasFeature(VIRTIO_F_RING_RESET))
      throw new RingbellError('ERR_NOT_SUPPORTED', `${this.name} lacks VIRTIO_F_RING_RESET`);
    const { minSize, maxSize } = lane.queue;
    checkQueueSize('queueSize', options.queueSize, minSize, maxSize);
    await this.#resets.run(() => lane.reset(this.driver, options.queueSize ?? lane.queue.size));
  }

  /**
   * Waits for what is on its way (10 seconds at most), resets the device and gives everything back. Calls from now on, and
   * those that did not end in time, reject with ERR_CLOSED.
   */
  close(): Promise<void> {
    this.closing ??= this.#close();
    return this.closing;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Reads and decodes the config space.
   * @internal
   */
  protected abstract readConfig(): Promise<Config>;

  /**
   * Resolves once nothing is on its way that closing should wait for.
   * @internal
   */
  protected async drained(): Promise<void> {
    await Promise.all(this.lanes.map((lane) => lane.drained()));
  }

  /**
   * Called once the device is closed, and before anybody is told. Does not reject.
   * @internal
   */
  protected async released(): Promise<void> {}

  /**
   * Throws ERR_CLOSED once `close` was called.
   * @internal
   */
  protected checkOpen(): void {
    if (this.closing) throw new RingbellError('ERR_CLOSED', `${this.name} has been closed`);
  }

  /**
   * Gives the device up: FAILED, every queue fails, one event.
   * @internal
   */
  protected breakDevice(cause: RingbellError): void {
    if (this.#closed || this.broken) return;
    this.broken = true;
    for (const lane of this.lanes) lane.break(cause);
    this.driver.device.fail().catch(() => {});
    this.#flight.broken(cause);
    this.#publish('error', { error: cause });
    // Every call reports it anyway: a program need not listen to be told.
    if (this.listenerCount('error') > 0) this.emit('error', cause);
  }

  async #close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, CLOSE_TIMEOUT_MS);
    });
    await Promise.race([this.drained(), timeout]);
    clearTimeout(timer);
    this.#closed = true;
    const closed = new RingbellError('ERR_CLOSED', `${this.name} has been closed`);
    for (const lane of this.lanes) {
      lane.fail(closed);
      lane.close();
    }
    try {
      await this.driver.close();
    } finally {
      await this.released();
      await this.#flight.written();
      removeOpenDevice(this);
      this.#publish('close', {});
      this.emit('close');
    }
  }

  async #configChanged(): Promise<void> {
    try {
      this.#config = await this.readConfig();
    } catch (error) {
      this.breakDevice(
        new RingbellError('ERR_DEVICE_BROKEN', `${this.name}: the config space cannot be read`, {
          cause: error,
        }),
      );
      return;
    }
    this.#publish('config', { config: this.#config });
    this.emit('config', this.#config);
  }

  #publish(channel: Exclude<keyof DrivenDeviceChannels, 'key'>, message: object): void {
    this.#channels[channel].publish({ [this.#channels.key]: this, ...message });
  }
}
