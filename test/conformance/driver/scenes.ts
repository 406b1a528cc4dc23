/** What a driver of this package does with a disk, whichever kernel interface is between them. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import * as assert from 'uvu/assert';
import { VIRTIO_BLK_S_OK } from '../../../assembly/virtio.js';
import { type BlockDisk, type OpenBlockOptions, openBlock } from '../../../host/index.js';
import { pattern, rejects } from '../../drivers/block-fixture.js';
import { exercise } from '../../drivers/exercise.js';
import { DISK_BYTES, DISK_ID, type HostedDiskOptions } from './disk-host.js';
import { resets } from './reset-scenes.js';
import type { DriverWorld, StagedDisk } from './world.js';

/** A scene's disk, open. */
export interface Stage {
  readonly world: DriverWorld;
  readonly device: StagedDisk;
  readonly disk: BlockDisk;
}

/** Something that happens between a driver and its device. */
export interface DriverScene {
  /** The behaviour, as a sentence. */
  readonly name: string;
  readonly device?: HostedDiskOptions;
  readonly open?: OpenBlockOptions;
  /** Codes of the errors that the device has to emit; none by default. */
  readonly errors?: readonly string[];
  readonly play: (stage: Stage) => Promise<void>;
}

// As few kinds as will do: serving one takes a second or more where the CPU is emulated.
const HELD: HostedDiskOptions = { by: 'model', held: true, queueSize: 4 };
const SMALL: HostedDiskOptions = { queueSize: 4 };
const SEVERAL: HostedDiskOptions = { queues: 3, queueSize: 64 };
const SECTOR = 512;
/** A disk full of something. */
const CONTENT = Uint8Array.from(randomBytes(DISK_BYTES));

const part = (bytes: Uint8Array, offset: number, length: number) => bytes.slice(offset, offset + length);

/** Asserts that bytes are the same: without a call for each, since the CPU may be emulated. */
function same(actual: Uint8Array, expected: Uint8Array): void {
  assert.is(Buffer.compare(actual, expected), 0);
}

/** A disk of zeroes, but for some bytes. */
function zeroesBut(offset: number, bytes: Uint8Array): Uint8Array {
  const all = new Uint8Array(DISK_BYTES);
  all.set(bytes, offset);
  return all;
}

/** Device and driver of each way of keeping a ring. */
const RINGS: readonly [name: string, HostedDiskOptions, OpenBlockOptions][] = [
  ['on packed rings', {}, {}],
  ['on packed rings that are used in order', { inOrder: true }, {}],
  ['on packed rings without indirect descriptors', {}, { indirect: false }],
  ['on split rings', {}, { packed: false }],
  ['on split rings without indirect descriptors', {}, { packed: false, indirect: false }],
  ['on split rings without event index', {}, { packed: false, eventIdx: false }],
  ['in poll mode', {}, { mode: 'poll' }],
  ['on a ring of four entries', SMALL, { packed: false, indirect: false, slotBytes: SECTOR }],
  ['on several queues', SEVERAL, { queues: 3 }],
  ['of a model in TypeScript', { by: 'model' }, {}],
  ['through bounce buffers', {}, { bounce: true }],
];

