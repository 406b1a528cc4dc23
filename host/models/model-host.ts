import { setMaxListeners } from 'node:events';
import { LIFE_COUNT, LIFE_FEATURES, LIFE_STATUS, LIFE_SUSPENDED } from '../../assembly/layout.js';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK } from '../../assembly/virtio.js';
import type { Aperture } from '../aperture/aperture.js';
import { hasBit } from '../uapi/bits.js';
import type { ChainWatch } from './chain-watch.js';
import type { DeviceModel } from './device-model.js';
import type { DeviceShape } from './manifest.js';
import type { ModelQueue } from './model-queue.js';

/** What a driver and a device have agreed on, until the driver resets the device. */
export interface Life {
  /** Features negotiated, as a mask. */
  readonly features: bigint;
  /** Aborts at the reset. */
  readonly signal: AbortSignal;
  /** Whether the feature of bit number `bit` was negotiated. */
  negotiated(bit: number): boolean;
}

/** What a model is served by, in one thread. */
export interface ModelSurroundings {
  aperture: Aperture;
  shape: DeviceShape;
  /** Linear address of the LIFE block. */
  life: number;
  configChanged(config: Uint8Array): Promise<void>;
  failed(error: unknown): void;
  /** See ModelContext. */
  watch?: ChainWatch | undefined;
}

/** The life of a driver that is over before one has come. */
const NO_LIFE: Life = { features: 0n, signal: AbortSignal.abort(), negotiated: () => false };

/** One instance of a model in one thread: follows the lives of its drivers, and tells the model of them. */
export class ModelHost {
  readonly model: DeviceModel;
  readonly surroundings: ModelSurroundings;
  #count = 0;
  #abort: AbortController | undefined;
  #life: Life = NO_LIFE;
  #started = false;
  #suspended = false;

  constructor(model: DeviceModel, surroundings: ModelSurroundings) {
    this.model = model;
    this.surroundings = surroundings;
    this.#count = this.lifeCount;
  }

  /** The life that the model knows of; one that has ended where no driver has negotiated. */
  get life(): Life {
    return this.#life;
  }

  /** Number of the life that the device is in by now, whether or not the model has been told. */
  get lifeCount(): number {
    return this.#word(LIFE_COUNT);
  }

  /** Tells the model what has happened to the device since the last call. To be called before it gets chains, and after changes. */
  follow(): void {
    const status = this.#word(LIFE_STATUS);
    const count = this.lifeCount;
    if (count !== this.#count) this.#end(count);
    if (status & VIRTIO_CONFIG_S_FEATURES_OK && !this.#abort) this.#begin();
    if (status & VIRTIO_CONFIG_S_DRIVER_OK && this.#abort && !this.#started) {
      this.#started = true;
      this.#call(() => this.model.started?.(this.#life));
    }
    const suspended = this.#word(LIFE_SUSPENDED) !== 0;
    if (this.#started && suspended !== this.#suspended) {
      this.#suspended = suspended;
      this.#call(() => (suspended ? this.model.paused?.() : this.model.resumed?.()));
    }
  }

  /** A queue has been reset, and the device not. */
  queueReset(queue: ModelQueue): void {
    this.#call(() => this.model.queueReset?.(queue));
  }

  /** The device is no longer served: resolves once the model has taken note of it. */
  async close(): Promise<void> {
    this.#end(this.#count);
    await this.#call(() => this.model.closed?.());
  }

  #begin(): void {
    const { aperture, life } = this.surroundings;
    const features = Atomics.load(aperture.u64, (life + LIFE_FEATURES) / 8);
    this.#abort = new AbortController();
    // Each chain in hand may have a listener of its own.
    setMaxListeners(0, this.#abort.signal);
    this.#life = {
      features,
      signal: this.#abort.signal,
      negotiated: (bit) => hasBit(features, bit),
    };
    this.#call(() => this.model.negotiated?.(this.#life));
  }

  #end(count: number): void {
    this.#count = count;
    const abort = this.#abort;
    if (!abort) return;
    this.#abort = undefined;
    this.#started = false;
    this.#suspended = false;
    // After `stale` says so, and before the next driver is heard of.
    this.#call(() => abort.abort());
    this.#call(() => this.model.reset?.());
  }

  /** Runs the model's code. What it does wrong is an event, and nothing else. */
  #call(hook: () => unknown): unknown {
    const { failed } = this.surroundings;
    try {
      const ended = hook();
      return ended instanceof Promise ? ended.catch(failed) : undefined;
    } catch (error) {
      return failed(error);
    }
  }

  #word(offset: number): number {
    const { aperture, life } = this.surroundings;
    return Atomics.load(aperture.u32, (life + offset) / 4);
  }
}
