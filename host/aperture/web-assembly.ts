/**
 * The part of the WebAssembly API in use, typed: neither @types/node nor TypeScript's own libraries short of the DOM
 * declare it, and a global declaration of ours would collide with either in an embedder's program.
 */

/** A shared WebAssembly.Memory. */
export interface Memory {
  readonly buffer: SharedArrayBuffer;
}

/** A compiled module. Can be posted to workers. */
export interface Module {
  readonly [Symbol.toStringTag]: 'WebAssembly.Module';
}

interface Api {
  Memory: new (descriptor: { initial: number; maximum: number; shared: boolean }) => Memory;
  Module: {
    new (bytes: Uint8Array): Module;
    exports(module: Module): { name: string; kind: string }[];
    imports(module: Module): { module: string; name: string; kind: string }[];
    customSections(module: Module, name: string): ArrayBuffer[];
  };
  RuntimeError: new (message?: string) => Error;
  validate(bytes: Uint8Array): boolean;
}

/** Empty where Node.js runs without WebAssembly (--jitless): importing this package works, using it does not. */
const api = (globalThis as unknown as { WebAssembly?: Api }).WebAssembly ?? ({} as Api);

export const { Memory, Module, RuntimeError, validate } = api;
