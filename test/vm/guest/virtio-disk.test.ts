/** Disks of ours as disks of the kernel: every kind of device and request, and what the backing file then holds. */
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, BlockModel } from '../../../host/index.js';
import { imageFile, run, withDisk } from '../disk-fixture.js';
import { shell, until } from '../fixture.js';

const BYTES = 32 * 2 ** 20;

/** Random reads and writes, each block with a checksum that is verified when it is read, and at the end once more. */
const verify = (path: string, size = '8m') =>
  `fio --name=verify --filename=${path} --rw=randrw --bsrange=4k-64k --size=${size} --direct=1 --iodepth=16 \
   --ioengine=io_uring --verify=crc32c --verify_fatal=1 --do_verify=1 --output-format=terse`;

/** A disk whose bytes are a Map: all of its requests are answered by JavaScript, some of them later. */
class Sparse extends BlockModel {
  override capacity = BYTES;
  readonly #pages = new Map<number, Uint8Array>();

  override async read(offset: number, into: Uint8Array): Promise<void> {
    // Every now and then another request overtakes.
    if (offset % 65536 === 0) await new Promise((resolve) => setImmediate(resolve));
    for (let done = 0; done < into.length; done += 512) {
      const page = this.#pages.get(offset + done);
      if (page) into.set(page, done);
      else into.fill(0, done, done + 512);
    }
  }

  override write(offset: number, from: Uint8Array): void {
    for (let done = 0; done < from.length; done += 512)
      this.#pages.set(offset + done, from.slice(done, done + 512));
  }
}

test('a file: random traffic with verification, discard and zeroes; the file is what the kernel sees', async () => {
  const file = imageFile(BYTES);
  await withDisk(new BlockDevice({ file }), { driver: 'virtio_vdpa' }, async ({ device, path, errors }) => {
    shell(`cmp ${path} ${file}`);
    await run(verify(path));
    shell(`blkdiscard -o 20971520 -l 4194304 ${path}; blkdiscard -z -o 25165824 -l 4194304 ${path}`);
    shell(`fio --name=trim --filename=${path} --rw=randtrim --bs=4k --offset=28m --size=2m --direct=1 --iodepth=8 \
      --ioengine=libaio --output-format=terse`);
    shell(`sync; echo 3 > /proc/sys/vm/drop_caches; cmp ${path} ${file}`);
    assert.not(
      readFileSync(file)
        .subarray(20_971_520, 29_360_128)
        .some((byte) => byte !== 0),
    );
    assert.ok(device.stats().requests > 500);
    assert.equal(errors, []);
  });
});

for (const [what, model] of [
  ['memory', new BlockDevice({ memory: BYTES })],
  ['a model in JavaScript', new Sparse()],
] as const)
  test(`${what}: random traffic with verification`, async () => {
    await withDisk(model, { driver: 'virtio_vdpa' }, async ({ path, errors }) => {
      await run(verify(path, '4m'));
      assert.equal(errors, []);
    });
  });

test('a read-only disk is read-only for the kernel', async () => {
  const file = imageFile(BYTES);
  await withDisk(new BlockDevice({ file, readOnly: true }), { driver: 'virtio_vdpa' }, async ({ path }) => {
    assert.is(shell(`blockdev --getro ${path}`), '1\n');
    assert.throws(() => shell(`dd if=/dev/zero of=${path} bs=4k count=1 oflag=direct`));
    shell(`cmp ${path} ${file}`);
  });
});

test('queues that the kernel has no CPU for stay unused, and do no harm', async () => {
  await withDisk(new BlockDevice({ memory: BYTES }), { driver: 'virtio_vdpa', queues: 4 }, async (disk) => {
    await run(verify(disk.path, '2m'));
    assert.ok(disk.device.stats().queues[0]!.requests > 0);
    assert.equal(disk.errors, []);
  });
});

test('the kernel sees a new size at once', async () => {
  const file = imageFile(BYTES);
  await withDisk(new BlockDevice({ file }), { driver: 'virtio_vdpa' }, async ({ device, path }) => {
    const size = () => Number(shell(`blockdev --getsize64 ${path}`));
    assert.is(size(), BYTES);
    for (const bytes of [2 * BYTES, BYTES]) {
      await device.resize(bytes);
      await until(`a disk of ${bytes} bytes`, () => size() === bytes);
    }
    shell(`cmp ${path} ${file}`);
  });
});

test.run();
