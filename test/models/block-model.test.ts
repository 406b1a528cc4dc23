import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBlock } from '../../host/drivers/blk.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import { nextError, rejects, scene, until, within } from './fixture.js';

const MIB = 2 ** 20;

/** A disk in an array; asynchronous if told so. */
class ArrayDisk extends BlockModel {
  readonly capacity = MIB;
  readonly bytes = new Uint8Array(MIB);
  readonly calls: string[] = [];
  readonly wait: () => void | Promise<void>;

  constructor(wait: () => void | Promise<void> = () => {}) {
    super();
    this.wait = wait;
  }

  read(offset: number, into: Uint8Array) {
    into.set(this.bytes.subarray(offset, offset + into.length));
    return this.wait();
  }

  override write(offset: number, from: Uint8Array) {
    this.bytes.set(from, offset);
    return this.wait();
  }

  override flush() {
    this.calls.push('flush');
    return this.wait();
  }

  override discard(offset: number, length: number) {
    this.calls.push(`discard ${offset} ${length}`);
    return this.wait();
  }
}

const soon = () => new Promise<void>((resolve) => setImmediate(resolve));

for (const [name, wait] of [
  ['synchronous', () => {}],
  ['asynchronous', soon],
] as const)
  test(`a disk with ${name} handlers serves reads, writes, flushes, discards and zeroes`, async () => {
    const model = new ArrayDisk(wait);
    await scene(model, {}, async ({ device, disk }) => {
      assert.equal(device.queueThreads, []);
      const bytes = new Uint8Array(200 * 1024).map((_, index) => index * 13);
      await within(disk.write(512, bytes), 'write');
      assert.equal(model.bytes.subarray(512, 512 + bytes.length), bytes);
      assert.equal(await within(disk.read(512, bytes.length), 'read'), bytes);
      await within(disk.flush(), 'flush');
      await within(disk.discard(4096, 8192), 'discard');
      await within(disk.writeZeroes(512, 100 * 1024), 'writeZeroes');
      assert.equal(model.bytes.subarray(512, 512 + 100 * 1024), new Uint8Array(100 * 1024));
      assert.equal(model.calls, ['flush', 'discard 4096 8192']);
      const { bytesRead, bytesWritten } = device.stats();
      assert.equal([bytesRead, bytesWritten], [bytes.length, bytes.length]);
    });
  });

test('requests for which a device has no room wait on the ring', async () => {
  const waiting: (() => void)[] = [];
  const model = new ArrayDisk(() => new Promise((resolve) => waiting.push(resolve)));
  const size = { queues: 4, queueSize: 1024 };
  await scene(model, { ...size, open: size }, async ({ disk }) => {
    let ended = 0;
    const reads = Array.from({ length: 4096 }, () => disk.read(0, 512).then(() => ended++));
    let looks = 0;
    await until(() => waiting.length > 2000 && ++looks > 100, 'as many as there is room for');
    await until(() => {
      for (const resolve of waiting.splice(0)) resolve();
      return ended === reads.length;
    }, 'all of them');
  });
});

test('a capacity that turns invalid, or throws, is not looked at until a resize, which rejects', async () => {
  let capacity = () => MIB;
  class Moody extends BlockModel {
    get capacity() {
      return capacity();
    }
    read() {}
    override resize() {}
  }
  await scene(new Moody(), {}, async ({ device, disk }) => {
    capacity = () => Number.NaN;
    assert.equal(await within(disk.read(0, 512), 'read'), new Uint8Array(512));
    await rejects(within(device.resize(2 * MIB), 'resize'), 'ERR_ARGUMENT', /capacity must be/);
    capacity = () => {
      throw new TypeError('on purpose');
    };
    assert.equal(await within(disk.read(MIB - 512, 512), 'read'), new Uint8Array(512));
    const failure = await within(device.resize(2 * MIB), 'resize').catch((error) => error);
    assert.equal([failure.code, failure.cause.message], ['ERR_MODEL', 'on purpose']);
    assert.is(disk.capacity, MIB);
    capacity = () => 2 * MIB;
    await within(device.resize(2 * MIB), 'resize');
    await until(() => disk.capacity === 2 * MIB, 'the new capacity');
    assert.equal(await within(disk.read(2 * MIB - 512, 512), 'read'), new Uint8Array(512));
  });
});

test('requests of an asynchronous model are in flight together and may end in any order', async () => {
  const waiting: (() => void)[] = [];
  const model = new ArrayDisk(() => new Promise((resolve) => waiting.push(resolve)));
  model.bytes.forEach((_, index) => {
    model.bytes[index] = index >> 12;
  });
  await scene(model, {}, async ({ disk }) => {
    const reads = Array.from({ length: 64 }, (_, index) => disk.read(index * 4096, 4096));
    await until(() => waiting.length === 64, 'all requests');
    for (const resolve of waiting.reverse()) resolve();
    const results = await within(Promise.all(reads), 'reads');
    for (const [index, result] of results.entries()) assert.equal(result, new Uint8Array(4096).fill(index));
  });
});

