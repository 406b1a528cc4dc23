import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { DOORBELL_UNRUNG, IOTLB_ENTRIES } from '../../assembly/layout.js';
import { Aperture } from '../../host/aperture/aperture.js';
import { DoorbellWatch } from '../../host/queue/doorbell-watch.js';
import { QueueBlock } from '../../host/queue/queue-block.js';
import { readQueueStats } from '../../host/queue/queue-stats.js';

/** Queues, whose doorbells are words of private memory, and what watches them. */
function stage(queues: number): { aperture: Aperture; watch: DoorbellWatch; words: number[]; vqs: number[] } {
  const aperture = Aperture.create({ bytes: 2 ** 23, privateBytes: 2 ** 22 });
  const iotlb = aperture.allocate(IOTLB_ENTRIES);
  const words: number[] = [];
  const vqs = Array.from({ length: queues }, () => {
    const block = QueueBlock.allocate(aperture, 8, iotlb);
    const word = aperture.allocate(4);
    aperture.data.setUint16(word, DOORBELL_UNRUNG, true);
    words.push(word);
    block.watchDoorbell(word, block.vq);
    return block.vq;
  });
  return {
    aperture,
    watch: new DoorbellWatch(aperture, DoorbellWatch.allocate(aperture, vqs), vqs[0]!),
    words,
    vqs,
  };
}

test('sleeps grow from look to look, up to a bound, and begin anew with a ring', () => {
  const { aperture, watch, words } = stage(1);
  const ring = () => aperture.data.setUint16(words[0]!, 0, true);
  /** Milliseconds of the sleeps of one wait: `times` that end by themselves, then one during which the doorbell rings. */
  const sleeps = (times: number) => {
    const limits: number[] = [];
    const rung = watch.wait(1, (limitMs) => {
      limits.push(limitMs);
      if (limits.length > times) ring();
      return false;
    });
    assert.is(rung, 1);
    return limits;
  };
  const limits = sleeps(7);
  assert.ok(limits[0]! > 0);
  for (let index = 1; index < 5; index++) assert.is(limits[index], 2 * limits[index - 1]!);
  assert.equal(limits.slice(5), [1, 1, 1], 'a ring is seen after a millisecond at the latest');
  assert.equal(sleeps(1), limits.slice(0, 2));
  aperture.close();
});

test('a wait ends when something else is to be done, and the next goes on where it was', () => {
  const { aperture, watch } = stage(1);
  const limits: number[] = [];
  const enough = (limitMs: number) => limits.push(limitMs) === 3;
  assert.is(watch.wait(1, enough), 0);
  assert.is(
    watch.wait(1, (limitMs) => limitMs === limits[2]),
    0,
  );
  aperture.close();
});

test('a watch that knows of no traffic looks once, one that knows of dense traffic spins, more rarely if in vain', () => {
  const { aperture, watch, words, vqs } = stage(1);
  const ring = () => aperture.data.setUint16(words[0]!, 0, true);
  /** Whether a wait for nothing spins before the first sleep. */
  const spins = () => {
    const before = readQueueStats(aperture, vqs[0]!).crossings;
    assert.is(
      watch.wait(1, () => true),
      0,
    );
    return readQueueStats(aperture, vqs[0]!).crossings - before > 1;
  };
  assert.not(spins());
  // Rings as dense as can be, until they are believed in: which no busy machine can keep from happening for ever.
  for (let time = 0; !spins(); time++) {
    assert.ok(time < 100_000, 'it never spins');
    ring();
    assert.is(watch.look(1), 1);
  }
  for (const rest of [1, 2, 4, 8, 16, 32, 64, 64]) {
    for (let wait = 0; wait < rest; wait++) assert.not(spins());
    assert.ok(spins(), `after ${rest} waits`);
  }
  aperture.close();
});

test('no ring of another thread is lost, on any of several queues', async () => {
  const QUEUES = 3;
  const ROUNDS = 20_000;
  const { aperture, watch, words } = stage(QUEUES);
  const published = aperture.allocate(4 * QUEUES) / 4;
  const seen = aperture.allocate(4 * QUEUES) / 4;
  const worker = new Worker(
    `
      const { parentPort, workerData } = require('node:worker_threads');
      const { memory, words, published, seen, rounds } = workerData;
      const i32 = new Int32Array(memory.buffer);
      const u16 = new Uint16Array(memory.buffer);
      let stuck = 0;
      for (let round = 0; round < rounds && !stuck; round++) {
        const queue = round % words.length;
        // One, two or three requests, each with its ring, then wait for the device to have seen all of them.
        let last;
        for (let more = round % 7 % 3; more >= 0; more--) {
          last = Atomics.add(i32, published + queue, 1) + 1;
          u16[words[queue] / 2] = queue;
        }
        for (let now; (now = Atomics.load(i32, seen + queue)) !== last && !stuck; )
          if (Atomics.wait(i32, seen + queue, now, 10_000) === 'timed-out') stuck = round + 1;
      }
      parentPort.postMessage(stuck);
    `,
    {
      eval: true,
      workerData: { memory: aperture.memory, words, published, seen, rounds: ROUNDS },
    },
  );
  let answer: number | undefined;
  worker.once('message', (stuck: number) => {
    answer = stuck;
  });
  const exited = once(worker, 'exit');
  const everything = 2 ** QUEUES - 1;
  while (answer === undefined) {
    for (let looks = 0; looks < 1000; looks++) {
      const rung = looks % 2 ? watch.look(everything) : watch.wait(everything, () => true);
      for (let queue = 0; queue < QUEUES; queue++) {
        if (!((rung >>> queue) & 1)) continue;
        // Only after a ring, as a device that sleeps otherwise.
        Atomics.store(aperture.i32, seen + queue, Atomics.load(aperture.i32, published + queue));
        Atomics.notify(aperture.i32, seen + queue);
      }
    }
    await new Promise(setImmediate);
  }
  await exited;
  assert.is(answer, 0, 'a ring was lost in this round');
  aperture.close();
});

test.run();
