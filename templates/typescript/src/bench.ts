import { BlockDevice, type BlockDisk, type Model, openBlock, serve } from 'ringbell';
import { Disk } from './model.js';

/** Requests in flight, bytes of each, rounds, and milliseconds of measuring in each. */
const DEPTH = 32;
const BYTES = 512;
const ROUNDS = 5;
const ROUND_MS = 400;

/** Reads of a disk, as fast as it goes, for a while: requests per second. */
async function measure(disk: BlockDisk, buffers: readonly Uint8Array[]): Promise<number> {
  const start = performance.now();
  let done = 0;
  const worker = async (buffer: Uint8Array, first: number): Promise<void> => {
    for (let at = first; performance.now() - start < ROUND_MS; at = (at + DEPTH * BYTES) % disk.capacity) {
      await disk.read(at, buffer);
      done++;
    }
  };
  await Promise.all(buffers.map((buffer, n) => worker(buffer, n * BYTES)));
  return (done / (performance.now() - start)) * 1000;
}

async function open(model: Model, name: string) {
  const device = await serve(model, { name });
  const disk = await openBlock(name);
  const buffers = Array.from({ length: DEPTH }, () => disk.alloc(BYTES));
  return { device, disk, run: () => measure(disk, buffers) };
}

const median = (values: number[]): number => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

// In turn, so that what else the machine does hits both.
const ours = await open(new Disk(), 'model0');
const theirs = await open(new BlockDevice({ memory: ours.disk.capacity }), 'memory0');
const rounds: { ours: number; theirs: number }[] = [];
for (let round = 0; round <= ROUNDS; round++) {
  const pair = { ours: await ours.run(), theirs: await theirs.run() };
  // The first one runs in.
  if (round > 0) rounds.push(pair);
}
const rate = (side: 'ours' | 'theirs'): string =>
  Math.round(median(rounds.map((pair) => pair[side]))).toLocaleString('en');
console.log(`reads of ${BYTES} bytes, ${DEPTH} in flight, medians of ${ROUNDS} rounds`);
console.log(`{{name}}: ${rate('ours')} requests/s`);
console.log(`BlockDevice in memory: ${rate('theirs')} requests/s`);
console.log(`ratio: ${median(rounds.map((pair) => pair.ours / pair.theirs)).toFixed(2)}`);
for (const { device, disk } of [ours, theirs]) {
  await disk.close();
  await device.close();
}
