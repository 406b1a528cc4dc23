/** Disks of ours under vhost_vdpa, driven by our own driver: both of its sides in one process, the kernel between them. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, type BlockDisk, openBlock, type ServeOptions } from '../../../host/index.js';
import { imageFile, withDisk } from '../disk-fixture.js';
import { kernelSeries, skip } from '../fixture.js';

const BYTES = 6 * 2 ** 20;
/** Bytes of a read or write. */
const CHUNK = 2 ** 18;

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function readAll(disk: BlockDisk): Promise<Buffer> {
  const whole = Buffer.alloc(BYTES);
  const reads: Promise<unknown>[] = [];
  for (let offset = 0; offset < BYTES; offset += CHUNK)
    reads.push(disk.read(offset, whole.subarray(offset, offset + CHUNK)));
  await Promise.all(reads);
  return whole;
}

for (const options of [
  {},
  { queues: 4 },
  { apiVersion: 0 },
  { queues: 4, groups: 2 },
] as Partial<ServeOptions>[])
  test(`the whole disk, read and rewritten, with ${JSON.stringify(options)}`, async () => {
    if (options.groups && kernelSeries() === '6.12')
      return skip('groups', 'the kernel has version 0 of the API');
    const file = imageFile(BYTES);
    await withDisk(
      new BlockDevice({ file }),
      { driver: 'vhost_vdpa', ...options },
      async ({ device, path, errors }) => {
        await using disk = await openBlock(path, { queues: options.queues });
        assert.is(disk.capacity, BYTES);
        assert.is(sha256(await readAll(disk)), sha256(readFileSync(file)));
        const bytes = randomBytes(BYTES);
        const writes: Promise<unknown>[] = [];
        for (let offset = 0; offset < BYTES; offset += CHUNK)
          writes.push(disk.write(offset, bytes.subarray(offset, offset + CHUNK)));
        await Promise.all(writes);
        await disk.flush();
        assert.is(sha256(readFileSync(file)), sha256(bytes), 'as the file has it');
        assert.is(sha256(await readAll(disk)), sha256(bytes), 'as the driver has it');
        assert.is(device.bounceBuffer, 'none');
        assert.equal(errors, []);
      },
    );
  });

test('drivers come and go, in the middle of their traffic too', async () => {
  const file = imageFile(BYTES);
  await withDisk(new BlockDevice({ file }), { driver: 'vhost_vdpa' }, async ({ path, errors }) => {
    for (let round = 0; round < 10; round++) {
      const disk = await openBlock(path);
      const reads = Array.from({ length: 32 }, (_, index) => disk.read(index * CHUNK, Buffer.alloc(CHUNK)));
      if (round % 2) await Promise.all(reads);
      await disk.close();
      await Promise.allSettled(reads);
    }
    await using disk = await openBlock(path);
    assert.is(sha256(await readAll(disk)), sha256(readFileSync(file)));
    assert.equal(errors, []);
  });
});

test('the driver sees a new size', async () => {
  await withDisk(new BlockDevice({ memory: BYTES }), { driver: 'vhost_vdpa' }, async ({ device, path }) => {
    await using disk = await openBlock(path);
    const changed = new Promise((resolve) => disk.once('config', resolve));
    await device.resize(2 * BYTES);
    await changed;
    assert.is(disk.capacity, 2 * BYTES);
  });
});

test.run();
