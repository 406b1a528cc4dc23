import type { Chain } from '../models/chain.js';
import { DeviceModel } from '../models/device-model.js';
import type { Life } from '../models/model-host.js';
import type { ModelQueue } from '../models/model-queue.js';

/** Hooks of a driver's life, in the order in which a model may hear of them. */
const HOOKS = ['negotiated', 'started', 'paused', 'resumed', 'reset', 'closed'] as const;

/** A hook of a driver's life. */
export type Hook = (typeof HOOKS)[number];

/** What may follow what. */
const FOLLOWS: Record<Hook | 'nothing', readonly Hook[]> = {
  nothing: ['negotiated', 'closed'],
  negotiated: ['started', 'reset'],
  started: ['paused', 'reset'],
  paused: ['resumed', 'reset'],
  resumed: ['paused', 'reset'],
  reset: ['negotiated', 'closed'],
  closed: ['negotiated', 'closed'],
};

/** Looks over the shoulder of a model that runs in this thread: what it is told, and which chains it has. */
export class ObservedModel {
  /** Hooks that were called, in order. */
  readonly hooks: Hook[] = [];
  /** Lives of drivers that have begun. */
  readonly lives: Life[] = [];
  readonly #queues = new Set<ModelQueue>();

  /** Has `model` observed, whose own hooks and handler are called as before. */
  constructor(model: DeviceModel) {
    for (const name of HOOKS) {
      const hook = model[name] as ((...of: unknown[]) => unknown) | undefined;
      const observed = (...of: unknown[]) => {
        this.hooks.push(name);
        if (name === 'negotiated') this.lives.push(of[0] as Life);
        return hook?.apply(model, of);
      };
      Object.assign(model, { [name]: observed });
    }
    const { handle } = model;
    model.handle = (chains: readonly Chain[], queue: ModelQueue) => {
      this.#queues.add(queue);
      return handle.call(model, chains, queue);
    };
  }

  /** Of a model that is observed: undefined for one that is no DeviceModel, or runs elsewhere. */
  static of(model: unknown): ObservedModel | undefined {
    return model instanceof DeviceModel ? new ObservedModel(model) : undefined;
  }

  /** Chains that the model has and has not ended. */
  get inHand(): number {
    return [...this.#queues].reduce((sum, queue) => sum + queue.inHand, 0);
  }

  /** The first two hooks that came in an order in which they cannot, if there are any. */
  get disorder(): string | undefined {
    let last: Hook | 'nothing' = 'nothing';
    for (const hook of this.hooks) {
      if (!FOLLOWS[last].includes(hook)) return `${hook} after ${last}`;
      last = hook;
    }
    return undefined;
  }
}