const requests: readonly DriverScene[] = [
  {
    name: 'reads what the device has, into the buffer that it is given',
    play: async ({ device, disk }) => {
      await device.fill(CONTENT);
      const backing = new Uint8Array(4096);
      const buffer = backing.subarray(1000, 2024);
      assert.is(await disk.read(SECTOR, buffer), buffer);
      assert.equal(buffer.slice(), part(CONTENT, SECTOR, 1024));
      assert.ok(backing.subarray(0, 1000).every((byte) => byte === 0));
      assert.ok(backing.subarray(2024).every((byte) => byte === 0));
    },
  },
  {
    name: 'writes where it is told to, and nowhere else',
    play: async ({ device, disk }) => {
      await disk.write(DISK_BYTES - SECTOR, pattern(SECTOR));
      same(await device.bytes(), zeroesBut(DISK_BYTES - SECTOR, pattern(SECTOR)));
    },
  },
  {
    name: 'copies nothing for memory from alloc, nor for a part of it',
    play: async ({ device, disk }) => {
      const memory = disk.alloc(65536);
      memory.set(part(CONTENT, 0, 65536));
      await disk.write(8192, memory);
      same(await device.bytes(), zeroesBut(8192, part(CONTENT, 0, 65536)));
      memory.fill(0);
      await disk.read(8192 + SECTOR, memory.subarray(SECTOR, 3 * SECTOR));
      same(memory, part(zeroesBut(SECTOR, part(CONTENT, SECTOR, 2 * SECTOR)), 0, 65536));
    },
  },
  {
    name: 'splits what is longer than a bounce buffer',
    open: { slotBytes: 4096 },
    play: async ({ device, disk }) => {
      const bytes = part(CONTENT, 0, 2 ** 18 + SECTOR);
      await disk.write(SECTOR, bytes);
      same(await device.bytes(), zeroesBut(SECTOR, bytes));
      same(await disk.read(SECTOR, bytes.length), bytes);
      assert.is(disk.stats().requests, 2 * 65);
    },
  },
  {
    name: 'lets requests wait while the ring is full',
    device: SMALL,
    play: async ({ device, disk }) => {
      await device.fill(CONTENT);
      const sectors = await Promise.all(
        Array.from({ length: 200 }, (_, index) => disk.read(index * SECTOR, SECTOR)),
      );
      sectors.forEach((sector, index) => {
        same(sector, part(CONTENT, index * SECTOR, SECTOR));
      });
    },
  },
  {
    name: 'sends the requests of one turn with one notification',
    play: async ({ disk }) => {
      await Promise.all(Array.from({ length: 64 }, (_, index) => disk.read(index * SECTOR, SECTOR)));
      assert.is(disk.stats().kicks, 1);
    },
  },
  {
    name: 'spreads requests over its queues',
    device: SEVERAL,
    open: { queues: 3 },
    play: async ({ device, disk }) => {
      await Promise.all(
        Array.from({ length: 30 }, (_, index) => disk.write(index * SECTOR, pattern(SECTOR, index))),
      );
      assert.equal(
        disk.stats().queues.map((queue) => queue.requests),
        [10, 10, 10],
      );
      const bytes = await device.bytes();
      for (let index = 0; index < 30; index++)
        assert.equal(part(bytes, index * SECTOR, SECTOR), pattern(SECTOR, index));
    },
  },
  {
    name: 'flushes, discards, writes zeroes, and gets the id',
    play: async ({ device, disk }) => {
      await device.fill(new Uint8Array(DISK_BYTES).fill(1));
      await disk.writeZeroes(SECTOR, 65536);
      await disk.discard(2 ** 18, 8192);
      await disk.flush();
      const expected = new Uint8Array(DISK_BYTES).fill(1);
      expected.fill(0, SECTOR, SECTOR + 65536);
      expected.fill(0, 2 ** 18, 2 ** 18 + 8192);
      same(await device.bytes(), expected);
      assert.is(await disk.getId(), DISK_ID);
    },
  },
  {
    name: 'refuses what is not whole sectors of the disk, before touching the ring',
    play: async ({ disk }) => {
      assert.is(disk.capacity, DISK_BYTES);
      await rejects(disk.read(1, SECTOR), 'ERR_ALIGNMENT');
      await rejects(disk.write(0, pattern(100)), 'ERR_ALIGNMENT');
      await rejects(disk.read(DISK_BYTES, SECTOR), 'ERR_OUT_OF_RANGE');
      assert.is((await disk.read(DISK_BYTES, 0)).length, 0);
      assert.is(disk.stats().requests, 0);
    },
  },
  {
    name: 'refuses changes of a read-only disk, and reads it',
    device: { readOnly: true },
    play: async ({ device, disk }) => {
      assert.is(disk.readOnly, true);
      await rejects(disk.write(0, pattern(SECTOR)), 'ERR_READ_ONLY');
      assert.is(disk.stats().requests, 0);
      await device.fill(CONTENT);
      assert.equal(await disk.read(0, SECTOR), part(CONTENT, 0, SECTOR));
    },
  },
  {
    name: 'a sector that the device cannot read fails its request, and no other',
    device: { by: 'model', bad: 8192 },
    errors: ['ERR_MODEL', 'ERR_MODEL'],
    play: async ({ device, disk }) => {
      await device.fill(CONTENT);
      const whole = rejects(disk.read(4096, 8192), 'ERR_IO');
      const before = await disk.read(4096, 4096);
      await whole;
      assert.equal(before, part(CONTENT, 4096, 4096));
      await rejects(disk.write(8192, pattern(SECTOR)), 'ERR_IO');
      await disk.write(8192 + SECTOR, pattern(SECTOR));
      const bytes = await device.bytes();
      assert.equal(part(bytes, 8192, SECTOR), part(CONTENT, 8192, SECTOR));
      assert.equal(part(bytes, 8192 + SECTOR, SECTOR), pattern(SECTOR));
    },
  },
  ...RINGS.map(
    ([name, device, open]): DriverScene => ({
      name: `keeps every byte ${name}`,
      device,
      open,
      play: async ({ disk }) => {
        for (const [feature, agreed] of [
          ['VIRTIO_F_RING_PACKED', open.packed !== false],
          ['VIRTIO_F_IN_ORDER', device.inOrder === true],
          ['VIRTIO_RING_F_INDIRECT_DESC', open.indirect !== false],
          ['VIRTIO_RING_F_EVENT_IDX', open.eventIdx !== false],
        ] as const)
          assert.is(disk.features.includes(feature), agreed, feature);
        await exercise(disk, 3);
      },
    }),
  ),
];

