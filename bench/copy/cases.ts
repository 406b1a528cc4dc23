import { readFileSync } from 'node:fs';
import { instantiateSync } from '@assemblyscript/loader';
import { Memory, Module } from '../../host/aperture/web-assembly.js';
import { assemblyFile, loadReference } from '../build.js';
import type { Case } from '../case.js';
import { compare } from '../compare.js';

const SIZES = [64, 128, 256, 512, 1024, 1500, 4096, 16384, 65536];
const QUICK_SIZES = [64, 4096, 65536];
/** Pages of 64 KiB. */
const MEMORY_PAGES = 64;
/** Linear addresses; not a multiple of 4 KiB apart, or loads would wait for stores that only look like theirs. */
const FROM = 0x10_0000;
const TO = 0x20_0000 + 0x240;
/** Bytes that a slice moves, and the fewest and most copies of it. */
const SLICE_BYTES = 2 ** 22;
const SLICE_COPIES = { least: 50, most: 20_000 };

/** What bench/assembly/copy.ts exports. */
interface CopyLoop {
  copyLoop(to: number, from: number, bytes: number, times: number): void;
}

function copyCase(bytes: number): Case {
  const name = `copy: ${bytes} B`;
  return {
    name,
    quick: QUICK_SIZES.includes(bytes),
    async run(effort) {
      const memory = new Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES, shared: true });
      const module = new Module(readFileSync(assemblyFile('copy')));
      const imports = { env: { memory } };
      const engine = instantiateSync(module as never, imports as never).instance
        .exports as unknown as CopyLoop;
      const reference = loadReference();
      const view = new Uint8Array(memory.buffer);
      view.fill(1, FROM, FROM + bytes);
      const times = Math.min(Math.max(SLICE_BYTES / bytes, SLICE_COPIES.least), SLICE_COPIES.most);
      const timed = (loop: () => void) => {
        const start = performance.now();
        loop();
        return ((performance.now() - start) * 1e6) / times;
      };
      const comparison = { work: name, engine: 'engine.wasm', rival: 'memcpy', unit: 'ns' };
      return [
        await compare(
          comparison,
          effort,
          () => timed(() => engine.copyLoop(TO, FROM, bytes, times)),
          () => timed(() => reference.copyLoop(view, TO, FROM, bytes, times)),
        ),
      ];
    },
  };
}

/** Copies between two places of the aperture that are in the cache, in a loop inside each language. */
export const copyCases: Case[] = SIZES.map(copyCase);
