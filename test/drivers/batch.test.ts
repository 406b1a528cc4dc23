import { inspect } from 'node:util';
import { GCProfiler, getHeapStatistics } from 'node:v8';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK } from '../../assembly/virtio.js';
import type { BlockBatch } from '../../host/drivers/block-batch.js';
import type { ErrorCode } from '../../host/errors.js';
import { CAPACITY, diskScene, pattern, rejects } from './block-fixture.js';

/** Reaps until `count` completions came, letting the device on this event loop work in between: tags and statuses. */
async function collect(batch: BlockBatch, count: number): Promise<[tag: number, status: number][]> {
  const completions: [number, number][] = [];
  while (completions.length < count) {
    await batch.wait();
    const reaped = batch.reap();
    for (let index = 0; index < reaped; index++) completions.push([batch.tag(index), batch.status(index)]);
  }
  return completions;
}

/** Measurements of one test. */
const STRETCHES = 40;
/** Short enough for a few bytes a request not to fill the space of new objects. */
const STRETCH_ROUNDS = 500;

/** Bytes by which `count` calls make the heap grow; Infinity if so much that garbage is collected meanwhile. */
function heapBytes(count: number, call: () => void): number {
  globalThis.gc!();
  const collections = new GCProfiler();
  collections.start();
  const before = getHeapStatistics().used_heap_size;
  for (let index = 0; index < count; index++) call();
  const bytes = getHeapStatistics().used_heap_size - before;
  return collections.stop().statistics.length ? Number.POSITIVE_INFINITY : bytes;
}

function throws(call: () => void, code: ErrorCode, message?: RegExp): void {
  assert.throws(call, (error: { code?: string; message: string }) => {
    assert.is(error.code, code, error.message);
    if (message) assert.match(error.message, message);
    return true;
  });
}

for (const mode of ['notify', 'poll'] as const)
  test(`reads and writes with one call and one notification for all, mode ${mode}`, () =>
    diskScene(
      async ({ device, disk }) => {
        const batch = disk.batch();
        const memory = disk.alloc(64 * 512);
        memory.set(pattern(64 * 512));
        for (let index = 0; index < 64; index++)
          batch.write(index * 1024, memory.subarray(index * 512, index * 512 + 512), index);
        assert.is(batch.submit(), 64);
        const completions = await collect(batch, 64);
        assert.equal(
          completions.sort(([a], [b]) => a - b),
          Array.from({ length: 64 }, (_, index) => [index, VIRTIO_BLK_S_OK]),
        );
        assert.is(disk.stats().kicks, 1);
        for (let index = 0; index < 64; index++)
          assert.equal(
            device.bytes.slice(index * 1024, index * 1024 + 512),
            pattern(64 * 512).slice(index * 512, index * 512 + 512),
          );
        memory.fill(0);
        batch.readLinear(1024, memory.byteOffset, 512, 7);
        batch.flush(8);
        batch.submit();
        assert.equal((await collect(batch, 2)).map(([tag]) => tag).sort(), [7, 8]);
        assert.equal(memory.slice(0, 512), pattern(64 * 512).slice(512, 1024));
      },
      {},
      { mode },
    ));

test('counts its free slots, and refuses more', () =>
  diskScene(
    async ({ disk }) => {
      const batch = disk.batch();
      const memory = disk.alloc(512);
      assert.is(batch.free, 16);
      for (let tag = 0; tag < 16; tag++) batch.read(0, memory, tag);
      assert.is(batch.free, 0);
      throws(() => batch.read(0, memory, 16), 'ERR_RING_FULL', /all 16 slots/);
      assert.is(batch.submit(), 16);
      assert.is(batch.submit(), 0);
      assert.is(batch.free, 0);
      assert.is(batch.inFlight, 16);
      await collect(batch, 16);
      assert.is(batch.free, 16);
    },
    { queueSize: 16 },
  ));

