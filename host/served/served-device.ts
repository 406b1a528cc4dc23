import { channel } from 'node:diagnostics_channel';
import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';
import type { Worker } from 'node:worker_threads';
import type { Aperture } from '../aperture/aperture.js';
import { type ErrorCode, RingbellError, VERDICT_CODES } from '../errors.js';
import type { Flight } from '../flight.js';
import type { AttachedModel, Model } from '../models/model.js';
import { FlightKeeper } from '../observability/flight-keeper.js';
import { addOpenDevice, removeOpenDevice } from '../observability/open-devices.js';
import { type DeviceSnapshot, known, type Observable } from '../observability/snapshot.js';
import { FlightRecorder } from '../queue/flight-recorder.js';
import { QueueBlock } from '../queue/queue-block.js';
import { type QueueStats, readQueueStats, sumQueueStats } from '../queue/queue-stats.js';
import { featureNames, statusNames } from '../uapi/names.js';
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '../uapi/virtio.js';
import type { BounceBuffer } from '../vduse/device-layout.js';
import { DirtyPages } from '../vduse/dirty-pages.js';
import { DriverMemory } from '../vduse/driver-memory.js';
import { KernelVduseFile } from '../vduse/kernel-file.js';
import { Life } from '../vduse/life.js';
import { MessageThread } from '../vduse/message-thread.js';
import { Belongings } from './belongings.js';
import { DataPaths } from './data-paths.js';
import { createDeviceAperture, shareDriverWindow } from './device-aperture.js';
import { DeviceNode } from './device-node.js';
import { restoreDevice, type StatefulDevice, saveDevice } from './device-state.js';
import { DirtyLog } from './dirty-log.js';
import { queueSnapshot } from './queue-snapshot.js';
import { ringFeatures } from './ring-features.js';
import type { DeviceTransport, ServedDeviceOptions } from './served-device-options.js';

/** Milliseconds that a thread has to leave a ring: slow disks are not lost threads, yet VDUSE waits 30 s at most. */
const PAUSE_LIMIT_MS = 10_000;

const openChannel = channel('ringbell:device:open');
const statusChannel = channel('ringbell:device:status');
const errorChannel = channel('ringbell:device:error');
const closeChannel = channel('ringbell:device:close');

/** What `stats` gives: the sum of the queues, and each of them. */
export interface DeviceStats extends QueueStats {
  /** By index. */
  queues: QueueStats[];
}

/** Events of a served device. */
export interface ServedDeviceEvents {
  /** Something went wrong; docs/errors.md says for each code whether the device goes on or needs a reset. */
  error: [error: RingbellError];
  /** The device status that the driver sees has changed: VIRTIO_CONFIG_S_* bits. */
  status: [status: number];
  /** The driver has reset the device. */
  reset: [];
  /** The driver has come to need bounce buffers; `reason` says why they are not in memory of this process. */
  bounceBuffer: [bounceBuffer: BounceBuffer, reason: string | undefined];
  /** The device has been closed, by `close`, by a signal, or because its message thread ended. */
  close: [];
}

/**
 * A device model on a vDPA bus, until `close`. Whatever a driver does, the worst is that this device needs a reset: 'error'
 * says so, nothing is thrown, and the rest of the process goes on. It keeps the process alive unless `unref` is called.
 */
export class ServedDevice extends EventEmitter<ServedDeviceEvents> implements Observable {
  /** As given to `serve`. */
  readonly name: string;
  /** As given to `serve`. */
  readonly model: Model;
  /** Which pages of its driver's memory the device writes, once that is asked for. */
  readonly dirtyLog: DirtyLog;
  readonly #aperture: Aperture;
  readonly #flight: FlightKeeper;
  readonly #blocks: QueueBlock[] = [];
  readonly #belongings = new Belongings();
  #attached!: AttachedModel;
  /** Bits that are offered: the model's, less what `serve` was told to keep back. */
  #features = 0n;
  #dataPaths!: DataPaths;
  #messages!: MessageThread;
  #status = 0;
  #bounceBuffer: BounceBuffer = 'none';
  #bounceBufferReason: string | undefined;
  /** What the queue thread died of that was lost last. */
  #threadError: Error | undefined;
  #closing: Promise<void> | undefined;
  /** Resolves once the device is on its bus. */
  readonly #started: Promise<void>;
  #hasStarted!: () => void;
  #takenOver = false;
  /** Errors from before `serve` has returned: nobody can have been listening. */
  #early: RingbellError[] | undefined = [];

