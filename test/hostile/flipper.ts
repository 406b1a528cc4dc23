import { Worker } from 'node:worker_threads';
import type { Ring } from '../engine/fixture.js';

/** Looks at memory that changes; and how many looks at most until both of its states were seen. */
const LOOKS = 20_000;
const MOST_LOOKS = 2_000_000;

/** The other thread: flips one field of memory between two values until it is told to end. */
const FLIPPER = `
const { workerData: { buffer, at, bytes, values, end } } = require('node:worker_threads');
const [one, other] = values;
const data = new DataView(buffer);
const stop = new Int32Array(buffer, end, 1);
const put = (value) => {
  if (bytes === 8) data.setBigUint64(at, value, true);
  else if (bytes === 4) data.setUint32(at, value, true);
  else data.setUint16(at, value, true);
};
while (Atomics.load(stop, 0) === 0) { put(one); put(other); }
`;

/** A field of memory, and the two values that it changes between. */
export interface Field {
  /** Linear address. */
  readonly at: number;
  readonly bytes: 2 | 4 | 8;
  readonly values: readonly [number, number] | readonly [bigint, bigint];
}

/**
 * Looks again and again while another thread flips a field: each time `look` must have seen the one value or the other, which
 * it says by true and false, and throws where it was a mixture. Throws, too, where it has not seen both.
 */
export async function whileFlipped(ring: Ring, field: Field, look: () => boolean): Promise<void> {
  const end = ring.allocate(4);
  const worker = new Worker(FLIPPER, {
    eval: true,
    workerData: { buffer: ring.memory.buffer, ...field, end },
  });
  let seen = 0;
  let other = 0;
  try {
    for (let looks = 0; looks < LOOKS || (looks < MOST_LOOKS && !(seen && other)); looks++) {
      if (look()) seen++;
      else other++;
      // The other thread may be slow to begin.
      if (looks % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    if (!seen || !other) throw new Error(`${seen} of the one, ${other} of the other: nothing has changed`);
  } finally {
    Atomics.store(new Int32Array(ring.memory.buffer, end, 1), 0, 1);
    await worker.terminate();
  }
}
