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
import { checkInteger, checkOptions } from '../../options.js';
import { mask } from '../../uapi/bits.js';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1 } from '../../uapi/virtio.js';
import type { AttachedModel, DeviceModel, ModelContext } from '../device-model.js';
import { loadModelModule, type ModelModule } from './model-module.js';
import { createDatapath, instantiateModel, type WasmDatapathData } from './wasm-datapath.js';

/** What a WasmModel is made of. */
export interface WasmModelOptions {
  /** The WebAssembly module: its bytes, a path, or a `file:` URL. */
  module: Uint8Array | ArrayBuffer | string | URL;
  /** VIRTIO_ID_* of the device. */
  deviceId: number;
  /** Numbers of the feature bits of its type to offer: 0 to 23, 50 to 63. Those of virtqueues are offered by `serve`. */
  features?: readonly number[];
  /** The config space; empty if left out. It is copied. */
  config?: Uint8Array;
}

const OPTION_NAMES = ['module', 'deviceId', 'features', 'config'];
/** Bits that the specification reserves for virtqueues and negotiation ("Feature Bits"). */
const RESERVED_FEATURES = { first: 24, last: 49 };
const FEATURE_LIMIT = 63;
const DEVICE_ID_LIMIT = 0xffff_ffff;
const CONFIG_LIMIT = 4096;
const DATAPATH_MODULE = new URL('wasm-datapath.js', import.meta.url).href;

/**
 * A device whose data path is a WebAssembly module of its author's, compiled from AssemblyScript against `ringbell/assembly`.
 * It runs beside the engine on the device's memory, in queue threads or on the event loop; the engine and it call each other
 * with no JavaScript between.
 */
export class WasmModel implements DeviceModel {
  readonly deviceId: number;
  readonly #module: ModelModule;
  readonly #features: bigint;
  readonly #config: Uint8Array;
  #attached = false;

  /**
   * Reads, judges and compiles the module. Throws a TypeError, ERR_ARGUMENT for options that cannot be meant, ERR_MODULE,
   * ERR_MODULE_IMPORT, ERR_MODULE_EXPORT, ERR_MODULE_ABI, a SystemError for a file that cannot be read.
   */
  constructor(options: WasmModelOptions) {
    checkOptions('WasmModel', options, OPTION_NAMES);
    const { module, deviceId, features = [], config = new Uint8Array(0) } = options;
    if (deviceId === undefined) throw new RingbellError('ERR_ARGUMENT', 'WasmModel needs a deviceId');
    checkInteger('deviceId', deviceId, 1, DEVICE_ID_LIMIT);
    for (const bit of features) {
      checkInteger('a feature', bit, 0, FEATURE_LIMIT);
      if (bit >= RESERVED_FEATURES.first && bit <= RESERVED_FEATURES.last)
        throw new RingbellError('ERR_ARGUMENT', `feature ${bit} is not of a device type: serve offers those`);
    }
    if (!(config instanceof Uint8Array))
      throw new TypeError(`config must be a Uint8Array, not ${inspect(config)}`);
    if (config.length > CONFIG_LIMIT)
      throw new RingbellError('ERR_ARGUMENT', `config must have at most ${CONFIG_LIMIT} bytes`);
    this.deviceId = deviceId;
    this.#features = mask(VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM, ...features);
    this.#config = Uint8Array.from(config);
    this.#module = loadModelModule(module);
  }

  /** Used by `serve`. */
  attach({ aperture, queues, sigbusFlag }: ModelContext): AttachedModel {
    if (this.#attached) throw new RingbellError('ERR_DEVICE_BUSY', 'this WasmModel is being served already');
    const { module, stateBytes, queueStateBytes } = this.#module;
    // Refused here rather than in a thread.
    instantiateModel(aperture, module);
    const state = aperture.allocate(stateBytes);
    const config = aperture.allocate(this.#config.length);
    aperture.u8.set(this.#config, config);
    const sources = queues.map(({ vq }, index): WasmDatapathData => {
      const model = aperture.allocate(MODEL_BLOCK_SIZE);
      const fields: [number, number][] = [
        [MODEL_VQ, vq],
        [MODEL_INDEX, index],
        [MODEL_STATE, state],
        [MODEL_QUEUE_STATE, aperture.allocate(queueStateBytes)],
        [MODEL_CONFIG, config],
        [MODEL_CONFIG_BYTES, this.#config.length],
        [MODEL_LOST, sigbusFlag],
        [MODEL_PRIVATE_BYTES, aperture.privateBytes],
      ];
      for (const [offset, value] of fields) aperture.data.setUint32(model + offset, value, true);
      return { module, model };
    });
    this.#attached = true;
    return {
      features: this.#features,
      memoryLossIsFinal: false,
      volatile: true,
      usesInOrder: true,
      countsIoErrors: true,
      config: () => this.#config,
      threadDatapath: (index) => ({ module: DATAPATH_MODULE, data: sources[index]! }),
      loopDatapath: (index, { attention }) =>
        createDatapath(queues[index]!, sources[index]!, { pollers: 0, bursts: 1, attention }),
      close: () => {
        this.#attached = false;
      },
    };
  }

  [inspect.custom](): string {
    return `WasmModel { device id ${this.deviceId} }`;
  }
}