test('a model may keep the arrays that zeroing writes', async () => {
  class Keeper extends BlockModel {
    readonly capacity = MIB;
    readonly kept = new Map<number, Uint8Array>();
    read() {}
    override write(offset: number, from: Uint8Array) {
      this.kept.set(offset, from);
    }
  }
  const model = new Keeper();
  await scene(model, {}, async ({ disk }) => {
    await within(disk.writeZeroes(0, 2 * 65536), 'writeZeroes');
    const [first, second] = model.kept.values();
    first!.fill(1);
    assert.ok(second!.every((byte) => byte === 0));
  });
});

test('more than a model may hold waits in the ring, and is served when there is room', async () => {
  class Large extends BlockModel {
    capacity = 2 ** 28;
    readonly waiting: (() => void)[] = [];
    read() {
      return new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }
  const model = new Large();
  await scene(model, { queueSize: 1024, open: { queueSize: 1024 } }, async ({ disk }) => {
    const bytes = 65536;
    const reads = Array.from({ length: 640 }, (_, index) => disk.read(index * bytes, bytes));
    await until(() => model.waiting.length === 512, 'what is taken at once');
    for (let ended = 0; ended < 640; ended++) {
      await until(() => model.waiting.length > 0, 'the next request');
      assert.ok(model.waiting.length <= 512);
      model.waiting.shift()!();
    }
    await within(Promise.all(reads), 'reads');
  });
});

test('a handler that throws or rejects fails its request, the device says so and goes on', async () => {
  const model = new ArrayDisk();
  model.read = (offset) => {
    if (offset === 0) throw new Error('no such luck');
    return offset === 512 ? Promise.reject(new Error('later, no such luck')) : undefined;
  };
  await scene(model, {}, async ({ device, disk, errors }) => {
    for (const [offset, message] of [
      [0, 'the model of disk0 failed: no such luck'],
      [512, 'the model of disk0 failed: later, no such luck'],
    ] as const) {
      const error = nextError(device);
      await rejects(within(disk.read(offset, 512), 'read'), 'ERR_IO');
      const { code, message: said, cause } = await error;
      assert.equal([code, said], ['ERR_MODEL', message]);
      assert.instance(cause, Error);
    }
    assert.equal(await within(disk.read(1024, 512), 'read'), new Uint8Array(512));
    assert.is(device.stats().ioErrors, 2);
    assert.equal(errors, ['ERR_MODEL', 'ERR_MODEL']);
  });
});

test('a model may transfer away all that is written, for as long as it likes', async () => {
  class Mover extends BlockModel {
    readonly capacity = MIB;
    read() {}
    override write(_offset: number, from: Uint8Array) {
      structuredClone(from, { transfer: [from.buffer as ArrayBuffer] });
    }
  }
  await scene(new Mover(), {}, async ({ disk }) => {
    // More in all than a queue lets a model hold at once.
    const bytes = new Uint8Array(MIB);
    for (let written = 0; written < 40; written++) await within(disk.write(0, bytes), `write ${written}`);
    assert.equal(await within(disk.read(0, 512), 'read'), new Uint8Array(512));
  });
});

for (const bytes of [4096, 65536])
  test(`a read of ${bytes} bytes whose array is transferred away before it ends is an I/O error, and the device goes on`, async () => {
    const model = new ArrayDisk();
    model.read = (offset, into) => {
      if (offset === 0) structuredClone(into, { transfer: [into.buffer as ArrayBuffer] });
    };
    await scene(model, {}, async ({ device, disk, errors }) => {
      const error = nextError(device);
      await rejects(within(disk.read(0, bytes), 'read'), 'ERR_IO');
      const { message, cause } = await error;
      assert.is(message, 'the model of disk0 failed: it transferred away the array of a read');
      assert.instance(cause, TypeError);
      assert.equal(await within(disk.read(512, 512), 'the next read'), new Uint8Array(512));
      assert.is(device.stats().ioErrors, 1);
      assert.equal(errors, ['ERR_MODEL']);
    });
  });

/** Transfers it away later than whoever waits for the end of the read, and earlier than the next turn, which gives it back. */
const moveLater = (into: Uint8Array) => {
  process.nextTick(() =>
    queueMicrotask(() => structuredClone(into, { transfer: [into.buffer as ArrayBuffer] })),
  );
  return Promise.resolve();
};

test('a short read whose array is transferred away after it has ended has its bytes', async () => {
  const model = new ArrayDisk();
  model.read = (_offset, into) => moveLater(into.fill(3));
  await scene(model, {}, async ({ disk, errors }) => {
    assert.equal(await within(disk.read(0, 4096), 'read'), new Uint8Array(4096).fill(3));
    assert.equal(errors, []);
  });
});

test('a long read whose array is transferred away after it has ended is an I/O error, and the device goes on', async () => {
  const model = new ArrayDisk();
  model.read = (offset, into) => (offset === 0 ? moveLater(into) : undefined);
  await scene(model, {}, async ({ device, disk, errors }) => {
    const error = nextError(device);
    await rejects(within(disk.read(0, 65536), 'read'), 'ERR_IO');
    const { message } = await error;
    assert.is(
      message,
      'the model of disk0 failed: it transferred away the bytes of a chain that it has completed',
    );
    assert.equal(await within(disk.read(512, 512), 'the next read'), new Uint8Array(512));
    assert.is(device.stats().ioErrors, 1);
    assert.equal(errors, ['ERR_MODEL']);
  });
});

test('a model without write is a read-only disk', async () => {
  class Squares extends BlockModel {
    capacity = 1 << 20;
    read(offset: number, into: Uint8Array) {
      for (let index = 0; index < into.length; index++) into[index] = (offset + index) ** 2;
    }
  }
  await scene(new Squares(), {}, async ({ device, disk }) => {
    assert.ok(disk.readOnly);
    assert.ok(device.features.includes('VIRTIO_BLK_F_RO'));
    const expected = new Uint8Array(1024).map((_, index) => (4096 + index) ** 2);
    assert.equal(await within(disk.read(4096, 1024), 'read'), expected);
  });
});

test('a completion that comes after the driver has gone is dropped, and the next driver is served', async () => {
  const waiting: (() => void)[] = [];
  let hold = true;
  const model = new ArrayDisk(() => (hold ? new Promise((resolve) => waiting.push(resolve)) : undefined));
  await scene(model, {}, async ({ bus, disk }) => {
    const read = disk.read(0, 512).catch((error: unknown) => error);
    await until(() => waiting.length === 1, 'the request');
    hold = false;
    const closing = disk.close();
    waiting[0]!();
    await within(closing, 'close');
    await read;
    const again = await within(openBlock('disk0', { bus }), 'openBlock');
    assert.equal(await within(again.read(0, 512), 'read'), new Uint8Array(512));
    await within(again.close(), 'close');
  });
});

test('a capacity, block size or id that cannot be is refused when served', async () => {
  const serve = async (change: object) => {
    await scene(Object.assign(new ArrayDisk(), change), {}, async () => {});
  };
  await rejects(
    serve({ capacity: 1000 }),
    'ERR_ARGUMENT',
    /^capacity must be a multiple of the block size of 512 bytes, not 1000$/,
  );
  await rejects(
    serve({ capacity: -512 }),
    'ERR_ARGUMENT',
    /^capacity must be a positive number of bytes, not -512$/,
  );
  await rejects(
    serve({ blockSize: 100 }),
    'ERR_ARGUMENT',
    /^blockSize must be 512, 1024, 2048 or 4096, not 100$/,
  );
  await rejects(serve({ id: 'x'.repeat(30) }), 'ERR_ARGUMENT', /^id must be at most 20 bytes long, not 30$/);
});

test('a model that can resize does so with its driver told, one that cannot says so', async () => {
  class Growing extends BlockModel {
    capacity = MIB;
    read() {}
    override resize(bytes: number) {
      this.capacity = bytes;
    }
  }
  await scene(new Growing(), {}, async ({ device, disk }) => {
    await within(device.resize(2 * MIB), 'resize');
    await until(() => disk.capacity === 2 * MIB, 'the new capacity');
    assert.equal(await within(disk.read(2 * MIB - 512, 512), 'read'), new Uint8Array(512));
    await rejects(device.resize(1000), 'ERR_ARGUMENT');
  });
  await scene(new ArrayDisk(), {}, async ({ device }) => {
    await rejects(device.resize(512), 'ERR_NOT_SUPPORTED');
  });
});

for (const [how, resize] of [
  [
    'throws',
    () => {
      throw new Error('no room');
    },
  ],
  ['rejects', async () => Promise.reject(new Error('no room'))],
] as const)
  test(`a resize that ${how} is an error of the model, and nothing is left unhandled`, async () => {
    const model = Object.assign(new ArrayDisk(), { resize });
    const unhandled: unknown[] = [];
    const listener = (reason: unknown) => unhandled.push(reason);
    process.on('unhandledRejection', listener);
    try {
      await scene(model, {}, async ({ device, disk }) => {
        const failure = await within(device.resize(2 * MIB), 'resize').catch((error) => error);
        assert.equal([failure.code, failure.cause?.message], ['ERR_MODEL', 'no room']);
        assert.is(failure.message, 'the model failed to resize: no room');
        await soon();
        assert.equal(unhandled, []);
        assert.equal(await within(disk.read(0, 512), 'read'), new Uint8Array(512));
      });
    } finally {
      process.off('unhandledRejection', listener);
    }
  });

test.run();
