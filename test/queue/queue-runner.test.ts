import { closeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  NOTIFY_DUE,
  VERDICT_HEAD,
  VERDICT_MEMORY_LOST,
  VERDICT_TRAP,
  VQ_CROSSINGS,
} from '../../assembly/layout.js';
import { Aperture } from '../../host/aperture/aperture.js';
import { loadAddon } from '../../host/native/addon.js';
import type { Datapath } from '../../host/queue/datapath.js';
import { Interrupter } from '../../host/queue/interrupter.js';
import { QueueBlock } from '../../host/queue/queue-block.js';
import { QueueRunner } from '../../host/queue/queue-runner.js';
import { count, readQueueStats, sumQueueStats } from '../../host/queue/queue-stats.js';

interface Stage {
  aperture: Aperture;
  block: QueueBlock;
  runner: QueueRunner;
  sigbusFlag: number;
  /** How often the control plane was told. */
  told: () => number;
  /** Signals on the call eventfd since the last look. */
  interrupts: () => number;
}

/** A queue over rings in private memory, open, with a data path of the test's. */
function stage(burst: (block: QueueBlock) => number, body: (stage: Stage) => void): void {
  const aperture = Aperture.create({ bytes: 2 ** 22, privateBytes: 2 ** 21 });
  const callFd = loadAddon().eventfd();
  const iotlb = aperture.allocate(4096);
  aperture.engine.iotlbInit(iotlb, 16);
  const block = QueueBlock.allocate(aperture, 16, iotlb);
  const area = () => aperture.allocate(4096);
  block.place({ size: 16, descriptorTable: area(), driverArea: area(), deviceArea: area() });
  block.start(0, 0n);
  block.callFd = callFd;
  block.gate.resume();
  const sigbusFlag = aperture.allocate(4);
  let told = 0;
  const datapath: Datapath = { burst: () => burst(block) };
  const runner = new QueueRunner(block, datapath, new Interrupter(block, 0, -1), sigbusFlag, () => told++);
  const interrupts = () => loadAddon().eventfdDrain(callFd);
  try {
    body({ aperture, block, runner, sigbusFlag, told: () => told, interrupts });
  } finally {
    closeSync(callFd);
    aperture.close();
  }
}

test('a burst that served something interrupts the driver if that is due', () => {
  let result = 0;
  stage(
    () => result,
    ({ aperture, block, runner, interrupts }) => {
      assert.is(runner.run(), 'idle');
      result = 3;
      assert.is(runner.run(), 'served');
      assert.is(interrupts(), 0);
      const { crossings } = readQueueStats(aperture, block.vq);
      result = 3 | NOTIFY_DUE;
      assert.is(runner.run(), 'served');
      assert.is(interrupts(), 1);
      assert.is(readQueueStats(aperture, block.vq).crossings, crossings + 1, 'the signal');
    },
  );
});

test('a closed gate keeps the data path out', () => {
  let bursts = 0;
  stage(
    () => ++bursts,
    ({ block, runner }) => {
      block.gate.pause(5000);
      assert.is(runner.run(), 'closed');
      assert.is(runner.arm(), 'closed');
      assert.is(bursts, 0);
      block.gate.resume();
      assert.is(runner.run(), 'served');
    },
  );
});

test('a trap breaks the queue, leaves the gate and tells the control plane once', () => {
  stage(
    // Address 0 is inaccessible: what a wild pointer of the engine would meet.
    (block) => block.aperture.engine.devicePop(0, 1),
    ({ aperture, block, runner, told }) => {
      assert.is(readQueueStats(aperture, block.vq).traps, 0);
      assert.is(runner.run(), 'stalled');
      assert.is(block.verdict, VERDICT_TRAP);
      assert.is(readQueueStats(aperture, block.vq).traps, 1);
      assert.is(told(), 1);
      assert.is(runner.run(), 'stalled');
      assert.is(told(), 1);
      assert.ok(block.gate.pause(20), 'the gate is free');
    },
  );
});

test('an error that is no trap is not swallowed, and leaves the gate too', () => {
  stage(
    () => {
      throw new TypeError('a bug');
    },
    ({ block, runner }) => {
      assert.throws(() => runner.run(), 'a bug');
      assert.ok(block.gate.pause(20));
    },
  );
});

test('a verdict of the engine stalls the queue until it is reset', () => {
  let bursts = 0;
  stage(
    (block) => {
      if (++bursts === 1) block.aperture.engine.deviceBreak(block.vq, VERDICT_HEAD);
      return 0;
    },
    ({ block, runner, told }) => {
      assert.is(runner.run(), 'stalled');
      assert.is(runner.run(), 'stalled');
      assert.equal([bursts, told()], [1, 1]);
      block.reset();
      assert.is(runner.run(), 'idle');
    },
  );
});

test('lost memory breaks the queue that met it, and every other before it meets more', () => {
  let bursts = 0;
  let lost = 0;
  stage(
    () => ++bursts,
    ({ aperture, block, runner, sigbusFlag, told }) => {
      Atomics.add(aperture.i32, sigbusFlag / 4, 1);
      assert.is(runner.run(), 'stalled');
      assert.is(block.verdict, VERDICT_MEMORY_LOST);
      assert.equal([bursts, told()], [0, 1]);
    },
  );
  stage(
    (block) => Atomics.add(block.aperture.i32, lost / 4, 1),
    ({ block, runner, sigbusFlag, told }) => {
      lost = sigbusFlag;
      assert.is(runner.run(), 'stalled');
      assert.is(block.verdict, VERDICT_MEMORY_LOST);
      assert.is(told(), 1);
    },
  );
});

test('counters are read while the queue runs, add up, and do not stop at 2^32', () => {
  stage(
    () => 0,
    ({ aperture, block }) => {
      count(aperture, block.vq, VQ_CROSSINGS, 2n ** 32n);
      count(aperture, block.vq, VQ_CROSSINGS, 5n);
      const stats = readQueueStats(aperture, block.vq);
      assert.is(stats.crossings, 2 ** 32 + 5);
      assert.is(sumQueueStats([stats, stats]).crossings, 2 ** 33 + 10);
    },
  );
});

test.run();