const batches: readonly DriverScene[] = [
  {
    name: 'a batch goes with one notification, and comes back complete',
    play: async ({ device, disk }) => {
      const batch = disk.batch();
      const memory = disk.alloc(64 * SECTOR);
      memory.set(part(CONTENT, 0, 64 * SECTOR));
      for (let index = 0; index < 64; index++)
        batch.write(index * 1024, memory.subarray(index * SECTOR, (index + 1) * SECTOR), index);
      assert.is(batch.submit(), 64);
      const tags: number[] = [];
      while (tags.length < 64) {
        await batch.wait();
        const reaped = batch.reap();
        for (let index = 0; index < reaped; index++) {
          assert.is(batch.status(index), VIRTIO_BLK_S_OK);
          tags.push(batch.tag(index));
        }
      }
      assert.equal(
        tags.sort((a, b) => a - b),
        [...Array(64).keys()],
      );
      assert.is(disk.stats().kicks, 1);
      const bytes = await device.bytes();
      for (let index = 0; index < 64; index++)
        assert.equal(part(bytes, index * 1024, SECTOR), part(CONTENT, index * SECTOR, SECTOR));
    },
  },
  {
    name: 'a batch counts its free slots',
    device: HELD,
    play: async ({ device, disk }) => {
      const batch = disk.batch();
      const memory = disk.alloc(SECTOR);
      for (let tag = 0; tag < 4; tag++) batch.read(0, memory, tag);
      assert.throws(
        () => batch.read(0, memory, 4),
        (error: { code: string }) => error.code === 'ERR_RING_FULL',
      );
      assert.is(batch.submit(), 4);
      assert.is(batch.free, 0);
      await device.release();
      for (let left = 4; left > 0; left -= batch.reap()) await batch.wait();
      assert.is(batch.free, 4);
    },
  },
];

const aborts: readonly DriverScene[] = [
  {
    name: 'a signal that is aborted already keeps the request off the ring',
    play: async ({ disk }) => {
      await rejects(disk.read(0, SECTOR, { signal: AbortSignal.abort() }), 'ABORT_ERR');
      assert.is(disk.stats().requests, 0);
    },
  },
  {
    name: 'a request that waits for a slot is dropped when aborted',
    device: HELD,
    play: async ({ device, disk }) => {
      const held = Array.from({ length: 4 }, (_, index) => disk.write(index * SECTOR, pattern(SECTOR)));
      const controller = new AbortController();
      const waiting = disk.write(8192, pattern(SECTOR), { signal: controller.signal });
      await new Promise(setImmediate);
      controller.abort();
      await rejects(waiting, 'ABORT_ERR');
      await device.release();
      await Promise.all(held);
      assert.is((await device.bytes())[8193], 0);
      assert.is(disk.stats().requests, 4);
    },
  },
  {
    name: 'a request in flight rejects when aborted, and its buffer is left alone',
    device: HELD,
    play: async ({ device, disk }) => {
      await device.fill(CONTENT);
      const controller = new AbortController();
      const target = new Uint8Array(SECTOR);
      const call = disk.read(0, target, { signal: controller.signal });
      await new Promise(setImmediate);
      controller.abort();
      await rejects(call, 'ABORT_ERR');
      assert.is(disk.stats().queues[0]?.inFlight, 1);
      await device.release();
      assert.equal(await disk.read(SECTOR, SECTOR), part(CONTENT, SECTOR, SECTOR));
      assert.ok(target.every((byte) => byte === 0));
      assert.is(disk.stats().queues[0]?.inFlight, 0);
    },
  },
];

