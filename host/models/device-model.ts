import { inspect } from 'node:util';
import { RingbellError } from '../errors.js';
import type { Chain } from './chain.js';
import { checkManifest, type DeviceShape, limitsOf, type Manifest, offeredFeatures } from './manifest.js';
import type { AttachedModel, Model, ModelContext } from './model.js';
import { type Life, ModelHost, type ModelSurroundings } from './model-host.js';
import { ModelQueue } from './model-queue.js';
import { allocateQueueMemory } from './queue-memory.js';

/** Bytes; the most that a config space has (VDUSE). */
const CONFIG_LIMIT = 4096;

/**
 * A device in TypeScript: extend it, and give `serve` an instance. It gets the chains that a driver offers in batches, and
 * ends each whenever it likes. Its code runs on an event loop, outside of every lock; whatever it throws is an ERR_MODEL event,
 * and the rest goes on.
 */
export abstract class DeviceModel implements Model {
  /** What it is, and what it supports. */
  abstract readonly manifest: Manifest;
  /** The last byte, or bytes, of a chain that failed; a failed chain is given back empty if left out, or if they do not fit. */
  declare readonly errorStatus?: number | Uint8Array;
  #host: ModelHost | undefined;
  #surroundings: ModelSurroundings | undefined;

  /** Serves chains of `queue`, in the order of the ring. What it throws, or rejects with, fails those that it has not ended. */
  abstract handle(chains: readonly Chain[], queue: ModelQueue): void | Promise<void>;
  /** It is about to be served: throws what keeps it from that. */
  prepare?(shape: DeviceShape): void;
  /** Bit numbers to offer, all of them in the manifest; those of the manifest if left out. */
  features?(shape: DeviceShape): Iterable<number>;
  /** The config space as it is now, always of one length; none if left out. `struct` makes codecs for it. */
  config?(shape: DeviceShape): Uint8Array;
  /** A driver has negotiated features. */
  negotiated?(life: Life): void;
  /** The driver is ready (DRIVER_OK): chains may come from now on. */
  started?(life: Life): void;
  /** The driver has suspended the device: no chains come, and none that is ended is seen, until `resumed` or `reset`. */
  paused?(): void;
  resumed?(): void;
  /** The driver has gone, or starts anew: its chains are stale, its signal has aborted. */
  reset?(): void;
  /** The driver has reset `queue` alone: the chains from before are stale. */
  queueReset?(queue: ModelQueue): void;
  /** Its state as it is now, for `restore` of another instance; called while no chain is in its hands. */
  save?(): Uint8Array | Promise<Uint8Array>;
  /** Takes up a state that `save` gave, after `prepare`, before it is served. */
  restore?(state: Uint8Array): void | Promise<void>;
  /** The device is no longer served. */
  closed?(): void;

  /** VIRTIO_ID_*. */
  get deviceId(): number {
    return this.manifest.deviceId;
  }

  /** Virtqueues that it needs at least, as the manifest says: what `serve` gives it unless it is told otherwise. */
  get minimumQueues(): number {
    const queues = this.manifest?.queues ?? 1;
    return typeof queues === 'number' ? queues : queues.minimum;
  }

  /** What it is served as; undefined while it is not. */
  protected get shape(): DeviceShape | undefined {
    return this.#surroundings?.shape;
  }

  /** Used by `serve`. */
  attach(context: ModelContext): AttachedModel {
    if (this.#surroundings) throw new RingbellError('ERR_DEVICE_BUSY', 'this model is being served already');
    const { aperture, queueSize, life, configChanged, failed, watch } = context;
    const shape = { queues: context.queues.length, queueSize };
    if (typeof this.handle !== 'function') throw new TypeError('a device model needs a handle method');
    this.prepare?.(shape);
    checkManifest(this.manifest, shape);
    const features = offeredFeatures(this.manifest, this.features?.(shape) ?? this.manifest.features ?? []);
    const config = this.#config(shape);
    this.serveBy({ aperture, shape, life, configChanged, failed, watch });
    return {
      features,
      memoryLossIsFinal: false,
      volatile: false,
      usesInOrder: false,
      countsIoErrors: false,
      queueGroup: this.manifest.queueGroup ?? 1,
      config: () => config,
      loopDatapath: (index, hooks) => {
        const block = context.queues[index]!;
        const memory = allocateQueueMemory(aperture, shape, limitsOf(this.manifest));
        return new ModelQueue(this.#host!, index, block, memory, hooks);
      },
      ...(this.save && { save: () => this.save!() }),
      ...(this.restore && { restore: (state: Uint8Array) => this.restore!(state) }),
      lifeChanged: () => this.#host?.follow(),
      close: () => {
        const host = this.#host;
        this.#host = undefined;
        this.#surroundings = undefined;
        void host?.close();
      },
    };
  }

  /** Tells the driver that what `config` gives has changed: resolves once it has been told. Rejects as `resize` of a device. */
  async configChanged(): Promise<void> {
    const surroundings = this.#surroundings;
    if (!surroundings) throw new RingbellError('ERR_CLOSED', 'this model is not being served');
    await surroundings.configChanged(this.#config(surroundings.shape));
  }

  /** Tells the device's owner of an error that is nobody's who calls: an ERR_MODEL event, with `error` as its cause. */
  protected report(error: unknown): void {
    this.#surroundings?.failed(error);
  }

  /** Binds it to what it is served by. @internal */
  serveBy(surroundings: ModelSurroundings): ModelHost {
    this.#surroundings = surroundings;
    this.#host = new ModelHost(this, surroundings);
    return this.#host;
  }

  #config(shape: DeviceShape): Uint8Array {
    const config = this.config?.(shape) ?? new Uint8Array(0);
    if (!(config instanceof Uint8Array))
      throw new TypeError(`config of a device model gives a Uint8Array, not ${inspect(config)}`);
    if (config.length > CONFIG_LIMIT)
      throw new RingbellError(
        'ERR_ARGUMENT',
        `a config space has at most ${CONFIG_LIMIT} bytes, not ${config.length}`,
      );
    return Uint8Array.from(config);
  }

  [inspect.custom](): string {
    return `${this.constructor.name} { device id ${this.deviceId} }`;
  }
}
