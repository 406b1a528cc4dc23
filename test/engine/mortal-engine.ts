import { instantiateSync } from '@assemblyscript/loader';
import { buildAssembly } from '../../bench/build-assembly.js';
import type { Engine } from '../../host/aperture/engine.js';
import type { Memory, Module } from '../../host/aperture/web-assembly.js';

/** What an engine dies of. */
export class Death extends Error {}

/** The engine as it is released, with every store announced to the host before it is made. */
export function buildMortalEngine(): Promise<Module> {
  return buildAssembly('assembly/index.ts', { options: ['--runPasses', 'instrument-memory'] });
}

/** How many stores to shared memory an engine has before it; may be set again. */
export interface Life {
  stores: number;
}

/**
 * An instance that dies when it is about to store to memory for which `isShared` holds, and its `life` has no store left: what
 * it has in any other memory is lost with it.
 */
export function mortalEngine(
  module: Module,
  memory: Memory,
  life: Life,
  isShared: (linear: number) => boolean,
): Engine {
  const value = (_id: number, stored: unknown) => stored;
  const imports = new Proxy(
    { memory },
    {
      get: (target, name) => {
        if (name === 'memory') return target.memory;
        if (name === 'load_ptr') return (_id: number, _bytes: number, _offset: number, at: number) => at;
        if (name !== 'store_ptr') return value;
        return (_id: number, _bytes: number, offset: number, at: number) => {
          if (isShared((at + offset) >>> 0) && life.stores-- === 0) throw new Death();
          return at;
        };
      },
    },
  );
  return instantiateSync(module, { env: imports as never }).instance.exports as unknown as Engine;
}

/** An instance that calls `between` before each of its loads and stores, and once more when a value is loaded or is about to be stored. */
export function interruptedEngine(module: Module, memory: Memory, between: () => void): Engine {
  const interrupt = (name: string | symbol) => {
    const result = String(name).endsWith('_ptr') ? 3 : 1;
    return (...announced: unknown[]) => {
      between();
      return announced[result];
    };
  };
  const env = new Proxy({ memory }, { get: (_, name) => (name === 'memory' ? memory : interrupt(name)) });
  return instantiateSync(module, { env: env as never }).instance.exports as unknown as Engine;
}
