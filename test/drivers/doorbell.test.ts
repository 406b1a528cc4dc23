import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBlock } from '../../host/drivers/blk.js';
import { diskScene, pattern, serveTestDisk } from './block-fixture.js';

test('kicks through a mapped doorbell page, without a system call', async () => {
  const { bus, device, doorbellFd } = await serveTestDisk({ doorbell: 'page', queues: 2 });
  const disk = await openBlock('disk0', { bus, queues: 2 });
  const rung = device.watchDoorbells(doorbellFd);
  const { crossings } = disk.stats();
  const write = disk.write(0, pattern(512));
  await Promise.resolve();
  await Promise.resolve();
  assert.is(disk.stats().crossings - crossings, 2, 'submit and arm, no eventfd');
  await write;
  await disk.write(512, pattern(512));
  assert.equal(rung(), [0, 1], 'each queue on its page, with its index');
  assert.equal(
    disk.stats().queues.map((queue) => queue.doorbell),
    [true, true],
  );
  await disk.close();
  await bus.close();
  device.close();
});

test('falls back to the eventfd, queue by queue', async () => {
  const { bus, device, doorbellFd } = await serveTestDisk({ doorbell: 'page', queues: 2 });
  bus.faults.inject({ point: 'mmap', errno: 'EINVAL' });
  const disk = await openBlock('disk0', { bus, queues: 2 });
  device.watchDoorbells(doorbellFd);
  assert.equal(
    disk.stats().queues.map((queue) => [queue.doorbell, queue.doorbellRefused]),
    [
      [false, 'EINVAL'],
      [true, undefined],
    ],
  );
  for (let index = 0; index < 4; index++) await disk.write(index * 512, pattern(512));
  await disk.close();
  await bus.close();
  device.close();
});

test('a device without doorbells is driven by eventfd', () =>
  diskScene(async ({ disk }) => {
    await disk.write(0, pattern(512));
    const [queue] = disk.stats().queues;
    assert.is(queue?.doorbell, false);
    assert.is(queue?.doorbellRefused, 'ENOTSUPP');
  }));

test('doorbells can be left alone', () =>
  diskScene(
    async ({ disk }) => {
      const [queue] = disk.stats().queues;
      assert.is(queue?.doorbell, false);
      assert.is(queue?.doorbellRefused, undefined);
    },
    { doorbell: 'page' },
    { doorbell: false },
  ));

test.run();
