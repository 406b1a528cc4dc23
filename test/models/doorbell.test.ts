/** Disks whose drivers ring doorbells, and never write an eventfd: a ring that nobody saw is a request that never ends. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import type { BlockDisk } from '../../host/drivers/block-disk.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import { scene, within } from './fixture.js';

const PAGE = 4096;
const disk = () => new BlockDevice({ memory: 2 ** 20 });

/** One request at a time, now at once after the one before, now later, on whichever queue is next. */
async function trickle(driven: BlockDisk, requests: number): Promise<void> {
  const bytes = new Uint8Array(512);
  for (let index = 0; index < requests; index++) {
    bytes.fill(index);
    const offset = (index % 2048) * 512;
    await within(driven.write(offset, bytes), `write ${index}`);
    assert.equal(await within(driven.read(offset, 512), `read ${index}`), bytes);
    if (index % 16 === 0) await new Promise((resolve) => setTimeout(resolve, index % 5));
  }
}

const SERVED: (Partial<ServeOptions> & { queues: number })[] = [
  { doorbell: 'page-per-vq', queues: 1 },
  { doorbell: 'page-per-vq', queues: 3, threads: 1 },
  { doorbell: 'page-per-vq', queues: 2, threads: 2 },
  { doorbell: 'page-per-vq', queues: 2, mode: 'poll' },
  { doorbell: 'page-per-vq', queues: 2, threads: 0 },
  { doorbell: 'shared', queues: 3, threads: 1 },
  { doorbell: 'shared', queues: 3, threads: 3 },
  { doorbell: 'shared', queues: 2, threads: 0 },
  { doorbell: { stride: 0, size: PAGE, offset: 3 * PAGE, barSize: 4 * PAGE }, queues: 2 },
];

for (const options of SERVED)
  test(`each ring is seen with ${inspect(options, { breakLength: Number.POSITIVE_INFINITY })}`, () =>
    scene(
      disk(),
      { ...options, open: { queues: options.queues } },
      async ({ device, disk: driven, errors }) => {
        await trickle(driven, 200);
        assert.equal(
          driven.stats().queues.map(({ doorbell, doorbellRefused }) => [doorbell, doorbellRefused]),
          Array.from({ length: options.queues }, () => [true, undefined]),
        );
        for (const { kicks, requests } of device.stats().queues) {
          assert.ok(requests > 0);
          assert.ok(kicks > 0, 'rings count as kicks');
        }
        assert.equal(errors, []);
      },
    ));

for (const [layout, offered] of [
  ['page-per-vq', true],
  ['shared', true],
  ['2-byte', false],
  [{ stride: PAGE, size: PAGE, software: [1] }, false],
  [{ stride: PAGE, size: 64 }, false],
  [undefined, false],
] as [ServeOptions['doorbell'], boolean][])
  for (const packed of [false, true])
    test(`notification data is ${offered ? '' : 'not '}offered with doorbells ${inspect(layout)}, packed: ${packed}`, () =>
      scene(
        disk(),
        { ...(layout && { doorbell: layout }), packed, queues: 2, open: { queues: 2 } },
        async ({ device, disk: driven, errors }) => {
          const has = (features: readonly string[]) => features.includes('VIRTIO_F_NOTIFICATION_DATA');
          assert.is(has(device.features), offered);
          assert.is(has(driven.features), offered);
          await trickle(driven, 40);
          assert.equal(errors, []);
        },
      ));

test('a page that can be mapped when features are agreed on, and not any more later, leaves its queue to the eventfd', async () => {
  const bus = new Bus();
  const device = await within(serve(disk(), { name: 'disk0', bus, doorbell: 'page-per-vq' }), 'serve');
  const afterTheFirst = bus.faults.inject({ point: 'mmap', errno: 'EINVAL', skip: 1 });
  const driven = await within(openBlock('disk0', { bus }), 'openBlock');
  assert.ok(driven.features.includes('VIRTIO_F_NOTIFICATION_DATA'));
  assert.is(driven.stats().queues[0]?.doorbellRefused, 'EINVAL');
  assert.is(afterTheFirst.hits, 1);
  await trickle(driven, 20);
  await within(driven.close(), 'closing the disk');
  await within(device.close(), 'closing the device');
  await bus.close();
});