test('finds what was completed before anybody waited for it', () =>
  diskScene(
    async ({ device, disk }) => {
      const batch = disk.batch();
      batch.read(0, disk.alloc(512), 5);
      assert.is(inspect(batch), 'BlockBatch { queue 0, 1 filled in, 0 in flight }');
      batch.submit();
      device.serveNow();
      await batch.wait();
      assert.is(batch.reap(), 1);
      assert.is(batch.tag(0), 5);
    },
    { hold: true },
  ));

test('keeps filled in what promises left no slots for', () =>
  diskScene(
    async ({ disk }) => {
      const batch = disk.batch();
      const memory = disk.alloc(512);
      for (let tag = 0; tag < 12; tag++) batch.read(0, memory, tag);
      const promises = Array.from({ length: 8 }, () => disk.read(0, 512));
      await Promise.resolve();
      await Promise.resolve();
      assert.is(batch.submit(), 8);
      const first = await collect(batch, 8);
      assert.is(batch.submit(), 4);
      const second = await collect(batch, 4);
      assert.equal(
        [...first, ...second].map(([tag]) => tag).sort((a, b) => a - b),
        Array.from({ length: 12 }, (_, tag) => tag),
      );
      await Promise.all(promises);
    },
    { queueSize: 16 },
  ));

test('keeps filled in what there are no bounce buffers for, and tells when there may be', () =>
  diskScene(
    async ({ device, disk }) => {
      const batch = disk.batch();
      const memory = disk.alloc(24 * 65536);
      memory.set(pattern(24 * 65536));
      for (let index = 0; index < 24; index++)
        batch.write(index * 65536, memory.subarray(index * 65536, (index + 1) * 65536), index);
      assert.is(batch.submit(), 16);
      assert.is(batch.submit(), 0);
      assert.is(batch.inFlight, 16);
      device.release();
      await collect(batch, 16);
      assert.is(batch.submit(), 8);
      await collect(batch, 8);
      assert.equal(device.bytes.slice(0, memory.length), memory.slice());
      // Promises have all of it: the batch, with nothing in flight, waits for them.
      device.held = true;
      const reads = Array.from({ length: 16 }, (_, index) => disk.read(index * 65536, 65536));
      await new Promise(setImmediate);
      batch.read(0, memory.subarray(0, 512), 1);
      assert.is(batch.submit(), 0);
      let woken = false;
      const wait = batch.wait().then(() => {
        woken = true;
      });
      await new Promise(setImmediate);
      assert.not.ok(woken);
      device.release();
      await Promise.all([wait, ...reads]);
      assert.is(batch.submit(), 1);
      assert.equal(await collect(batch, 1), [[1, VIRTIO_BLK_S_OK]]);
    },
    { hold: true },
    { bounce: true, bounceBytes: 2 ** 20 },
  ));

test('shares its queue with promises', () =>
  diskScene(
    async ({ device, disk }) => {
      device.bytes.set(pattern(CAPACITY));
      const batch = disk.batch();
      const memory = disk.alloc(8 * 512);
      for (let round = 0; round < 50; round++) {
        const promises = Array.from({ length: 20 }, (_, index) => disk.read(index * 512, 512));
        let staged = 0;
        for (; staged < 8 && batch.free > 0; staged++)
          batch.read(staged * 4096, memory.subarray(staged * 512, staged * 512 + 512), 1000 + staged);
        // Promises go to the ring when this turn ends, and leave the batch fewer slots than it had counted on.
        if (round % 2) await Promise.resolve();
        let submitted = 0;
        const tags: number[] = [];
        while (tags.length < staged) {
          submitted += batch.submit();
          if (batch.inFlight > 0) await batch.wait();
          else await new Promise(setImmediate);
          const reaped = batch.reap();
          for (let index = 0; index < reaped; index++) tags.push(batch.tag(index));
        }
        assert.is(submitted, staged);
        assert.equal(
          tags.sort(),
          Array.from({ length: staged }, (_, index) => 1000 + index),
        );
        const sectors = await Promise.all(promises);
        sectors.forEach((sector, index) => {
          assert.is(Buffer.compare(sector, device.bytes.subarray(index * 512, index * 512 + 512)), 0);
        });
      }
    },
    { queueSize: 16 },
  ));