  /**
   * For `serve`: makes the device and attaches it. On failure nothing is left.
   * @internal
   */
  static async create(
    model: Model,
    transport: DeviceTransport,
    options: ServedDeviceOptions,
  ): Promise<ServedDevice> {
    const device = new ServedDevice(model, options);
    try {
      await device.#start(transport, options);
      device.#hasStarted();
      addOpenDevice(device);
      openChannel.publish({ device });
      setImmediate(() => device.#reportEarly());
      return device;
    } catch (error) {
      await device.#giveBack();
      throw error;
    }
  }

  private constructor(model: Model, options: ServedDeviceOptions) {
    super();
    this.name = options.name;
    this.model = model;
    this.#started = new Promise((resolve) => {
      this.#hasStarted = resolve;
    });
    this.dirtyLog = new DirtyLog(async (operation) => {
      this.#checkOpen();
      return this.#messages.dirtyPages(operation);
    });
    this.#flight = new FlightKeeper(
      options.flightRecorder,
      { device: this.name, side: 'device', deviceId: model.deviceId },
      () => this.#blocks.map((block, queue) => block.flightOf(queue)),
      (error) => errorChannel.publish({ device: this, error }),
    );
    this.#aperture = createDeviceAperture();
    this.#belongings.addShared(() => this.#aperture.close());
  }

  /** The device status that the driver sees: VIRTIO_CONFIG_S_* bits. */
  get status(): number {
    return this.#status;
  }

  /** Whether another process had served it before and left it on the bus: its driver has seen a pause at most. */
  get takenOver(): boolean {
    return this.#takenOver;
  }

  /** Names of the features that the device offers. */
  get features(): string[] {
    return featureNames(this.model.deviceId, this.#features);
  }

  /** Where the bounce buffers of the driver are; 'none' where there are none, as on the in-process bus. */
  get bounceBuffer(): BounceBuffer {
    return this.#bounceBuffer;
  }

  /** Why they are not in memory of this process, which was wanted; undefined where they are, or there are none. */
  get bounceBufferReason(): string | undefined {
    return this.#bounceBufferReason;
  }

  /** The thread that answers for the device; for profilers, and for whoever wants to see it die. */
  get messageThread(): Worker {
    return this.#messages.worker;
  }

  /** The threads that run the queues, likewise; none if they run on the event loop. */
  get queueThreads(): Worker[] {
    return this.#dataPaths.threads.map((thread) => thread.worker);
  }

  /** What the queues have counted since the device was made. Stops nothing. */
  stats(): DeviceStats {
    const queues = this.#blocks.map((block) => readQueueStats(this.#aperture, block.vq));
    return { ...sumQueueStats(queues), queues };
  }

  /** What the device is doing now, as plain data. */
  snapshot(): DeviceSnapshot {
    const status = this.#status;
    return {
      name: this.name,
      side: 'device',
      deviceId: this.model.deviceId,
      status,
      broken: (status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0,
      ...known({ messageThread: this.#messages.thread || undefined }),
      queues: this.#blocks.map(queueSnapshot),
    };
  }

  /** What the queues have done last. Stops nothing. Throws ERR_NOT_SUPPORTED without `flightRecorder`. */
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
    for (const block of this.#blocks) block.latency.on = on;
  }

  /**
   * Changes the size of the disk to `bytes`; the driver gets a config-change interrupt. Rejects with
   * ERR_NOT_SUPPORTED if the model cannot, ERR_ARGUMENT, ERR_READ_ONLY, ERR_APERTURE_FULL, ERR_CLOSED, a SystemError;
   * ERR_DEVICE_BROKEN or ERR_THREAD_LOST if the threads of the device cannot take part; ERR_MODEL if a model's code fails.
   */
  async resize(bytes: number): Promise<void> {
    this.#checkOpen();
    const { resize } = this.#attached;
    if (!resize) throw new RingbellError('ERR_NOT_SUPPORTED', `the model of ${this.name} cannot be resized`);
    let resized: Promise<void> | undefined;
    await this.#messages.reconfigure(() => {
      resized = Promise.resolve(resize(bytes));
      // It may reject before anybody waits for it, or when the change fails otherwise.
      resized.catch(() => {});
      return this.#attached.config();
    });
    await resized;
  }

  /**
   * The device's state, for `serve` to go on from: where its queues are, and what its model says of itself. The queues pause
   * meanwhile. Nothing may be in flight: the driver waits for its requests before. Rejects with ERR_IN_FLIGHT otherwise,
   * ERR_NOT_SUPPORTED if the model cannot be saved, ERR_MODEL if its code fails, ERR_CLOSED, ERR_DEVICE_BROKEN,
   * ERR_THREAD_LOST.
   */
  async save(): Promise<Uint8Array> {
    this.#checkOpen();
    return saveDevice(this.#stateful, (take) => this.#messages.reconfigure(take));
  }

  /** Keeps the process alive while the device is served, as it does from the start. */
  ref(): this {
    this.#messages.ref();
    return this;
  }

  /** Lets the process end although the device is served. */
  unref(): this {
    this.#messages.unref();
    return this;
  }

  /** Takes the device off the bus, stops its threads and gives everything back. Never throws; later calls wait too. */
  close(): Promise<void> {
    this.#closing ??= this.#giveBack().then(async () => {
      await this.#flight.written();
      removeOpenDevice(this);
      closeChannel.publish({ device: this });
      this.emit('close');
    });
    return this.#closing;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #stateful(): StatefulDevice {
    const { deviceId } = this.model;
    return {
      name: this.name,
      deviceId,
      features: this.#features,
      blocks: this.#blocks,
      attached: this.#attached,
    };
  }

  #checkOpen(): void {
    if (this.#closing) throw new RingbellError('ERR_CLOSED', `${this.name} is closed`);
  }

  async #start(transport: DeviceTransport, options: ServedDeviceOptions): Promise<void> {
    const { name, queueSize } = options;
    const belongings = this.#belongings;
    belongings.add(() => transport.control.close());
    const aperture = this.#aperture;
    const sigbusFlag = aperture.allocate(4);
    aperture.guardSigbus(sigbusFlag);
    const iotlbs = Array.from({ length: options.groups }, () => DriverMemory.allocateIotlb(aperture));
    for (let index = 0; index < options.queues; index++)
      this.#blocks.push(QueueBlock.allocate(aperture, queueSize, iotlbs[0]!, this.#allocateFlight(options)));
    const life = Life.allocate(aperture);
    const attached = this.model.attach({
      aperture,
      queues: this.#blocks,
      queueSize,
      sigbusFlag,
      life,
      threads: options.threads,
      configChanged: (config, change) => this.#configChanged(config, change),
      failed: (error) => this.#modelFailed(error),
    });
    this.#attached = attached;
    this.#features = attached.features | ringFeatures(options, attached.usesInOrder);
    belongings.addShared(() => attached.close());
    if (options.state) await restoreDevice(this.#stateful, options.state);
    const { queues, groups, apiVersion, log } = options;
    const { deviceId } = this.model;
    const config = attached.config();
    const node = await DeviceNode.open(
      transport.control,
      {
        ...{ name, deviceId, features: this.#features, queues, queueSize, groups, config, apiVersion, log },
        volatile: attached.volatile,
      },
      aperture,
    );
    belongings.add(() => node.close(belongings.abandoned));
    const { file, protocol, takenOver } = node;
    this.#takenOver = takenOver;
    if (node.log)
      for (const [index, block] of this.#blocks.entries()) block.keepLog(node.log.section(index), queueSize);

    const attentionFd = belongings.eventfd();
    const kickFds = this.#blocks.map(() => belongings.eventfd());
    const threads = attached.threadDatapath
      ? Math.min(options.threads, Math.ceil(options.queues / attached.queueGroup))
      : 0;
    const wakeFds = Array.from({ length: threads || options.queues }, () => belongings.eventfd());
    const wakeFd = (index: number) =>
      wakeFds[threads > 0 ? this.#dataPaths.threadOf(index, threads) : index]!;
    const deviceFd = file instanceof KernelVduseFile ? file.fd : -1;
    const { poll, cpus } = options;
    let messages: MessageThread | undefined;
    this.#dataPaths = new DataPaths(
      attached,
      { aperture, blocks: this.#blocks, sigbusFlag, attentionFd, deviceFd, poll, cpus },
      {
        lost: (indices, error) => {
          // The control plane says so to the driver and to us; what it died of is known only here.
          this.#threadError = error;
          for (const index of indices) messages?.queueThreadLost(index);
        },
        stuck: () => {
          belongings.abandoned = true;
        },
        failed: (error) => this.#modelFailed(error),
        configChanged: (config) => this.#configChanged(config),
      },
    );
    belongings.add(() => this.#dataPaths.close());
    this.#dataPaths.start(threads, wakeFds);

    const layout = {
      protocol,
      features: this.#features,
      iotlbs,
      dirty: DirtyPages.allocate(aperture),
      life,
      groups: options.groups,
      umem: options.umem,
      queues: this.#blocks.map(({ vq }, index) => ({ vq, wakeFd: wakeFd(index), kickFd: kickFds[index]! })),
      queueSize,
      takenOver,
      pauseLimitMs: PAUSE_LIMIT_MS,
      sigbusFlag,
      memoryLossIsFinal: attached.memoryLossIsFinal,
      reportIoErrors: attached.countsIoErrors,
    };
    messages = await MessageThread.start(
      file,
      { aperture: shareDriverWindow(aperture), layout, attentionFd },
      {
        status: (status) => this.#statusChanged(status),
        bounceBuffer: (bounceBuffer, reason) => this.#bounceBufferChanged(bounceBuffer, reason),
        error: (code, message) => {
          const cause = code === 'ERR_THREAD_LOST' ? this.#threadError : undefined;
          this.#report(code, message, cause);
        },
        lost: (error) => {
          this.#report('ERR_THREAD_LOST', 'the thread that answers for the device ended', error);
          // Nobody can go on in its place. Without its file the transport does not wait for answers either.
          void file.close().finally(() => this.close());
        },
      },
    );
    this.#messages = messages;
    belongings.add(() => this.#messages.close());
    if (this.#threadError)
      throw new RingbellError('ERR_THREAD_LOST', `a queue thread of ${name} ended before it could serve`, {
        cause: this.#threadError,
      });
    await transport.attach(name);
    node.own();
    belongings.add(() => transport.detach(name));
  }

  /** Linear address of a flight recorder, 0 where none is wanted. */
  #allocateFlight({ flightRecorder }: ServedDeviceOptions): number {
    if (!flightRecorder) return 0;
    return FlightRecorder.allocate(this.#aperture, flightRecorder.chains, this.model.deviceId);
  }

  /** The model's config space has changed. Before the device is there, it is what the device comes with. */
  async #configChanged(config: Uint8Array, change?: () => void): Promise<void> {
    this.#checkOpen();
    const { length } = this.#attached.config();
    if (config.length !== length)
      throw new RingbellError('ERR_ARGUMENT', `the config space has ${length} bytes, not ${config.length}`);
    await this.#started;
    await this.#messages.reconfigure(() => {
      change?.();
      return config;
    });
  }

  #modelFailed(error: unknown): void {
    const why = error instanceof Error ? error.message : String(error);
    this.#report('ERR_MODEL', `the model of ${this.name} failed: ${why}`, error);
  }

  #statusChanged(status: number): void {
    this.#attached.lifeChanged?.();
    this.#dataPaths.lifeChanged();
    if (status === 0) this.#dataPaths.replaceLost();
    // Opening, resetting and closing each send status 0.
    if (status === this.#status) return;
    this.#status = status;
    if (status === 0) {
      this.#bounceBuffer = 'none';
      this.#bounceBufferReason = undefined;
    }
    statusChannel.publish({ device: this, status });
    if (status === 0) this.emit('reset');
    this.emit('status', status);
  }

  #bounceBufferChanged(bounceBuffer: BounceBuffer, reason: string | undefined): void {
    this.#bounceBuffer = bounceBuffer;
    this.#bounceBufferReason = reason;
    this.emit('bounceBuffer', bounceBuffer, reason);
  }

  #report(code: ErrorCode, message: string, cause?: unknown): void {
    const error = new RingbellError(code, message, { cause });
    if (VERDICT_CODES.includes(code)) this.#flight.broken(error);
    errorChannel.publish({ device: this, error });
    if (this.#early) this.#early.push(error);
    // Nobody who listens: a hostile driver must not be able to end the process.
    else if (this.listenerCount('error') > 0) this.emit('error', error);
  }

  /** What went wrong while a driver that runs already was taken over, for the listeners that there are by now. */
  #reportEarly(): void {
    const errors = this.#early ?? [];
    this.#early = undefined;
    for (const error of errors) if (this.listenerCount('error') > 0) this.emit('error', error);
  }

  #giveBack(): Promise<void> {
    return this.#belongings.giveBack((error) => errorChannel.publish({ device: this, error }));
  }

  [inspect.custom](): string {
    const state = this.#closing ? 'closed' : statusNames(this.#status).join(' | ') || 'no driver';
    return `ServedDevice { ${this.name}: ${inspect(this.model)}, ${this.#blocks.length} queue(s), ${state} }`;
  }
}
