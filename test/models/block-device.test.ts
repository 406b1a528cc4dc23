import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RingbellError } from '../../host/errors.js';
import { BlockDevice, type BlockDeviceOptions } from '../../host/models/blk/block-device.js';
import { imageFile, nextError, rejects, scene, until, within } from './fixture.js';

const MIB = 2 ** 20;

/** Each backing of the same contents. */
const BACKINGS: [string, (path: string) => BlockDevice][] = [
  ['a file', (path) => new BlockDevice({ file: path })],
  ['a mapped file', (path) => new BlockDevice({ file: path, mapped: true })],
  ['a file opened with O_DIRECT', (path) => new BlockDevice({ file: path, direct: true })],
];

for (const mode of ['notify', 'poll'] as const)
  for (const threads of [1, 0])
    test(`a disk in memory gives back what was written, in mode ${mode} with ${threads} thread(s)`, async () => {
      if (mode === 'poll' && threads === 0) return;
      const model = new BlockDevice({ memory: MIB });
      await scene(model, { mode, threads }, async ({ disk }) => {
        assert.is(disk.capacity, MIB);
        const bytes = new Uint8Array(65536).map((_, index) => index * 7);
        await within(disk.write(8192, bytes), 'write');
        assert.equal(await within(disk.read(8192, bytes.length), 'read'), bytes);
        assert.equal(await within(disk.read(0, 512), 'read'), new Uint8Array(512));
        await within(disk.writeZeroes(8192, 4096), 'writeZeroes');
        assert.equal(await within(disk.read(8192, 4096), 'read'), new Uint8Array(4096));
      });
    });

for (const [name, make] of BACKINGS)
  test(`${name} is read and written byte for byte, flushed, and punched`, async () => {
    const image = imageFile(MIB);
    try {
      await scene(make(image.path), {}, async ({ disk }) => {
        assert.equal(Buffer.from(await within(disk.read(0, MIB), 'read')), image.contents);
        const bytes = new Uint8Array(12288).fill(0xa5);
        await within(disk.write(4096, bytes), 'write');
        await within(disk.flush(), 'flush');
        bytes.forEach((value, index) => {
          image.contents[4096 + index] = value;
        });
        assert.equal(readFileSync(image.path), image.contents);
        const blocks = statSync(image.path).blocks;
        await within(disk.discard(MIB / 2, MIB / 4), 'discard');
        assert.ok(statSync(image.path).blocks < blocks, 'discard gives storage back');
        assert.equal(await within(disk.read(MIB / 2, MIB / 4), 'read'), new Uint8Array(MIB / 4));
        await within(disk.writeZeroes(0, 65536), 'writeZeroes');
        assert.equal(readFileSync(image.path).subarray(0, 65536), Buffer.alloc(65536));
      });
    } finally {
      image.remove();
    }
  });

test('a disk in memory gives back what was discarded, and what was zeroed and unmapped', async () => {
  const blocks = () =>
    readdirSync('/proc/self/fd')
      .map((fd) => `/proc/self/fd/${fd}`)
      .filter((path) => existsSync(path) && readlinkSync(path).startsWith('/memfd:ringbell-disk'))
      .reduce((sum, path) => sum + statSync(path).blocks, 0);
  await scene(new BlockDevice({ memory: 4 * MIB }), {}, async ({ disk }) => {
    await within(disk.write(0, new Uint8Array(4 * MIB).fill(1)), 'write');
    assert.is(blocks(), (4 * MIB) / 512);
    await within(disk.discard(512, 2 * MIB - 512), 'discard');
    assert.is(blocks(), (2 * MIB + 4096) / 512);
    await within(disk.writeZeroes(2 * MIB, MIB, { unmap: true }), 'writeZeroes');
    assert.is(blocks(), (MIB + 4096) / 512);
    const expected = new Uint8Array(4 * MIB).fill(1).fill(0, 512, 3 * MIB);
    assert.equal(Buffer.compare(await within(disk.read(0, 4 * MIB), 'read'), expected), 0);
  });
});

test('many requests at once on several queues and threads keep their bytes apart', async () => {
  await scene(
    new BlockDevice({ memory: 4 * MIB }),
    { queues: 4, threads: 2, open: { queues: 4 } },
    async ({ disk }) => {
      const block = (index: number) => new Uint8Array(4096).fill(index);
      const indices = Array.from({ length: 1024 }, (_, index) => index);
      await within(Promise.all(indices.map((index) => disk.write(index * 4096, block(index)))), 'writes');
      const read = await within(Promise.all(indices.map((index) => disk.read(index * 4096, 4096))), 'reads');
      for (const index of indices) assert.equal(read[index], block(index));
    },
  );
});