test('reports the status of each request', () =>
  diskScene(async ({ device, disk }) => {
    device.shrink(4096);
    const batch = disk.batch();
    const memory = disk.alloc(512);
    batch.read(0, memory, 1);
    batch.read(8192, memory, 2);
    batch.submit();
    const statuses = new Map(await collect(batch, 2));
    assert.is(statuses.get(1), VIRTIO_BLK_S_OK);
    assert.is(statuses.get(2), VIRTIO_BLK_S_IOERR);
  }));

test('refuses bad requests with the codes of the other calls', () =>
  diskScene(
    async ({ disk }) => {
      const batch = disk.batch();
      const memory = disk.alloc(4096);
      throws(() => batch.read(1, memory, 0), 'ERR_ALIGNMENT');
      throws(() => batch.read(0, memory.subarray(0, 100), 0), 'ERR_ALIGNMENT');
      throws(() => batch.read(0, memory.subarray(0, 0), 0), 'ERR_ALIGNMENT');
      throws(() => batch.read(Number.NaN, memory, 0), 'ERR_ALIGNMENT');
      throws(() => batch.read(CAPACITY, memory, 0), 'ERR_OUT_OF_RANGE');
      throws(() => batch.read(-512, memory, 0), 'ERR_OUT_OF_RANGE');
      throws(() => batch.read(0, new Uint8Array(512), 0), 'ERR_ARGUMENT', /disk.alloc/);
      throws(() => batch.readLinear(0, memory.byteOffset + 4096, 512, 0), 'ERR_ARGUMENT', /disk.alloc/);
      throws(() => batch.readLinear(0, 4096, 512, 0), 'ERR_ARGUMENT', /disk.alloc/);
      throws(() => batch.read(0, memory, -1), 'ERR_ARGUMENT', /tag/);
      throws(() => batch.read(0, memory, 2 ** 31), 'ERR_ARGUMENT', /tag/);
      throws(() => batch.flush(0), 'ERR_NOT_SUPPORTED', /write cache/);
      throws(() => disk.batch({ queue: 1 }), 'ERR_ARGUMENT', /the disk has 1 queue/);
      assert.is(batch.submit(), 0);
    },
    { without: [VIRTIO_BLK_F_FLUSH] },
  ));

test('a queue has one batch', () =>
  diskScene(
    async ({ disk }) => {
      assert.is(disk.batch(), disk.batch({ queue: 0 }));
      assert.is.not(disk.batch(), disk.batch({ queue: 1 }));
    },
    { queues: 2 },
    { queues: 2 },
  ));

test('throws ERR_CLOSED after close, which waits for what is in flight', () =>
  diskScene(async ({ disk }) => {
    const batch = disk.batch();
    const memory = disk.alloc(512);
    batch.read(0, memory, 0);
    batch.submit();
    await disk.close();
    assert.is(disk.stats().requests, 1);
    throws(() => batch.reap(), 'ERR_CLOSED');
    batch.read(0, memory, 0);
    throws(() => batch.submit(), 'ERR_CLOSED');
    await rejects(batch.wait(), 'ERR_CLOSED');
  }));

test('allocates nothing per request', () =>
  diskScene(async ({ device, disk }) => {
    const batch = disk.batch();
    const memory = disk.alloc(32 * 512);
    const round = () => {
      for (let index = 0; index < 32; index++)
        batch.readLinear(index * 512, memory.byteOffset + index * 512, 512, index);
      batch.submit();
      device.serveNow();
      for (let left = 32; left > 0; left -= batch.reap());
    };
    // Enough to be compiled.
    for (let index = 0; index < 5000; index++) round();
    // What the compiler allocates beside it shows in some stretches; what a request allocates shows in each.
    const stretches = Array.from({ length: STRETCHES }, () => heapBytes(STRETCH_ROUNDS, round));
    const bytes = Math.min(...stretches) / (STRETCH_ROUNDS * 32);
    assert.ok(bytes < 0.5, `${bytes} bytes of heap per request`);
  }));

test.run();
