import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VQ_BLOCK_SIZE } from '../../assembly/layout.js';
import { Aperture } from '../../host/aperture/aperture.js';
import { Gate } from '../../host/queue/gate.js';

function gate(): { gate: Gate; aperture: Aperture; vq: number } {
  const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
  const vq = aperture.allocate(VQ_BLOCK_SIZE);
  const made = new Gate(aperture, vq);
  made.close();
  return { gate: made, aperture, vq };
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
  const { gate: g, aperture, vq } = gate();
  const { i32 } = aperture;
  // What a burst changes, and the word that ends the thread.
  const counter = aperture.allocate(8) / 4;
  const worker = new Worker(
    `
      const { workerData } = require('node:worker_threads');
      const modules = ['${new URL('../../host/queue/gate.js', import.meta.url)}', '${new URL('../../host/aperture/aperture.js', import.meta.url)}'];
      Promise.all(modules.map((url) => import(url))).then(([{ Gate }, { Aperture }]) => {
        const { handle, vq, counter } = workerData;
        const aperture = Aperture.adopt(handle);
        const { i32 } = aperture;
        const gate = new Gate(aperture, vq);
        while (Atomics.load(i32, counter + 1) === 0) {
          if (!gate.enter()) continue;
          for (let step = 0; step < 5000; step++) i32[counter] += 1;
          gate.leave();
        }
      });
    `,
    { eval: true, workerData: { handle: aperture.share(4096), vq, counter } },
  );
  const ended = once(worker, 'exit');
  try {
    g.resume();
    // Not to test a worker that has not even begun.
    const deadline = performance.now() + 10_000;
    while (Atomics.load(i32, counter) === 0 && performance.now() < deadline)
      await new Promise((resolve) => setTimeout(resolve, 1));
    let last = 0;
    for (let round = 0; round < 2000; round++) {
      assert.ok(g.pause(5000));
      const seen = i32[counter]!;
      for (let look = 0; look < 20; look++) assert.is(Atomics.load(i32, counter), seen);
      assert.is(seen % 5000, 0, 'a burst is whole');
      assert.ok(seen >= last);
      last = seen;
      g.resume();
    }
    assert.ok(last > 0);
  } finally {
    Atomics.store(i32, counter + 1, 1);
    await ended;
  }
});

test.run();
