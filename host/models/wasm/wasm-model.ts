import { inspect } from 'node:util';
import {
  MODEL_BLOCK_SIZE,
  MODEL_CONFIG,
  MODEL_CONFIG_BYTES,
  MODEL_INDEX,
  MODEL_LOST,
  MODEL_PRIVATE_BYTES,
  MODEL_QUEUE_STATE,
  MODEL_STATE,
  MODEL_VQ,
} from '../../../assembly/layout.js';
import { RingbellError } from '../../errors.js';
import { checkOptions } from '../../options.js';
import { checkManifest, type DeviceShape, type Manifest, offeredFeatures } from '../manifest.js';
import type { AttachedModel, Model, ModelContext } from '../model.js';
import { loadModelModule, type ModelModule } from './model-module.js';
import { ModelStates } from './model-states.js';
import { createDatapath, instantiateModel, type WasmDatapathData } from './wasm-datapath.js';

/** What a WasmModel is made of. */
export interface WasmModelOptions {
  /** The WebAssembly module: its bytes, a path, or a `file:` URL. */
  module: Uint8Array | ArrayBuffer | string | URL;
  /** What the device is, and what it supports; without limits, because nothing is ever in the hands of such a model. */
  manifest: Manifest;
  /** The config space as it is now, always of one length; none if left out. */
  config?: (shape: DeviceShape) => Uint8Array;
}

const OPTION_NAMES = ['module', 'manifest', 'config'];
/** Bytes; the most that a config space has (VDUSE). */
const CONFIG_LIMIT = 4096;
const DATAPATH_MODULE = new URL('wasm-datapath.js', import.meta.url).href;

/** Where a model is being served. */
interface Surroundings {
  shape: DeviceShape;
  configChanged(config: Uint8Array): Promise<void>;
}

/**
 * A device whose data path is a WebAssembly module of its author's, compiled from AssemblyScript against `ringbell/assembly`.
 * It runs beside the engine on the device's memory, in queue threads or on the event loop; the engine and it call each other
 * with no JavaScript between.
 */
export class WasmModel implements Model {
  /** What it is, and what it supports. */
  readonly manifest: Manifest;
  readonly #module: ModelModule;
  readonly #config: (shape: DeviceShape) => Uint8Array;
  #surroundings: Surroundings | undefined;

  /**
   * Reads, judges and compiles the module. Throws a TypeError, ERR_ARGUMENT for options that cannot be meant, ERR_MODULE,
   * ERR_MODULE_IMPORT, ERR_MODULE_EXPORT, ERR_MODULE_ABI, a SystemError for a file that cannot be read.
   */
  constructor(options: WasmModelOptions) {
    checkOptions('WasmModel', options, OPTION_NAMES);
    const { module, manifest, config = () => new Uint8Array(0) } = options;
    if (typeof manifest !== 'object' || manifest === null)
      throw new TypeError(`a WasmModel needs a manifest, not ${inspect(manifest)}`);
    if (manifest.limits !== undefined)
      throw new RingbellError('ERR_ARGUMENT', 'limits are of models in JavaScript: a WasmModel has none');
    if (typeof config !== 'function')
      throw new TypeError(`config must be a function that gives a Uint8Array, not ${inspect(config)}`);
    this.manifest = manifest;
    this.#config = config;
    this.#module = loadModelModule(module);
  }

  /** VIRTIO_ID_*. */
  get deviceId(): number {
    return this.manifest.deviceId;
  }

  /** Used by `serve`. */
  attach(context: ModelContext): AttachedModel {
    if (this.#surroundings)
      throw new RingbellError('ERR_DEVICE_BUSY', 'this WasmModel is being served already');
    const { aperture, queues, queueSize, configChanged } = context;
    const { module, stateBytes, queueStateBytes } = this.#module;
    const shape = { queues: queues.length, queueSize };
    checkManifest(this.manifest, shape);
    const features = offeredFeatures(this.manifest, this.manifest.features ?? []);
    let bytes = this.#configOf(shape);
    // Refused here rather than in a thread.
    instantiateModel(aperture, module);
    const state = aperture.allocate(stateBytes);
    const config = aperture.allocate(bytes.length);
    aperture.u8.set(bytes, config);
    const sources = queues.map(({ vq }, index): WasmDatapathData => {
      const model = aperture.allocate(MODEL_BLOCK_SIZE);
      const fields: [number, number][] = [
        [MODEL_VQ, vq],
        [MODEL_INDEX, index],
        [MODEL_STATE, state],
        [MODEL_QUEUE_STATE, aperture.allocate(queueStateBytes)],
        [MODEL_CONFIG, config],
        [MODEL_CONFIG_BYTES, bytes.length],
        [MODEL_LOST, context.sigbusFlag],
        [MODEL_PRIVATE_BYTES, aperture.privateBytes],
      ];
      for (const [offset, value] of fields) aperture.data.setUint32(model + offset, value, true);
      return { module, model };
    });
    const changed = (next: Uint8Array) =>
      configChanged(next, () => {
        bytes = next;
        aperture.u8.set(next, config);
      });
    const states = new ModelStates(aperture, [
      { linear: state, bytes: stateBytes },
      ...sources.map(({ model }) => ({
        linear: aperture.data.getUint32(model + MODEL_QUEUE_STATE, true),
        bytes: queueStateBytes,
      })),
    ]);
    this.#surroundings = { shape, configChanged: changed };
    return {
      features,
      memoryLossIsFinal: false,
      volatile: true,
      usesInOrder: true,
      countsIoErrors: true,
      queueGroup: this.manifest.queueGroup ?? 1,
      config: () => bytes,
      threadDatapath: (index) => ({ module: DATAPATH_MODULE, data: sources[index]! }),
      loopDatapath: (index, { attention }) =>
        createDatapath(queues[index]!, sources[index]!, { pollers: 0, bursts: 1, attention }),
      save: () => states.save(),
      restore: (saved) => states.restore(saved),
      close: () => {
        this.#surroundings = undefined;
      },
    };
  }

  /**
   * Gives module and driver the config space that `config` gives now: resolves once the driver has been told. Rejects as
   * `resize` of a device.
   */
  async configChanged(): Promise<void> {
    const surroundings = this.#surroundings;
    if (!surroundings) throw new RingbellError('ERR_CLOSED', 'this model is not being served');
    await surroundings.configChanged(this.#configOf(surroundings.shape));
  }

  #configOf(shape: DeviceShape): Uint8Array {
    const config = this.#config(shape);
    if (!(config instanceof Uint8Array))
      throw new TypeError(`config of a WasmModel gives a Uint8Array, not ${inspect(config)}`);
    if (config.length > CONFIG_LIMIT)
      throw new RingbellError(
        'ERR_ARGUMENT',
        `a config space has at most ${CONFIG_LIMIT} bytes, not ${config.length}`,
      );
    return Uint8Array.from(config);
  }

  [inspect.custom](): string {
    return `WasmModel { device id ${this.deviceId} }`;
  }
}
