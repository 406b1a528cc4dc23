import assert from 'node:assert/strict';
import test from 'node:test';
import { type BlockDisk, openBlock, type ServedDevice, serve } from 'ringbell';
import { Disk } from './model.js';

const BLOCK = 4096;

/** Serves the model, drives it, and leaves nothing behind. */
async function scene(
  packed: boolean,
  body: (disk: BlockDisk, device: ServedDevice) => Promise<void>,
): Promise<void> {
  const device = await serve(new Disk(), { name: 'test0', queues: 2, packed });
  try {
    const disk = await openBlock('test0', { queues: 2 });
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
  test(`what is written is read: ${packed ? 'packed' : 'split'} rings`, async () => {
    await scene(packed, async (disk, device) => {
      const offsets = Array.from({ length: disk.capacity / BLOCK }, (_, n) => n * BLOCK);
      await Promise.all(offsets.map((at, n) => disk.write(at, new Uint8Array(BLOCK).fill(n + 1))));
      const blocks = await Promise.all(offsets.map((at) => disk.read(at, BLOCK)));
      for (const [n, block] of blocks.entries()) assert.ok(block.every((byte) => byte === ((n + 1) & 0xff)));
      assert.equal(device.stats().bytesRead, disk.capacity);
      assert.equal(device.stats().bytesWritten, disk.capacity);
    });
  });
