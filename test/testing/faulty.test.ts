/** Faults that a model is given on purpose, as a driver of ours sees them. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockModel } from '../../host/models/blk/block-model.js';
import { type Faults, type FaultyOptions, faulty, MockDriver } from '../../host/testing/index.js';
import { rejects, type Scene, scene, until, within } from '../models/fixture.js';

const BLOCK = 4096;

/** A disk in an array. */
class Memory extends BlockModel {
  override readonly capacity = 2 ** 20;
  readonly #bytes = new Uint8Array(2 ** 20);

  override read(offset: number, into: Uint8Array): void {
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  override write(offset: number, from: Uint8Array): void {
    this.#bytes.set(from, offset);
  }
}

/** Serves a disk with faults, and opens it. Faults are off while it is being closed. */
function faultyScene(
  options: FaultyOptions,
  body: (scene: Scene & { faults: Faults }) => Promise<void>,
): Promise<void> {
  const model = faulty(new Memory(), options);
  const { faults } = model;
  return scene(model, {}, async (it) => {
    try {
      await body({ ...it, faults });
    } finally {
      faults.set({});
      faults.release();
    }
  });
}

test('without faults the model serves as it does', () =>
  faultyScene({}, async ({ disk, faults, errors }) => {
    await disk.write(0, new Uint8Array(BLOCK).fill(7));
    assert.equal(await disk.read(0, BLOCK), new Uint8Array(BLOCK).fill(7));
    assert.equal(faults.injected, { delay: 0, error: 0, reorder: 0, drop: 0, wrongLength: 0 });
    assert.equal(errors, []);
  }));

test('an error is an I/O error of the request that has it, and of no other', () =>
  faultyScene({}, async ({ disk, device, faults, errors }) => {
    faults.next('error');
    await rejects(disk.read(0, BLOCK), 'ERR_IO');
    await disk.read(0, BLOCK);
    // Of a request whose bytes do not go in bursts.
    faults.next('error');
    await rejects(disk.read(0, 16 * BLOCK), 'ERR_IO');
    assert.is(faults.injected.error, 2);
    assert.is(device.stats().ioErrors, 2);
    assert.equal(errors, [], 'the model has not failed');
  }));

test('a wrong length is an I/O error to a driver that counts', () =>
  faultyScene({}, async ({ disk, faults }) => {
    for (let turn = 0; turn < 10; turn++) {
      faults.next('wrongLength');
      await rejects(disk.read(0, BLOCK), 'ERR_IO');
    }
    assert.is(faults.injected.wrongLength, 10);
    await disk.read(0, BLOCK);
  }));

test('a chain that is dropped does not come back until it is let go', () =>
  faultyScene({}, async ({ disk, faults }) => {
    faults.next('drop');
    let answered = false;
    const dropped = disk.read(0, BLOCK).then(() => {
      answered = true;
    });
    await until(() => faults.held === 1, 'the chain to be dropped');
    for (let turn = 0; turn < 20; turn++) await disk.read(0, BLOCK);
    assert.not.ok(answered);
    faults.release();
    await within(dropped, 'the chain that was dropped');
  }));

test('a chain that is reordered is overtaken', () =>
  faultyScene({ delayMs: 60_000 }, async ({ disk, faults }) => {
    const order: string[] = [];
    faults.next('reorder');
    const first = disk.read(0, BLOCK).then(() => order.push('first'));
    const second = disk.read(BLOCK, BLOCK).then(() => order.push('second'));
    await within(Promise.all([first, second]), 'both');
    assert.equal(order, ['second', 'first']);
  }));

test('a chain that nothing overtakes is late, as one that is delayed', () =>
  faultyScene({ delayMs: 5 }, async ({ disk, faults }) => {
    faults.next('reorder', 'delay');
    for (let turn = 0; turn < 2; turn++) {
      const start = performance.now();
      await within(disk.read(0, BLOCK), 'the read');
      assert.ok(performance.now() - start > 4);
    }
    assert.is(faults.injected.delay + faults.injected.reorder, 2);
  }));

test('what is written is read whatever is late and out of order', () =>
  faultyScene({ seed: 3, delay: 0.2, reorder: 0.5, delayMs: 2 }, async ({ disk, faults, errors }) => {
    const blocks = Array.from({ length: 64 }, (_, n) => new Uint8Array(BLOCK).fill(n + 1));
    await within(Promise.all(blocks.map((block, n) => disk.write(n * BLOCK, block))), 'writes');
    const read = await within(Promise.all(blocks.map((_, n) => disk.read(n * BLOCK, BLOCK))), 'reads');
    assert.ok(read.every((block, n) => Buffer.compare(block, blocks[n]!) === 0));
    assert.ok(faults.injected.delay > 0 && faults.injected.reorder > 0);
    assert.equal(errors, []);
  }));

test('the same seed gives the same faults, another one others', async () => {
  const sequence = async (seed: number) => {
    const failed: boolean[] = [];
    await faultyScene({ seed, error: 0.4 }, async ({ disk }) => {
      for (let turn = 0; turn < 40; turn++)
        failed.push(
          await disk.read(0, BLOCK).then(
            () => false,
            () => true,
          ),
        );
    });
    return failed;
  };
  const one = await sequence(1);
  assert.equal(await sequence(1), one);
  assert.not.equal(await sequence(2), one);
});

test('only the chains that it is for have faults', () =>
  faultyScene({ error: 1, when: (chain) => chain.getUint32(0) === 0 }, async ({ disk }) => {
    await disk.write(0, new Uint8Array(BLOCK));
    await rejects(disk.read(0, BLOCK), 'ERR_IO');
  }));

test('a reset ends what is kept back, and the next driver is served', async () => {
  const model = faulty(new Memory(), { drop: 1 });
  await scene(model, {}, async ({ bus, disk }) => {
    const lost = disk.read(0, BLOCK).catch((error) => error.code);
    await until(() => model.faults.held === 1, 'the chain to be dropped');
    model.faults.set({});
    await disk.close();
    assert.is(await lost, 'ERR_CLOSED');
    await until(() => model.faults.held === 0, 'the chain to be ended');
    const driver = await MockDriver.open('disk0', { bus });
    await driver.start();
    const { writable } = await driver.request({ readable: new Uint8Array(16), writable: [512, 1] });
    assert.is(writable.at(-1), 0);
    await driver.close();
  });
});

test('faults that make no sense are refused', () => {
  for (const options of [{ drop: 2 }, { drop: -1 }, { drop: 0.6, error: 0.6 }, { dorp: 1 }])
    assert.throws(() => faulty(new Memory(), options as FaultyOptions), /probabilit|no fault/);
  assert.throws(() => faulty(new Memory()).faults.next('dorp' as 'drop'), /no fault/);
});

test.run();
