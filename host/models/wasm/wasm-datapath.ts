import { instantiateSync } from '@assemblyscript/loader';
import { COUNT_MASK, NOTIFY_DUE, VQ_CROSSINGS, VQ_IO_ERRORS } from '../../../assembly/layout.js';
import type { Aperture } from '../../aperture/aperture.js';
import type { Module } from '../../aperture/web-assembly.js';
import { RingbellError } from '../../errors.js';
import type { Datapath, DatapathOptions } from '../../queue/datapath.js';
import type { QueueBlock } from '../../queue/queue-block.js';
import { count } from '../../queue/queue-stats.js';
import { SpinBudget } from '../../queue/spin-budget.js';
import { ENGINE_FUNCTIONS } from './model-module.js';

/** What the data path of a queue is made from, in whichever thread runs it. */
export interface WasmDatapathData {
  module: Module;
  /** Linear address of the queue's MODEL block. */
  model: number;
}

/** What a model's module exports, as far as it is called. `queue` is the linear address of a MODEL block. */
interface ModelExports {
  /** Serves bursts as blkPoll does: chains served, with NOTIFY_DUE. */
  serve(queue: number, spins: number, bursts: number): number;
}

/**
 * An instance of a model's module on the memory of one aperture. Its imports are exports of the engine's instance, so that
 * a call is one from WebAssembly to WebAssembly. Throws ERR_MODULE_IMPORT if it takes them for something else.
 */
export function instantiateModel(aperture: Aperture, module: Module): ModelExports {
  const engine = Object.fromEntries(
    ENGINE_FUNCTIONS.map((name) => [name, aperture.engine[name as keyof typeof aperture.engine]]),
  );
  try {
    const imports = { env: { memory: aperture.memory }, engine };
    return instantiateSync(module as never, imports as never).instance.exports as unknown as ModelExports;
  } catch (cause) {
    const why = (cause as Error).message;
    throw new RingbellError('ERR_MODULE_IMPORT', `the module does not fit the engine: ${why}`, { cause });
  }
}

/** The data path of a queue whose model is WebAssembly: one call into it serves burst after burst. */
class WasmDatapath implements Datapath {
  readonly #block: QueueBlock;
  readonly #serve: ModelExports['serve'];
  readonly #model: number;
  readonly #bursts: number;
  readonly #budget: SpinBudget;
  readonly #attention: () => void;
  #drained = false;

  constructor(block: QueueBlock, { module, model }: WasmDatapathData, options: DatapathOptions) {
    this.#block = block;
    this.#serve = instantiateModel(block.aperture, module).serve;
    this.#model = model;
    this.#bursts = options.bursts;
    this.#budget = new SpinBudget(options.pollers);
    this.#attention = options.attention;
  }

  burst(): number {
    const result = this.#call(this.#budget.spins, this.#bursts);
    const chains = result & COUNT_MASK;
    // As of a disk in memory: a call that polls comes back without an interrupt to send when looking has found nothing.
    this.#drained = this.#budget.spins > 0 && chains > 0 && !(result & NOTIFY_DUE);
    this.#budget.adapt(chains > this.#block.burst);
    return result;
  }

  burstOnce(): number {
    this.#drained = false;
    return this.#call(0, 1);
  }

  get drained(): boolean {
    return this.#drained;
  }

  #call(spins: number, bursts: number): number {
    const { aperture, vq } = this.#block;
    const errors = (vq + VQ_IO_ERRORS) / 4;
    const before = aperture.u32[errors];
    count(aperture, vq, VQ_CROSSINGS, 1n);
    const result = this.#serve(this.#model, spins, bursts);
    if (aperture.u32[errors] !== before) this.#attention();
    return result;
  }
}

/** Makes the data path of a queue, for DatapathModule. */
export function createDatapath(block: QueueBlock, data: unknown, options: DatapathOptions): Datapath {
  return new WasmDatapath(block, data as WasmDatapathData, options);
}
