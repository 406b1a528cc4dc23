import { inspect } from 'node:util';
import type { DeviceModel } from '../models/device-model.js';
import type { AttachedModel, Model, ModelContext } from '../models/model.js';
import { Faults, type FaultyOptions } from './faults.js';

/** A model whose chains go back with faults. */
export class FaultyModel implements Model {
  /** The model itself, which knows of nothing. */
  readonly model: DeviceModel;
  /** Its faults, which can be changed while it is served. */
  readonly faults: Faults;

  /** Throws ERR_ARGUMENT. @internal */
  constructor(model: DeviceModel, options: FaultyOptions) {
    this.model = model;
    this.faults = new Faults(options);
  }

  /** VIRTIO_ID_*. */
  get deviceId(): number {
    return this.model.deviceId;
  }

  /** Used by `serve`. */
  attach(context: ModelContext): AttachedModel {
    return this.model.attach({ ...context, watch: this.faults });
  }

  [inspect.custom](): string {
    return `FaultyModel { ${inspect(this.model)} }`;
  }
}

/**
 * Wraps a model in TypeScript, for tests of drivers: it serves as it does, and some of its chains go back late, failed, out of
 * order, never, or with a wrong length. Give the result to `serve`. Throws ERR_ARGUMENT.
 */
export function faulty(model: DeviceModel, options: FaultyOptions = {}): FaultyModel {
  return new FaultyModel(model, options);
}
