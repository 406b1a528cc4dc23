import { closeSync, ftruncateSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTIO_F_NOTIFICATION_DATA } from '../../assembly/virtio.js';
import type { Aperture } from '../../host/aperture/aperture.js';
import { openBlock } from '../../host/drivers/blk.js';
import type { RingbellError } from '../../host/errors.js';
import { diskScene, pattern, rejects, serveTestDisk, type TestDiskOptions } from './block-fixture.js';

test('kicks through a mapped doorbell page, without a system call', async () => {
  const { bus, device } = await serveTestDisk({ doorbell: 'page-per-vq', queues: 2 });
  const disk = await openBlock('disk0', { bus, queues: 2 });
  const rung = await device.watchDoorbells();
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
  const { bus, device } = await serveTestDisk({ doorbell: 'page-per-vq', queues: 2 });
  bus.faults.inject({ point: 'mmap', errno: 'EINVAL' });
  const disk = await openBlock('disk0', { bus, queues: 2 });
  const refusals: [number, string][] = [];
  disk.on('doorbellRefused', (queue, code) => refusals.push([queue, code]));
  await device.watchDoorbells();
  assert.equal(
    disk.stats().queues.map((queue) => [queue.doorbell, queue.doorbellRefused]),
    [
      [false, 'EINVAL'],
      [true, undefined],
    ],
  );
  for (let index = 0; index < 4; index++) await disk.write(index * 512, pattern(512));
  assert.equal(refusals, [[0, 'EINVAL']], 'in the first turn that somebody could listen');
  await disk.close();
  await bus.close();
  device.close();
});

test('a device that wants notification data gets it where each queue that is used has a page', async () => {
  const add = [VIRTIO_F_NOTIFICATION_DATA];
  const layout = { stride: 4096, size: 4096, software: [2] };
  const { bus, device } = await serveTestDisk({ doorbell: layout, queues: 3, add });
  const disk = await openBlock('disk0', { bus, queues: 2 });
  assert.ok(disk.features.includes('VIRTIO_F_NOTIFICATION_DATA'));
  const rung = await device.watchDoorbells();
  for (let index = 0; index < 6; index++) await disk.write(index * 512, pattern(512));
  assert.equal(rung().slice(0, 2), [0 | (3 << 16), 1 | (3 << 16)], 'each with its available index');
  await disk.close();
  const whole = await openBlock('disk0', { bus, queues: 3 });
  assert.not.ok(whole.features.includes('VIRTIO_F_NOTIFICATION_DATA'), 'a kick by eventfd carries none');
  await whole.write(0, pattern(512));
  await whole.close();
  await bus.close();
  device.close();
});

for (const [what, device, open] of [
  ['of two bytes', { doorbell: '2-byte' }, {}],
  ['left alone', { doorbell: 'page-per-vq' }, { doorbell: false }],
  ['not there', {}, {}],
] as [string, TestDiskOptions, { doorbell?: boolean }][])
  test(`no notification data is promised where doorbells are ${what}`, () =>
    diskScene(
      async ({ disk }) => {
        assert.not.ok(disk.features.includes('VIRTIO_F_NOTIFICATION_DATA'));
        await disk.write(0, pattern(512));
      },
      { ...device, add: [VIRTIO_F_NOTIFICATION_DATA] },
      open,
    ));

/** A bus whose devices have doorbell pages, of a file that the caller can take away. */
async function takeAway(
  act: (doorbell: { fd: number; aperture: Aperture; linear: number }) => void,
): Promise<RingbellError> {
  const { bus, device } = await serveTestDisk();
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-'));
  const fd = openSync(join(folder, 'doorbell'), 'w+');
  ftruncateSync(fd, 4096);
  let mapped: { aperture: Aperture; linear: number } | undefined;
  const disk = await openBlock('disk0', {
    bus: {
      openVhostVdpa: async (name) => {
        const file = await bus.openVhostVdpa(name);
        file.mmap = async (aperture, linear, { length }) => {
          aperture.mapAt(linear, { fd, offset: 0n }, length, 'w');
          mapped = { aperture, linear };
        };
        return file;
      },
    },
  });
  assert.ok(mapped);
  const reported = new Promise<RingbellError>((resolve) => disk.on('error', resolve));
  act({ fd, ...mapped });
  await rejects(disk.write(0, pattern(512)), 'ERR_DEVICE_BROKEN');
  const error = await reported;
  await disk.close();
  await bus.close();
  device.close();
  closeSync(fd);
  rmSync(folder, { recursive: true });
  return error;
}

test('a doorbell page that is lost breaks its disk, not the process', async () => {
  const error = await takeAway(({ fd }) => ftruncateSync(fd, 0));
  assert.is(error.code, 'ERR_MEMORY_LOST');
});

test('a doorbell page that cannot be accessed breaks its disk, not the process', async () => {
  const error = await takeAway(({ aperture, linear }) => aperture.unmap({ linear, bytes: 4096 }));
  assert.is(error.code, 'ERR_TRAP');
});

test('a doorbell page is mapped no longer than the disk is open, whatever memory the application holds', async () => {
  const { bus, device } = await serveTestDisk({ doorbell: 'page-per-vq' });
  const pages = () => readFileSync('/proc/self/maps', 'utf8').match(/memfd:doorbell-/g)?.length ?? 0;
  const before = pages();
  const disk = await openBlock('disk0', { bus });
  const memory = disk.alloc(512);
  assert.is(pages(), before + 1);
  await disk.close();
  assert.is(pages(), before);
  assert.is(disk.stats().queues[0]?.doorbell, true, 'as it was at the end');
  assert.is(memory[0], 0);
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

/** Layouts that are refused on a host with such pages, and what each queue of two is told. */
const REFUSED: [string, TestDiskOptions, [string, string]][] = [
  ['doorbells of two bytes', { doorbell: '2-byte' }, ['ENOTSUPP', 'EINVAL']],
  ['pages with other registers', { doorbell: { stride: 4096, size: 64 } }, ['ENOTSUPP', 'ENOTSUPP']],
  ['4 KiB on pages of 64 KiB', { doorbell: 'page-per-vq', pageSize: 65536 }, ['ENOTSUPP', 'EINVAL']],
  [
    'the end of a BAR on pages of 64 KiB',
    { doorbell: { stride: 0, size: 4096, offset: 61440, barSize: 65536 }, pageSize: 65536 },
    ['EINVAL', 'EINVAL'],
  ],
];

for (const [what, options, refusals] of REFUSED)
  test(`${what}: traffic goes on by eventfd, and each queue says why`, () =>
    diskScene(
      async ({ disk }) => {
        const told: string[] = [];
        disk.on('doorbellRefused', (queue, code) => {
          told[queue] = code;
        });
        for (let index = 0; index < 4; index++) await disk.write(index * 512, pattern(512));
        const { queues, kicks } = disk.stats();
        assert.ok(kicks > 0);
        assert.equal(
          queues.map(({ doorbell, doorbellRefused }) => [doorbell, doorbellRefused]),
          refusals.map((code) => [false, code]),
        );
        assert.equal(told, refusals);
      },
      { queues: 2, ...options },
      { queues: 2 },
    ));

test('doorbells can be left alone', () =>
  diskScene(
    async ({ disk }) => {
      const [queue] = disk.stats().queues;
      assert.is(queue?.doorbell, false);
      assert.is(queue?.doorbellRefused, undefined);
    },
    { doorbell: 'page-per-vq' },
    { doorbell: false },
  ));

test.run();
