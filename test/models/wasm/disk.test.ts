import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBlock } from '../../../host/drivers/blk.js';
import { type ServeOptions, serve } from '../../../host/serve.js';
import { rejects, scene, within } from '../fixture.js';
import { compileModel, DISK_BYTES, diskModel } from './fixture.js';

const module = await compileModel('disk');
const BLOCK = 4096;

/** What is offered, and what of it a driver takes that wants everything. */
const FORMATS: [Partial<ServeOptions>, packed: boolean, inOrder: boolean][] = [
  [{ packed: false }, false, false],
  [{ packed: true }, true, false],
  [{ inOrder: true }, true, true],
  [{ indirect: false, queueSize: 4 }, true, false],
];

for (const threads of [0, 1, 2])
  for (const [options, packed, inOrder] of FORMATS)
    test(`a disk in AssemblyScript, ${threads} threads, ${JSON.stringify(options)}: what is written is read`, async () => {
      const queues = 2;
      const model = diskModel(module, queues);
      const open = { queues, ...(options.queueSize && { queueSize: options.queueSize }) };
      await scene(model, { ...options, queues, threads, open }, async ({ disk, device, errors }) => {
        assert.is(disk.features.includes('VIRTIO_F_RING_PACKED'), packed);
        assert.is(disk.features.includes('VIRTIO_F_IN_ORDER'), inOrder);
        const block = (n: number, lap: number) => new Uint8Array(BLOCK).fill((n * 7 + lap) & 0xff);
        const offsets = Array.from({ length: DISK_BYTES / BLOCK }, (_, n) => n * BLOCK);
        for (let lap = 0; lap < 3; lap++) {
          await within(Promise.all(offsets.map((at, n) => disk.write(at, block(n, lap)))), 'writes');
          const read = await within(Promise.all(offsets.map((at) => disk.read(at, BLOCK))), 'reads');
          for (const [n, bytes] of read.entries()) assert.equal(bytes, block(n, lap), `block ${n}`);
        }
        const { bytesRead, bytesWritten, requests, queues: each } = device.stats();
        assert.is(bytesRead, 3 * DISK_BYTES);
        assert.is(bytesWritten, 3 * DISK_BYTES);
        assert.is(requests, 6 * offsets.length);
        assert.ok(
          each.every((queue) => queue.requests > 0),
          'both queues have served',
        );
        assert.equal(errors, []);
      });
    });

test('its state is zeroed when it is served, and stays when a driver goes', async () => {
  const model = diskModel(module);
  const bytes = new Uint8Array(BLOCK).fill(5);
  await scene(model, {}, async ({ bus, disk }) => {
    assert.equal(await disk.read(0, BLOCK), new Uint8Array(BLOCK));
    await disk.write(0, bytes);
    await disk.close();
    const next = await openBlock('disk0', { bus });
    assert.equal(await next.read(0, BLOCK), bytes);
    await next.close();
  });
  await scene(model, {}, async ({ disk }) => assert.equal(await disk.read(0, BLOCK), new Uint8Array(BLOCK)));
});

test('a model is served once at a time', async () => {
  const model = diskModel(module);
  await scene(model, {}, async ({ bus }) => {
    await rejects(serve(model, { name: 'other', bus }), 'ERR_DEVICE_BUSY');
  });
});

test("what it writes of its driver's memory is in the dirty log, with what it may have written", async () => {
  await scene(diskModel(module), {}, async ({ disk, device }) => {
    const pages = 16;
    const memory = disk.alloc(pages * BLOCK);
    await device.dirtyLog.start();
    const marked = async () => (await device.dirtyLog.fetch()).reduce((sum, range) => sum + range.pages, 0);
    await disk.write(0, memory);
    assert.ok((await marked()) < pages, 'a write marks its status and the ring');
    await disk.read(0, memory);
    assert.ok((await marked()) >= pages, 'a read marks its data');
  });
});

test.run();
