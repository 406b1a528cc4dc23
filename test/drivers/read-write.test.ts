import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../assembly/virtio.js';
import type { OpenBlockOptions } from '../../host/drivers/blk.js';
import { CAPACITY, diskScene, pattern, type TestDiskOptions } from './block-fixture.js';
import { exercise } from './exercise.js';

test('reads a sector that the device has', () =>
  diskScene(async ({ device, disk }) => {
    const sector = pattern(512);
    device.bytes.set(sector, 1024);
    assert.equal(await disk.read(1024, 512), sector);
  }));

test('writes a sector where it was told to, and nowhere else', () =>
  diskScene(async ({ device, disk }) => {
    const sector = pattern(512, 2);
    await disk.write(CAPACITY - 512, sector);
    assert.equal(device.bytes.slice(CAPACITY - 512), sector);
    assert.ok(device.bytes.slice(0, CAPACITY - 512).every((byte) => byte === 0));
  }));

test('reads into a buffer of the caller and resolves to it', () =>
  diskScene(async ({ device, disk }) => {
    device.bytes.set(pattern(1024));
    const backing = new Uint8Array(4096);
    const buffer = backing.subarray(1000, 2024);
    assert.is(await disk.read(0, buffer), buffer);
    assert.equal(buffer.slice(), pattern(1024));
    assert.ok(backing.subarray(0, 1000).every((byte) => byte === 0));
    assert.ok(backing.subarray(2024).every((byte) => byte === 0));
  }));

test('resolves to an array of the type that it was given', () =>
  diskScene(async ({ disk }) => {
    const buffer: Buffer = await disk.read(0, Buffer.alloc(512));
    assert.is(buffer.toString('latin1', 0, 1), '\0');
  }));

test('copies nothing for memory from alloc, nor for a part of it', () =>
  diskScene(async ({ device, disk }) => {
    const memory = disk.alloc(65536);
    memory.set(pattern(65536));
    await disk.write(8192, memory);
    assert.equal(device.bytes.slice(8192, 8192 + 65536), pattern(65536));
    memory.fill(0);
    const part = memory.subarray(512, 1536);
    await disk.read(8192 + 512, part);
    assert.equal(
      memory.slice(0, 2048),
      new Uint8Array(2048).fill(0).map((_, i) => (i >= 512 && i < 1536 ? (pattern(65536)[i] as number) : 0)),
    );
  }));

test('splits what is longer than a bounce buffer, and runs the parts in parallel', () =>
  diskScene(
    async ({ device, disk }) => {
      const bytes = pattern(2 ** 20 + 512);
      await disk.write(512, bytes);
      assert.equal(device.bytes.slice(512, 512 + bytes.length), bytes);
      assert.equal(await disk.read(512, bytes.length), bytes);
      const { requests, kicks } = disk.stats();
      assert.is(requests, 2 * 257);
      assert.ok(kicks < requests / 8, `${kicks} kicks for ${requests} requests`);
    },
    {},
    { slotBytes: 4096 },
  ));

test('keeps to the segment size that the device allows', () =>
  diskScene(
    async ({ device, disk }) => {
      assert.is(disk.config.sizeMax, 1500);
      const memory = disk.alloc(10240);
      memory.set(pattern(10240));
      await disk.write(0, memory);
      assert.equal(device.bytes.slice(0, 10240), pattern(10240));
      assert.equal(await disk.read(0, 10240), pattern(10240));
      assert.is(disk.stats().requests, 20);
    },
    // VIRTIO_BLK_F_SIZE_MAX.
    { add: [1], config: { size_max: 1500 } },
  ));

test('lets requests wait while the ring is full', () =>
  diskScene(
    async ({ device, disk }) => {
      device.bytes.set(pattern(CAPACITY));
      const sectors = await Promise.all(
        Array.from({ length: 1000 }, (_, index) => disk.read(index * 512, 512)),
      );
      sectors.forEach((sector, index) => {
        assert.equal(sector, device.bytes.slice(index * 512, index * 512 + 512));
      });
      assert.is(disk.stats().requests, 1000);
    },
    { queueSize: 16 },
  ));

test('sends the requests of one turn with one notification', () =>
  diskScene(async ({ disk }) => {
    await Promise.all(Array.from({ length: 64 }, (_, index) => disk.read(index * 512, 512)));
    assert.is(disk.stats().kicks, 1);
  }));

test('spreads requests over its queues', () =>
  diskScene(
    async ({ disk }) => {
      assert.is(disk.queues, 3);
      await Promise.all(
        Array.from({ length: 30 }, (_, index) => disk.write(index * 512, pattern(512, index))),
      );
      assert.equal(
        disk.stats().queues.map((queue) => queue.requests),
        [10, 10, 10],
      );
      for (let index = 0; index < 30; index++)
        assert.equal(await disk.read(index * 512, 512), pattern(512, index));
    },
    { queues: 3 },
    { queues: 3 },
  ));

const variants: [string, TestDiskOptions, OpenBlockOptions][] = [
  ['with indirect descriptors and event index', {}, {}],
  ['without indirect descriptors', {}, { indirect: false }],
  ['without event index', {}, { eventIdx: false }],
  [
    'with neither, since the device has neither',
    { without: [VIRTIO_RING_F_INDIRECT_DESC, VIRTIO_RING_F_EVENT_IDX] },
    {},
  ],
  ['in poll mode', {}, { mode: 'poll' }],
  ['in poll mode without event index', {}, { mode: 'poll', eventIdx: false }],
  ['on a ring of four entries', { queueSize: 4 }, { indirect: false, slotBytes: 512 }],
  ['on several queues', { queues: 4 }, { queues: 4 }],
  ['on a parent that maps one by one', { parent: 'dma_map' }, {}],
  ['with bounce buffers', {}, { bounce: true }],
  ['with few bounce buffers', {}, { bounce: true, bounceBytes: 2 ** 20 }],
  [
    'with few bounce buffers, on several queues',
    { queues: 4 },
    { bounce: true, bounceBytes: 2 ** 20, queues: 4 },
  ],
  ['with bounce buffers, without indirect descriptors', {}, { bounce: true, indirect: false }],
  ['with bounce buffers, in poll mode', {}, { bounce: true, mode: 'poll' }],
  [
    'with bounce buffers, on a parent that maps one by one',
    { parent: 'dma_map' },
    { bounce: true, slotBytes: 4096 },
  ],
];

for (const [name, device, open] of variants)
  test(`keeps every byte ${name}`, () => diskScene(({ disk }) => exercise(disk, 12), device, open));

test.run();
