/**
 * A thread that has a device write to its driver's memory as fast as it can, each time other bytes: reads of a disk in
 * memory, which take long, or a model's answers to a request that it holds, which are marked almost all of the time.
 */
import { workerData } from 'node:worker_threads';
import { PAGE_SIZE, SUBMISSION_BYTES, SUBMISSION_LINEAR, SUBMISSION_TYPE } from '../../assembly/layout.js';
import { VIRTIO_BLK_T_IN } from '../../assembly/virtio.js';
import { instantiateEngine } from '../../host/aperture/engine.js';
import type { Memory } from '../../host/aperture/web-assembly.js';
import { generator } from './random.js';

/** What the thread is started with; addresses are linear. */
export interface DirtyLoopData {
  memory: Memory;
  vq: number;
  /** Where it writes: pages. */
  buffers: number;
  pages: number;
  /** What it writes: a word of private memory, or the disk's first pages. */
  source: number;
  reads?: { dq: number; disk: number; submissions: number; completions: number };
  /** Of a request without a queue's other side, all of whose bytes are at `buffers`. */
  request?: number;
  /** Index of the word that is 1 while the thread is to run, and of one that is 1 while it does. Ended by its parent. */
  run: number;
  runs: number;
}

const { memory, vq, buffers, pages, source, reads, request, run, runs } = workerData as DirtyLoopData;
const engine = instantiateEngine(memory);
const words = new Int32Array(memory.buffer);
const data = new DataView(memory.buffer);
const random = generator(buffers);

function read(first: number, count: number): void {
  const { dq, disk, submissions, completions } = reads!;
  data.setUint32(submissions + SUBMISSION_TYPE, VIRTIO_BLK_T_IN, true);
  data.setUint32(submissions + SUBMISSION_LINEAR, buffers + first * PAGE_SIZE, true);
  data.setUint32(submissions + SUBMISSION_BYTES, count * PAGE_SIZE, true);
  engine.blkSubmit(dq, submissions, 1);
  engine.blkServe(vq, disk);
  if (engine.blkReap(dq, completions, 1, 0, 0) !== 1) throw new Error('a request was not answered');
}

Atomics.store(words, runs, 1);
Atomics.notify(words, runs);
for (let turn = 1; ; turn++) {
  if (Atomics.load(words, run) === 0) {
    Atomics.store(words, runs, 0);
    Atomics.notify(words, runs);
    Atomics.wait(words, run, 0);
    Atomics.store(words, runs, 1);
    Atomics.notify(words, runs);
  }
  if (request !== undefined) {
    words[source / 4] = turn;
    engine.requestWrite(vq, request, (turn % pages) * PAGE_SIZE, source, 4);
    continue;
  }
  const first = random(pages);
  const count = 1 + random(pages - first);
  words.fill(turn, source / 4, (source + count * PAGE_SIZE) / 4);
  read(first, count);
}
