/** A thread whose device writes to a page, and at once to the next, and again when the second one has been seen. */
import { workerData } from 'node:worker_threads';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { instantiateEngine } from '../../host/aperture/engine.js';
import type { Memory } from '../../host/aperture/web-assembly.js';

/** What the thread is started with; `vq`, `request` and `source` are linear addresses. */
export interface DirtyWriterData {
  memory: Memory;
  vq: number;
  /** Of the two pages. */
  request: number;
  /** The byte that it writes. */
  source: number;
  /** How often. */
  writes: number;
  /** Indices of words: how often it has written, and how often that was seen. */
  written: number;
  seen: number;
}

/** Looks before the thread sleeps: on a busy machine the other one may not be running. */
const LOOKS = 2000;

const { memory, vq, request, source, writes, written, seen } = workerData as DirtyWriterData;
const engine = instantiateEngine(memory);
const words = new Int32Array(memory.buffer);

for (let count = 1; count <= writes; count++) {
  // Whoever fetches the first mark does so just when the second one is set.
  engine.requestWrite(vq, request, 0, source, 1);
  engine.requestWrite(vq, request, PAGE_SIZE, source, 1);
  Atomics.store(words, written, count);
  for (let looks = 0; looks < LOOKS && Atomics.load(words, seen) !== count; looks++);
  Atomics.wait(words, seen, count - 1);
}