const lives: readonly DriverScene[] = [
  {
    name: 'agrees on features, and says for what reason it kicks by eventfd',
    play: async ({ disk }) => {
      for (const feature of ['VIRTIO_F_VERSION_1', 'VIRTIO_F_ACCESS_PLATFORM', 'VIRTIO_BLK_F_FLUSH'])
        assert.ok(disk.features.includes(feature), feature);
      assert.not(
        disk.features.some((feature) => /^bit /.test(feature)),
        disk.features.join(),
      );
      const [queue] = disk.stats().queues;
      assert.is(queue?.doorbell, false);
      assert.is(queue?.doorbellRefused, 'ENOTSUPP');
    },
  },
  {
    name: 'a device has one driver at a time, and another afterwards',
    play: async ({ device, disk }) => {
      await rejects(device.open(), 'ERR_DEVICE_BUSY');
      await disk.write(0, pattern(SECTOR));
      await disk.close();
      const next = await device.open();
      assert.equal(await next.read(0, SECTOR), pattern(SECTOR));
      await next.close();
    },
  },
  {
    name: 'what there is not cannot be opened, nor more of it than there is',
    device: SEVERAL,
    play: async ({ world, device, disk }) => {
      await disk.close();
      await rejects(openBlock(world.nobody), 'ERR_NO_DEVICE');
      await rejects(device.open({ queues: 4 }), 'ERR_NOT_SUPPORTED');
      await rejects(device.open({ queueSize: 128 }), 'ERR_NOT_SUPPORTED');
      // Whatever failed has left the device to others.
      const all = await device.open({ queues: 3, queueSize: 64 });
      await all.close();
    },
  },
  {
    name: 'close waits for requests on their way, and refuses new ones meanwhile',
    device: HELD,
    play: async ({ device, disk }) => {
      const write = disk.write(0, pattern(SECTOR));
      const closing = disk.close();
      await rejects(disk.read(0, SECTOR), 'ERR_CLOSED');
      await device.release();
      await write;
      await closing;
      assert.equal(part(await device.bytes(), 0, SECTOR), pattern(SECTOR));
      await rejects(disk.flush(), 'ERR_CLOSED');
    },
  },
  {
    name: 'memory from alloc stays valid after close',
    play: async ({ disk }) => {
      const memory = disk.alloc(8192);
      memory.set(part(CONTENT, 0, 8192));
      await disk.write(0, memory);
      await disk.close();
      same(memory, part(CONTENT, 0, 8192));
      memory.fill(7);
      assert.is(memory[8191], 7);
    },
  },
  {
    name: 'opening and closing leaves no descriptor behind',
    play: async ({ device, disk }) => {
      await disk.close();
      const cycle = async () => {
        const next = await device.open();
        await next.read(0, SECTOR);
        await next.close();
      };
      await cycle();
      const before = readdirSync('/proc/self/fd').length;
      for (let index = 0; index < 5; index++) await cycle();
      assert.is(readdirSync('/proc/self/fd').length, before);
    },
  },
  {
    name: 'a change of capacity is an event, and holds from then on',
    play: async ({ device, disk }) => {
      const changed = once(disk, 'config');
      await device.resize(2 * DISK_BYTES);
      await changed;
      assert.is(disk.capacity, 2 * DISK_BYTES);
      await disk.write(2 * DISK_BYTES - SECTOR, pattern(SECTOR));
      assert.equal(part(await device.bytes(), 2 * DISK_BYTES - SECTOR, SECTOR), pattern(SECTOR));
    },
  },
];

/** Every scene. */
export const driverScenes: readonly DriverScene[] = [...requests, ...batches, ...aborts, ...lives, ...resets];
