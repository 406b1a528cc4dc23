import { instantiateSync } from '@assemblyscript/loader';
import { buildAssembly } from '../../bench/build-assembly.js';
import { type Engine, instantiateEngine } from '../../host/aperture/engine.js';
import type { Memory, Module } from '../../host/aperture/web-assembly.js';
import { PRIVATE_END, Ring } from '../engine/fixture.js';
import { countConditions } from './count-conditions.js';

/** Which ways a campaign has gone through the engine: each condition has two. */
export interface Coverage {
  /** The function that each condition is in. */
  readonly conditions: readonly string[];
  /** Ways that were taken, ascending: 2 · condition where it did not hold, + 1 where it did. */
  readonly taken: readonly number[];
}

/** Ways that were not taken: function, condition, whether it would have held. */
export function missed({ conditions, taken }: Coverage): string[] {
  const known = new Set(taken);
  return conditions.flatMap((name, i) =>
    [2 * i, 2 * i + 1].filter((way) => !known.has(way)).map((way) => `${name} ${i} ${way % 2 === 1}`),
  );
}

/** What several campaigns have taken together. */
export function union(coverages: readonly Coverage[]): Coverage {
  const taken = new Set(coverages.flatMap((coverage) => coverage.taken));
  return { conditions: coverages[0]!.conditions, taken: [...taken].sort((a, b) => a - b) };
}

/** The engine with a counter a way, in the last page of a ring's private memory. */
export class CountedEngine {
  readonly #conditions: readonly string[];
  readonly #memories: Memory[] = [];

  /** Builds it, and has every Ring that is made from now on run it. */
  static async build(): Promise<CountedEngine> {
    let conditions: readonly string[] = [];
    const module = await buildAssembly('assembly/index.ts', {
      options: ['--debug'],
      pass: (binary) => {
        const counted = countConditions(binary, PRIVATE_END);
        conditions = counted.conditions;
        return counted.binary;
      },
    });
    return new CountedEngine(module, conditions);
  }

  private constructor(module: Module, conditions: readonly string[]) {
    this.#conditions = conditions;
    Ring.instantiate = (memory) => {
      this.#memories.push(memory);
      return instantiateSync(module, { env: { memory: memory as never } }).instance
        .exports as unknown as Engine;
    };
  }

  /** What was taken so far, on all rings. */
  coverage(): Coverage {
    const ways = 2 * this.#conditions.length;
    const counters = this.#memories.map(({ buffer }) => new Uint8Array(buffer, PRIVATE_END, ways));
    const taken = Array.from({ length: ways }, (_, way) => way).filter((way) =>
      counters.some((counter) => counter[way] !== 0),
    );
    return { conditions: this.#conditions, taken };
  }

  close(): void {
    Ring.instantiate = instantiateEngine;
  }
}
