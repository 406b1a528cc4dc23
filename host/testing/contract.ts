import type { Model } from '../models/model.js';
import { CASES, type Case, EVENT_LOOP_CASES, OUT_OF_ORDER_CASES } from './contract-cases.js';
import { type ContractRequest, ContractScene, type Variant } from './contract-scene.js';

/** What a model's contract is played with. */
export interface ModelContractOptions {
  /** Defines a test, as `test` of uvu, node:test and vitest does. */
  readonly test: (name: string, act: () => Promise<void>) => unknown;
  /** A model that is served for one case, and not for another one later; or the URL of its module. */
  readonly model: () => Model | URL | Promise<Model | URL>;
  /** What a model that is given by URL is constructed with. */
  readonly modelOptions?: unknown;
  /** Requests that end by themselves, whatever others come before; an array for those that belong together, in order. */
  readonly requests: readonly (ContractRequest | readonly ContractRequest[])[];
  /** Virtqueues; 1 if left out. */
  readonly queues?: number;
  /**
   * Queue threads to try; 0, 1 and 2 if left out. Of a model that is served on the caller's event loop alone, an instance of a
   * DeviceModel: [0]; that others make no difference is a case then.
   */
  readonly threads?: readonly number[];
  /** Whether it uses requests in order, if that is negotiated (VIRTIO_F_IN_ORDER); false if left out. */
  readonly inOrder?: boolean;
  /** Gives back what `model` has made, after a case. */
  readonly released?: (model: Model | URL) => void | Promise<void>;
}

/**
 * Defines the tests of what every device model has to keep to: over split and packed rings, and in order if it does that, on
 * each number of queue threads, on the in-process bus. The name is that of the model, for the names of the tests.
 */
export function modelContract(name: string, options: ModelContractOptions): void {
  const { test, threads = [0, 1, 2], inOrder = false } = options;
  const define = (cases: Record<string, Case>, variant: Variant) => {
    const stage = new Stage(options, variant);
    const last = Object.keys(cases).at(-1);
    for (const [what, act] of Object.entries(cases))
      test(`${name}, ${describe(variant)}: ${what}`, () => stage.play(act, what === last));
  };
  const rings = [
    { packed: false, inOrder: false },
    { packed: true, inOrder: false },
    ...(inOrder ? [{ packed: true, inOrder: true }] : []),
  ];
  for (const ring of rings) for (const count of threads) define(CASES, { ...ring, threads: count });
  if (!inOrder) define(OUT_OF_ORDER_CASES, { packed: true, inOrder: true, threads: 0 });
  for (const count of [1, 2].filter((count) => !threads.includes(count)))
    define(EVENT_LOOP_CASES, { packed: true, inOrder: false, threads: count });
}

/** The scene that the cases of one variant are played on: threads take longer to start than a case to play. */
class Stage {
  readonly #options: ModelContractOptions;
  readonly #variant: Variant;
  #scene: ContractScene | undefined;

  constructor(options: ModelContractOptions, variant: Variant) {
    this.#options = options;
    this.#variant = variant;
  }

  /** What a case has left behind after a failure is no ground for another one; the last one takes the scene down. */
  async play(act: Case, last: boolean): Promise<void> {
    this.#scene ??= await ContractScene.open(this.#options, this.#variant);
    const scene = this.#scene;
    let over = true;
    try {
      await scene.play(act);
      over = last;
    } finally {
      if (over) {
        this.#scene = undefined;
        await scene.close();
      }
    }
  }
}

function describe({ packed, inOrder, threads }: Variant): string {
  const ring = packed ? 'packed' : 'split';
  return `${ring}${inOrder ? ' in order' : ''}, ${threads} threads`;
}
