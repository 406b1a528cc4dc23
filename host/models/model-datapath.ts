import type { DatapathModule, LoopThread } from '../queue/datapath.js';
import type { DeviceModel } from './device-model.js';
import type { DeviceShape } from './manifest.js';
import type { ModelHost } from './model-host.js';
import { ModelQueue } from './model-queue.js';
import type { QueueMemory } from './queue-memory.js';

/** What a queue thread makes the data path of one queue of a model from. */
export interface ModelData {
  /** URL of the module whose default export is the model's class. */
  module: string;
  /** What it is constructed with. */
  options: unknown;
  shape: DeviceShape;
  /** Linear address of the LIFE block. */
  life: number;
  /** Index of the queue, and its memory. */
  index: number;
  memory: QueueMemory;
}

/** The one instance of this thread, which all of its queues share. */
let host: Promise<ModelHost> | undefined;

export const createDatapath: DatapathModule['createDatapath'] = async (block, data, { attention, loop }) => {
  const { module, options, shape, life, index, memory } = data as ModelData;
  const { schedule, failed, configChanged } = loop!;
  host ??= createInstance(module, options).then((model) => {
    // Every instance prepares itself: what a model reads of its own then, it serves by.
    model.prepare?.(shape);
    const started = model.serveBy({ aperture: block.aperture, shape, life, configChanged, failed });
    follow(started, loop!);
    return started;
  });
  return new ModelQueue(await host, index, block, memory, { schedule, attention, failed });
};

function follow(started: ModelHost, { onLife, onEnd }: LoopThread): void {
  onLife(() => started.follow());
  onEnd(() => started.close());
}

/** A model of the class that is the default export of a module. */
export async function createInstance(module: string, options: unknown): Promise<DeviceModel> {
  const { default: Class } = (await import(module)) as { default?: new (options: unknown) => DeviceModel };
  if (typeof Class !== 'function')
    throw new TypeError(`${module} must have a class of device models as its default export`);
  return new Class(options);
}
