import { BlockDevice, openBlock, serve } from 'ringbell';
import { createModel } from './model.js';

/** Requests in flight, bytes of each, rounds, and milliseconds of measuring in each. */
const DEPTH = 32;
const BYTES = 512;
const ROUNDS = 5;
const ROUND_MS = 400;

/** Reads of a disk, as fast as it goes, for a while: requests per second. */
async function measure(disk, buffers) {
  const batch = disk.batch();
  const idle = [...buffers.keys()];
  const start = performance.now();
  let done = 0;
  let at = 0;
  for (let ended = false; !ended || batch.inFlight > 0; ended ||= performance.now() - start > ROUND_MS) {
    while (!ended && idle.length > 0) {
      const tag = idle.pop();
      batch.read(at, buffers[tag], tag);
      at = (at + BYTES) % disk.capacity;
    }
    batch.submit();
    const count = batch.reap(1);
    if (count === 0) await batch.wait();
    for (let index = 0; index < count; index++) {
      if (batch.status(index) !== 0) throw new Error(`a read failed with status ${batch.status(index)}`);
      idle.push(batch.tag(index));
    }
    done += count;
  }
  return (done / (performance.now() - start)) * 1000;
}

async function open(model, name) {
  const device = await serve(model, { name, mode: 'poll' });
  const disk = await openBlock(name, { mode: 'poll' });
  const buffers = Array.from({ length: DEPTH }, () => disk.alloc(BYTES));
  return { device, disk, run: () => measure(disk, buffers) };
}

const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];

// In turn, so that what else the machine does hits both.
const ours = await open(createModel(), 'model0');
const theirs = await open(new BlockDevice({ memory: ours.disk.capacity }), 'memory0');
const rounds = [];
for (let round = 0; round <= ROUNDS; round++) {
  const pair = { ours: await ours.run(), theirs: await theirs.run() };
  // The first one runs in.
  if (round > 0) rounds.push(pair);
}
const rate = (side) => Math.round(median(rounds.map((pair) => pair[side]))).toLocaleString('en');
console.log(`reads of ${BYTES} bytes, ${DEPTH} in flight, medians of ${ROUNDS} rounds`);
console.log(`{{name}}: ${rate('ours')} requests/s`);
console.log(`BlockDevice in memory: ${rate('theirs')} requests/s`);
console.log(`ratio: ${median(rounds.map((pair) => pair.ours / pair.theirs)).toFixed(2)}`);
for (const { device, disk } of [ours, theirs]) {
  await disk.close();
  await device.close();
}