test('a read-only disk refuses what would change it, and offers nothing that does', async () => {
  const image = imageFile(65536);
  try {
    await scene(new BlockDevice({ file: image.path, readOnly: true }), {}, async ({ device, disk }) => {
      assert.ok(device.features.includes('VIRTIO_BLK_F_RO'));
      assert.not(device.features.includes('VIRTIO_BLK_F_DISCARD'));
      assert.ok(disk.readOnly);
      assert.equal(Buffer.from(await within(disk.read(0, 65536), 'read')), image.contents);
    });
  } finally {
    image.remove();
  }
});

for (const where of ['memory', 'a file', 'a mapped file'])
  test(`GET_ID of a disk in ${where} answers the id`, async () => {
    const image = imageFile(MIB);
    try {
      const backing = where === 'memory' ? { memory: MIB } : { file: image.path, mapped: where !== 'a file' };
      await scene(new BlockDevice({ ...backing, id: 'serial-0815' }), {}, async ({ disk }) => {
        assert.is(await within(disk.getId(), 'getId'), 'serial-0815');
      });
    } finally {
      image.remove();
    }
  });

for (const [name, make] of BACKINGS)
  test(`${name} serves reads in one burst with a flush`, async () => {
    const image = imageFile(MIB);
    try {
      await scene(make(image.path), {}, async ({ disk }) => {
        const reads = [disk.flush(), disk.read(0, 4096), disk.flush(), disk.read(4096, 4096)];
        const [, first, , second] = await within(Promise.all(reads), 'the burst');
        assert.equal(Buffer.from(first!), image.contents.subarray(0, 4096));
        assert.equal(Buffer.from(second!), image.contents.subarray(4096, 8192));
      });
    } finally {
      image.remove();
    }
  });

for (const [name, make] of BACKINGS.slice(0, 2))
  test(`${name} grows and shrinks under its driver, which sees the new capacity`, async () => {
    const image = imageFile(MIB);
    try {
      await scene(make(image.path), {}, async ({ device, disk }) => {
        await within(disk.read(0, 512), 'read');
        await within(device.resize(2 * MIB), 'resize');
        assert.is(statSync(image.path).size, 2 * MIB);
        await until(() => disk.capacity === 2 * MIB, 'the new capacity');
        const bytes = new Uint8Array(512).fill(3);
        await within(disk.write(2 * MIB - 512, bytes), 'write');
        assert.equal(await within(disk.read(2 * MIB - 512, 512), 'read'), bytes);
        await within(device.resize(MIB), 'resize');
        await until(() => disk.capacity === MIB, 'the new capacity');
        assert.equal(Buffer.from(await within(disk.read(0, 4096), 'read')), image.contents.subarray(0, 4096));
      });
    } finally {
      image.remove();
    }
  });

test('a file that ends early is an I/O error of its request, and the device goes on', async () => {
  const image = imageFile(MIB);
  try {
    await scene(new BlockDevice({ file: image.path }), {}, async ({ device, disk, errors }) => {
      truncateSync(image.path, MIB / 2);
      const error = nextError(device);
      await rejects(within(disk.read(MIB - 4096, 4096), 'read'), 'ERR_IO');
      assert.is((await error).code, 'ERR_IO');
      assert.is(device.stats().ioErrors, 1);
      assert.equal(Buffer.from(await within(disk.read(0, 4096), 'read')), image.contents.subarray(0, 4096));
      assert.equal(errors, ['ERR_IO']);
    });
  } finally {
    image.remove();
  }
});

test('a mapped file that is truncated breaks its device, for good', async () => {
  const image = imageFile(MIB);
  try {
    await scene(new BlockDevice({ file: image.path, mapped: true }), {}, async ({ device, disk }) => {
      await within(disk.read(0, 4096), 'read');
      truncateSync(image.path, 4096);
      const error = nextError(device);
      await rejects(within(disk.read(MIB - 4096, 4096), 'read'), 'ERR_DEVICE_BROKEN');
      assert.is((await error).code, 'ERR_MEMORY_LOST');
    });
  } finally {
    image.remove();
  }
});