test('of a device that runs a queue in software, that one is kicked by eventfd and the rest rung', () =>
  scene(
    disk(),
    {
      doorbell: { stride: PAGE, size: PAGE, software: [1] },
      queues: 3,
      threads: 1,
      open: { queues: 3 },
    },
    async ({ device, disk: driven }) => {
      await trickle(driven, 60);
      assert.equal(
        driven.stats().queues.map(({ doorbell, doorbellRefused }) => [doorbell, doorbellRefused]),
        [
          [true, undefined],
          [false, 'ENOTSUPP'],
          [true, undefined],
        ],
      );
      for (const { kicks } of device.stats().queues) assert.ok(kicks > 0);
    },
  ));

test('a driver that leaves the doorbells alone is served by its eventfds', () =>
  scene(
    disk(),
    { doorbell: 'shared', queues: 2, threads: 1, open: { queues: 2, doorbell: false } },
    async ({ disk: driven }) => {
      await trickle(driven, 60);
      assert.equal(
        driven.stats().queues.map(({ doorbell }) => doorbell),
        [false, false],
      );
    },
  ));

test('a device on a host with pages of 64 KiB is rung on those', async () => {
  const bus = new Bus({ pageSize: 65536 });
  const doorbell = { stride: 65536, size: 65536 };
  const device = await within(serve(disk(), { name: 'disk0', bus, queues: 2, doorbell }), 'serve');
  const driven = await within(openBlock('disk0', { bus, queues: 2 }), 'openBlock');
  await trickle(driven, 40);
  assert.equal(
    driven.stats().queues.map(({ doorbell }) => doorbell),
    [true, true],
  );
  await within(driven.close(), 'closing the disk');
  await within(device.close(), 'closing the device');
  await bus.close();
});

test('a driver that rings without end, for nothing, is served as any other, and so is who comes after it', async () => {
  const bus = new Bus();
  const device = await within(serve(disk(), { name: 'disk0', bus, doorbell: 'page-per-vq' }), 'serve');
  let doorbell: { memory: unknown; linear: number } | undefined;
  const driven = await within(
    openBlock('disk0', {
      bus: {
        openVhostVdpa: async (name) => {
          const file = await bus.openVhostVdpa(name);
          const mmap = file.mmap.bind(file);
          file.mmap = async (aperture, linear, request) => {
            await mmap(aperture, linear, request);
            doorbell = { memory: aperture.memory, linear };
          };
          return file;
        },
      },
    }),
    'openBlock',
  );
  const stop = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const flood = new Worker(
    `
      const { parentPort, workerData } = require('node:worker_threads');
      const word = new Uint16Array(workerData.memory.buffer, workerData.linear, 1);
      const stop = new Int32Array(workerData.stop);
      parentPort.postMessage('begins');
      while (Atomics.load(stop, 0) === 0) word[0] = 0;
    `,
    { eval: true, workerData: { ...doorbell, stop } },
  );
  try {
    await once(flood, 'message');
    await trickle(driven, 30);
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1);
    await once(flood, 'exit');
  }
  await within(driven.close(), 'closing the disk');
  const next = await within(openBlock('disk0', { bus }), 'openBlock');
  await trickle(next, 4);
  await within(next.close(), 'closing the disk');
  await within(device.close(), 'closing the device');
  await bus.close();
});

test('one window of a page serves every driver that comes, and goes with the device', async () => {
  const windows = () => readFileSync('/proc/self/maps', 'utf8').match(/memfd:doorbell-/g)?.length ?? 0;
  const before = windows();
  const bus = new Bus();
  const device = await within(serve(disk(), { name: 'disk0', bus, queues: 2, doorbell: 'shared' }), 'serve');
  for (let driver = 0; driver < 3; driver++) {
    const driven = await within(openBlock('disk0', { bus, queues: 2 }), 'openBlock');
    await trickle(driven, 4);
    // The device has one for both queues, the driver one for each.
    assert.is(windows() - before, 1 + 2);
    await within(driven.close(), 'closing the disk');
  }
  await within(device.close(), 'closing the device');
  await bus.close();
  assert.is(windows(), before);
});

test.run();
