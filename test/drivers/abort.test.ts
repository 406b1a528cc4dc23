import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBlock } from '../../host/drivers/blk.js';
import { diskScene, pattern, rejects, serveTestDisk } from './block-fixture.js';

test('a signal that is aborted already keeps the request off the ring', () =>
  diskScene(async ({ disk }) => {
    const error = await rejects(disk.read(0, 512, { signal: AbortSignal.abort('why') }), 'ABORT_ERR');
    assert.is(error.name, 'AbortError');
    assert.is(error.cause, 'why');
    assert.is(disk.stats().requests, 0);
  }));

test('a request that waits for a slot is dropped when aborted', () =>
  diskScene(
    async ({ device, disk }) => {
      // Four slots: the fifth request waits.
      const held = Array.from({ length: 4 }, (_, index) => disk.write(index * 512, pattern(512)));
      const controller = new AbortController();
      const waiting = disk.write(8192, pattern(512), { signal: controller.signal });
      const behind = disk.write(16384, pattern(512));
      await new Promise(setImmediate);
      controller.abort();
      await rejects(waiting, 'ABORT_ERR');
      device.release();
      await Promise.all([...held, behind]);
      assert.is(device.bytes[8193], 0);
      assert.is(disk.stats().requests, 5);
    },
    { queueSize: 4, hold: true },
  ));

test('a request of the same turn is dropped when aborted', () =>
  diskScene(async ({ disk }) => {
    const controller = new AbortController();
    const call = disk.read(0, 512, { signal: controller.signal });
    controller.abort();
    await rejects(call, 'ABORT_ERR');
    await disk.read(0, 512);
    assert.is(disk.stats().requests, 1);
  }));

test('a request in flight rejects at once, and keeps its slot and its buffer to itself until the device answers', () =>
  diskScene(
    async ({ device, disk }) => {
      device.bytes.set(pattern(512), 0);
      const controller = new AbortController();
      const target = new Uint8Array(512);
      const call = disk.read(0, target, { signal: controller.signal });
      await new Promise(setImmediate);
      controller.abort();
      await rejects(call, 'ABORT_ERR');
      assert.is(disk.stats().queues[0]?.inFlight, 1);
      // All other slots, with other bytes: none may land in the aborted one's bounce buffer, or the reverse.
      const others = Array.from({ length: 8 }, (_, index) =>
        disk.write((index + 1) * 512, pattern(512, index)),
      );
      device.release();
      await Promise.all(others);
      assert.ok(
        target.every((byte) => byte === 0),
        'an aborted read must leave the buffer alone',
      );
      for (let index = 0; index < 8; index++)
        assert.equal(device.bytes.slice((index + 1) * 512, (index + 2) * 512), pattern(512, index));
      assert.is(disk.stats().queues[0]?.inFlight, 0);
    },
    { queueSize: 4, hold: true },
  ));

test('a finished request lets go of its signal', () =>
  diskScene(async ({ disk }) => {
    const controller = new AbortController();
    let listeners = 0;
    const { signal } = controller;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      listeners++;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      listeners--;
      remove(...args);
    };
    await disk.read(0, 512, { signal });
    assert.is(listeners, 0);
    controller.abort();
  }));

test('a signal given to openBlock stops the opening, and closes the disk afterwards', async () => {
  const { bus, device } = await serveTestDisk();
  await rejects(openBlock('disk0', { bus, signal: AbortSignal.abort() }), 'ABORT_ERR');
  const early = new AbortController();
  const opening = openBlock('disk0', { bus, signal: early.signal });
  early.abort();
  await rejects(opening, 'ABORT_ERR');
  const controller = new AbortController();
  const disk = await openBlock('disk0', { bus, signal: controller.signal });
  const closed = new Promise<void>((resolve) => disk.once('close', resolve));
  controller.abort();
  await closed;
  await rejects(disk.read(0, 512), 'ERR_CLOSED');
  await bus.close();
  device.close();
});

test.run();