const MISTAKES: [BlockDeviceOptions, string][] = [
  [{}, 'BlockDevice needs either file or memory'],
  [{ file: 'x', memory: 512 }, 'BlockDevice needs either file or memory'],
  [{ file: '' }, 'file must be a path'],
  [{ memory: 0 }, 'memory must be a positive number of bytes, not 0'],
  [{ memory: 1000 }, 'memory must be a multiple of the block size of 512 bytes, not 1000'],
  [{ memory: 512, blockSize: 4096 }, 'memory must be a multiple of the block size of 4096 bytes, not 512'],
  [{ memory: 4096, blockSize: 600 }, 'blockSize must be 512, 1024, 2048 or 4096, not 600'],
  [{ memory: 512, mapped: true }, 'mapped needs a file'],
  [{ memory: 512, direct: true }, 'direct needs a file'],
  [{ file: 'x', mapped: true, direct: true }, 'a mapped file cannot be opened with direct'],
  [{ file: 'x', create: 512, readOnly: true }, 'a read-only disk cannot be created'],
  [{ file: 'x', discard: true, readOnly: true }, 'a read-only disk cannot discard'],
  [{ memory: 512, allocate: true }, 'allocate needs a file'],
  [{ file: 'x', allocate: true, readOnly: true }, 'a read-only disk cannot be allocated'],
  [{ file: 'x', allocate: true, discard: true }, 'a disk that keeps its storage cannot discard'],
  [{ memory: 512, id: 'x'.repeat(21) }, 'id must be at most 20 bytes long, not 21'],
  [
    { memory: 512, readonly: true } as BlockDeviceOptions,
    "BlockDevice has no option 'readonly': there are file, memory, create, allocate, mapped, readOnly, direct, blockSize, id, discard",
  ],
];

for (const [options, message] of MISTAKES)
  test(`options ${JSON.stringify(options)} are refused with a reason`, () => {
    assert.throws(
      () => new BlockDevice(options),
      (error: unknown) =>
        error instanceof RingbellError && error.code === 'ERR_ARGUMENT' && error.message === message,
    );
  });

test('options that are no object are refused as such', () => {
  for (const options of [undefined, null])
    assert.throws(
      () => new BlockDevice(options as never),
      (error: unknown) =>
        error instanceof TypeError &&
        error.message === `the options of BlockDevice must be an object, not ${options}`,
    );
});

test('a file that is missing, odd in size or a directory is refused when served', async () => {
  const image = imageFile(1000);
  try {
    const serve = (options: BlockDeviceOptions) => scene(new BlockDevice(options), {}, async () => {});
    await rejects(
      serve({ file: join(image.path, '..', 'none') }),
      'ERR_ARGUMENT',
      /cannot open the disk's file: ENOENT/,
    );
    await rejects(
      serve({ file: image.path }),
      'ERR_ARGUMENT',
      /must be a multiple of the block size of 512 bytes, not 1000/,
    );
    await rejects(
      serve({ file: join(image.path, '..'), readOnly: true }),
      'ERR_ARGUMENT',
      /neither a file nor a block device/,
    );
    await rejects(serve({ file: '/dev/null' }), 'ERR_ARGUMENT', /neither a file nor a block device/);
  } finally {
    image.remove();
  }
});

test('create makes a sparse file, and leaves one that is there alone', async () => {
  const image = imageFile(512);
  const path = join(image.path, '..', 'new.img');
  try {
    await scene(new BlockDevice({ file: path, create: 8 * MIB }), {}, async ({ disk }) => {
      assert.is(disk.capacity, 8 * MIB);
      assert.is(statSync(path).blocks, 0);
    });
    const fd = openSync(path, 'r+');
    ftruncateSync(fd, 4 * MIB);
    closeSync(fd);
    await scene(new BlockDevice({ file: path, create: 8 * MIB }), {}, async ({ disk }) => {
      assert.is(disk.capacity, 4 * MIB);
    });
  } finally {
    image.remove();
  }
});

test('a model is served once at a time, and again after that', async () => {
  const model = new BlockDevice({ memory: MIB });
  await scene(model, {}, async () => {
    await rejects(
      scene(model, {}, async () => {}),
      'ERR_DEVICE_BUSY',
    );
  });
  await scene(model, {}, async ({ disk }) => {
    await within(disk.read(0, 512), 'read');
  });
});

test.run();
