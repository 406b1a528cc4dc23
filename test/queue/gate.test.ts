import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VQ_BLOCK_SIZE } from '../../assembly/layout.js';
import { Gate } from '../../host/queue/gate.js';

/** Index of a word behind the block, for the tests' own use. */
const COUNTER = VQ_BLOCK_SIZE / 4;

function gate(): { gate: Gate; i32: Int32Array } {
  const i32 = new Int32Array(new SharedArrayBuffer(VQ_BLOCK_SIZE + 64));
  const made = new Gate(i32, 0);
  made.close();
  return { gate: made, i32 };
}

test('a fresh gate is closed, and open after one resume', () => {
  const { gate: g } = gate();
  assert.ok(g.closed);
  assert.not(g.enter());
  assert.ok(g.resume());
  assert.not(g.closed);
  assert.ok(g.enter());
  assert.not(g.enter(), 'one thread at a time');
  g.leave();
  assert.ok(g.enter());
});

test('pauses nest: the last resume opens', () => {
  const { gate: g } = gate();
  g.resume();
  assert.ok(g.pause(5000));
  assert.ok(g.pause(5000));
  assert.not(g.resume());
  assert.not(g.enter());
  assert.ok(g.resume());
  assert.ok(g.enter());
});

test('a pause gives up on a thread that does not leave, and the gate can be forced', () => {
  const { gate: g } = gate();
  g.resume();
  assert.ok(g.enter());
  assert.not(g.pause(20));
  assert.not(g.enter());
  g.force();
  assert.ok(g.pause(20));
  // The thread, should it come back after all, does not open what is closed.
  g.leave();
  assert.not(g.enter());
});

test('while it is paused nobody is inside, and no pause is missed by a busy thread', async () => {
  const { gate: g, i32 } = gate();
  const worker = new Worker(
    `
      const { workerData } = require('node:worker_threads');
      import('${new URL('../../host/queue/gate.js', import.meta.url)}').then(({ Gate }) => {
        const { i32, counter } = workerData;
        const gate = new Gate(i32, 0);
        while (Atomics.load(i32, counter + 1) === 0) {
          if (!gate.enter()) continue;
          for (let step = 0; step < 50; step++) i32[counter] += 1;
          gate.leave();
        }
      });
    `,
    { eval: true, workerData: { i32, counter: COUNTER } },
  );
  const ended = once(worker, 'exit');
  g.resume();
  // Not to test a worker that has not even begun.
  const deadline = performance.now() + 10_000;
  while (Atomics.load(i32, COUNTER) === 0 && performance.now() < deadline)
    await new Promise((resolve) => setTimeout(resolve, 1));
  let last = 0;
  for (let round = 0; round < 2000; round++) {
    assert.ok(g.pause(5000));
    const seen = i32[COUNTER]!;
    for (let look = 0; look < 20; look++) assert.is(Atomics.load(i32, COUNTER), seen);
    assert.is(seen % 50, 0, 'a burst is whole');
    assert.ok(seen >= last);
    last = seen;
    g.resume();
  }
  Atomics.store(i32, COUNTER + 1, 1);
  await ended;
  assert.ok(last > 0);
});

test.run();
