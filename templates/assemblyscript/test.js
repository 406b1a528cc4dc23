import assert from 'node:assert/strict';
import test from 'node:test';
import { openBlock, serve } from 'ringbell';
import { createModel } from './model.js';

const BLOCK = 4096;

/** Serves the model, drives it, and leaves nothing behind. */
async function scene(options, body) {
  const device = await serve(createModel(), { name: 'test0', ...options });
  try {
    const disk = await openBlock('test0', { queues: options.queues });
    try {
      await body(disk, device);
    } finally {
      await disk.close();
    }
  } finally {
    await device.close();
  }
}

for (const packed of [false, true])
  for (const threads of [0, 1, 2])
    test(`what is written is read: ${packed ? 'packed' : 'split'} rings, ${threads} threads`, async () => {
      await scene({ queues: 2, packed, threads }, async (disk, device) => {
        const offsets = Array.from({ length: disk.capacity / BLOCK }, (_, n) => n * BLOCK);
        await Promise.all(offsets.map((at, n) => disk.write(at, new Uint8Array(BLOCK).fill(n + 1))));
        const blocks = await Promise.all(offsets.map((at) => disk.read(at, BLOCK)));
        for (const [n, block] of blocks.entries())
          assert.ok(block.every((byte) => byte === ((n + 1) & 0xff)));
        assert.equal(device.stats().bytesRead, disk.capacity);
        assert.equal(device.stats().bytesWritten, disk.capacity);
      });
    });

test('the disk is zeroed when it is served', async () => {
  await scene({ queues: 1 }, async (disk) => {
    assert.ok((await disk.read(0, BLOCK)).every((byte) => byte === 0));
  });
});
