import { inspect } from 'node:util';
import type { DeviceModel } from './device-model.js';
import { limitsOf } from './manifest.js';
import type { AttachedModel, Model, ModelContext } from './model.js';
import { createInstance, type ModelData } from './model-datapath.js';
import { allocateQueueMemory } from './queue-memory.js';

/**
 * A model that is loaded from a module: every queue thread makes an instance of its own. One more, in the thread that serves the
 * device, says what the device is; without queue threads it serves the queues, too.
 */
export class LoadedModel implements Model {
  /** The instance of this thread. */
  readonly model: DeviceModel;
  readonly #module: string;
  readonly #options: unknown;

  /** Loads `module`, whose default export is a class that is constructed with `options`. Throws what either throws. */
  static async load(module: URL, options: unknown): Promise<LoadedModel> {
    return new LoadedModel(await createInstance(module.href, options), module.href, options);
  }

  private constructor(model: DeviceModel, module: string, options: unknown) {
    this.model = model;
    this.#module = module;
    this.#options = options;
  }

  get deviceId(): number {
    return this.model.deviceId;
  }

  get minimumQueues(): number {
    return this.model.minimumQueues;
  }

  attach(context: ModelContext): AttachedModel {
    const attached = this.model.attach(context);
    if (context.threads === 0) return attached;
    const { aperture, queueSize, life } = context;
    const shape = { queues: context.queues.length, queueSize };
    // None of the instances has all of the state.
    const { resize, save, restore, lifeChanged, ...rest } = attached;
    return {
      ...rest,
      threadDatapath: (index) => ({
        module: new URL('model-datapath.js', import.meta.url).href,
        onLoop: true,
        data: {
          module: this.#module,
          options: this.#options,
          ...{ shape, life, index },
          memory: allocateQueueMemory(aperture, shape, limitsOf(this.model.manifest)),
        } satisfies ModelData,
      }),
    };
  }

  [inspect.custom](): string {
    return `${inspect(this.model)} of ${this.#module}`;
  }
}
