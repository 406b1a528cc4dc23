import { instantiateSync } from '@assemblyscript/loader';
import { buildAssembly, type Edit } from '../../bench/build-assembly.js';
import type { Engine } from '../../host/aperture/engine.js';
import type { Module } from '../../host/aperture/web-assembly.js';
import type { Ring } from '../engine/fixture.js';

/** Private memory that nothing else uses: where accesses go that have been made already. */
const SCRATCH = 0xf0000;
/** Bytes; the longest access. */
const VECTOR = 16;

/** An access to memory that both sides look at while they run: the next step of a side. */
export type Access =
  | { readonly kind: 'load'; readonly at: number; readonly bytes: number }
  | { readonly kind: 'store'; readonly at: number; readonly value: Uint8Array; readonly atomic: boolean };

/** One access of a call that is over: what was loaded, or nothing for a store. */
export type Done = Uint8Array | undefined;

/** What a call has come to: its next access to a shared word, or its result. */
export type Progress = { readonly access: Access } | { readonly result: number };

/** The engine, instrumented: every load and store is announced to the host, with a number. */
export interface Instrumented {
  readonly module: Module;
  /** By the number of an access: whether it is atomic. */
  readonly atomic: readonly boolean[];
}

/** Compiles the engine with every access announced; `edit` changes its sources. */
export async function instrument(edit?: Edit): Promise<Instrumented> {
  const options = ['--runPasses', 'instrument-memory'];
  let text = '';
  const module = await buildAssembly('assembly/index.ts', {
    options,
    ...(edit ? { edit } : {}),
    onText: (wat) => {
      text = wat;
    },
  });
  // Accesses are numbered from 1 in the order in which they stand in the text. Loads into every lane are not announced: the
  // engine makes them of its queues' own blocks alone.
  const accesses =
    text.match(/^ +(?:i32|i64|f32|f64|v128)\.(?:atomic\.)?(?:load(?!64_splat)|store)\S*/gm) ?? [];
  const announced = text.match(/call \$(?:load|store)_ptr$/gm) ?? [];
  if (accesses.length !== announced.length)
    throw new Error(`${accesses.length} accesses, ${announced.length} announced`);
  return { module, atomic: [false, ...accesses.map((access) => access.includes('.atomic.'))] };
}

/** Thrown out of a call where it would touch a shared word. */
class Stop extends Error {}

/**
 * Runs calls of the real engine one access to shared words at a time. WebAssembly cannot be suspended; so a call that is
 * to go on is made again from its start, with what it has loaded before, and its stores of before led aside.
 */
export class SteppedEngine {
  readonly engine: Engine;
  readonly #ring: Ring;
  readonly #isShared: (at: number) => boolean;
  readonly #isWord: (at: number) => boolean;
  readonly #stop = new Stop();
  #done: Done[] = [];
  #next = 0;
  #access: Access | undefined;
  /** A store to a shared word whose value is about to be known. */
  #storing: { at: number; bytes: number; atomic: boolean } | undefined;

  /**
   * `isShared` holds for memory that both sides access, `isWord` for the part of it whose accesses are steps: the rest
   * belongs to one side at a time, which the words say, and its accesses are made as they come.
   */
  constructor(
    ring: Ring,
    { module, atomic }: Instrumented,
    isShared: (at: number) => boolean,
    isWord: (at: number) => boolean,
  ) {
    this.#ring = ring;
    this.#isShared = isShared;
    this.#isWord = isWord;
    const imports: Record<string, unknown> = {
      memory: ring.memory,
      load_ptr: (_id: number, bytes: number, offset: number, at: number) => this.#load(bytes, offset, at),
      store_ptr: (id: number, bytes: number, offset: number, at: number) =>
        this.#store(bytes, offset, at, atomic[id]!),
      store_val_i32: (_id: number, value: number) => this.#value(value, BigInt(value >>> 0)),
      store_val_i64: (_id: number, value: bigint) => this.#value(value, BigInt.asUintN(64, value)),
    };
    for (const type of ['i32', 'i64', 'f32', 'f64'])
      imports[`load_val_${type}`] = (_: number, value: unknown) => value;
    for (const type of ['f32', 'f64']) imports[`store_val_${type}`] = (_: number, value: unknown) => value;
    for (const name of ['memory_grow_pre', 'memory_grow_post'])
      imports[name] = (_: number, value: number) => value;
    this.engine = instantiateSync(module, { env: imports as never }).instance.exports as unknown as Engine;
  }

  /** Makes `call` up to the access behind those of `done`, to which the accesses on the way are added. */
  advance(call: (engine: Engine) => number | undefined, done: Done[]): Progress {
    this.#done = done;
    this.#next = 0;
    this.#access = undefined;
    this.#storing = undefined;
    try {
      return { result: call(this.engine) ?? 0 };
    } catch (error) {
      if (error !== this.#stop) throw error;
      return { access: this.#access! };
    }
  }

  #load(bytes: number, offset: number, base: number): number {
    const at = (base + offset) >>> 0;
    if (!this.#isShared(at)) return base;
    const { u8 } = this.#ring;
    if (this.#next < this.#done.length) {
      u8.set(this.#done[this.#next++]!, SCRATCH);
      return SCRATCH - offset;
    }
    if (this.#isWord(at)) {
      this.#access = { kind: 'load', at, bytes };
      throw this.#stop;
    }
    this.#done.push(u8.slice(at, at + bytes));
    this.#next++;
    return base;
  }

  #store(bytes: number, offset: number, base: number, atomic: boolean): number {
    const at = (base + offset) >>> 0;
    if (!this.#isShared(at)) return base;
    if (this.#next < this.#done.length) {
      this.#next++;
      return SCRATCH - offset;
    }
    if (this.#isWord(at)) {
      if (bytes === VECTOR) throw new Error('the value of a vector store is not announced');
      this.#storing = { at, bytes, atomic };
      return base;
    }
    this.#done.push(undefined);
    this.#next++;
    return base;
  }

  #value<T>(value: T, unsigned: bigint): T {
    const storing = this.#storing;
    if (!storing) return value;
    const { at, bytes, atomic } = storing;
    const image = new Uint8Array(8);
    new DataView(image.buffer).setBigUint64(0, unsigned, true);
    this.#access = { kind: 'store', at, value: image.slice(0, bytes), atomic };
    throw this.#stop;
  }
}
