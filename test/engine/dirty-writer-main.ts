/** A thread whose device writes to every other page of its driver's memory, once a lap. */
import { workerData } from 'node:worker_threads';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { instantiateEngine } from '../../host/aperture/engine.js';
import type { Memory } from '../../host/aperture/web-assembly.js';

/** What the thread is started with; `vq`, `request` and `source` are linear addresses. */
export interface DirtyWriterData {
  memory: Memory;
  vq: number;
  /** Of all of the pages. */
  request: number;
  /** The byte that it writes. */
  source: number;
  pages: number;
  /** Indices of words: the lap that is on, the one that the thread has begun, the one that it has ended. */
  lap: number;
  begun: number;
  ended: number;
}

const { memory, vq, request, source, pages, lap, begun, ended } = workerData as DirtyWriterData;
const engine = instantiateEngine(memory);
const words = new Int32Array(memory.buffer);

for (let last = 0; ; ) {
  Atomics.wait(words, lap, last);
  last = Atomics.load(words, lap);
  Atomics.store(words, begun, last);
  Atomics.notify(words, begun);
  for (let page = 0; page < pages; page += 2) engine.requestWrite(vq, request, page * PAGE_SIZE, source, 1);
  Atomics.store(words, ended, last);
  Atomics.notify(words, ended);
}
