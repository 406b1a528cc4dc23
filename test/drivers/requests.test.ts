import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_WRITE_ZEROES,
} from '../../assembly/virtio.js';
import type { ErrorCode } from '../../host/errors.js';
import { CAPACITY, diskScene, pattern, rejects } from './block-fixture.js';

test('flushes', () =>
  diskScene(async ({ disk }) => {
    await disk.flush();
    assert.is(disk.stats().requests, 1);
  }));

test('has nothing to flush on a device without a write cache', () =>
  diskScene(
    async ({ disk }) => {
      await disk.flush();
      assert.is(disk.stats().requests, 0);
    },
    { without: [VIRTIO_BLK_F_FLUSH] },
  ));

test('writes zeroes, in parts of what the device allows', () =>
  diskScene(async ({ device, disk }) => {
    device.bytes.fill(1);
    await disk.writeZeroes(512, 2 ** 20, { unmap: true });
    await disk.writeZeroes(CAPACITY - 512, 512);
    const zeroes = device.bytes.reduce((sum, byte) => sum + (byte === 0 ? 1 : 0), 0);
    assert.is(zeroes, 2 ** 20 + 512);
    assert.is(device.bytes[511], 1);
    assert.is(device.bytes[512 + 2 ** 20], 1);
    assert.is(disk.stats().requests, 3);
  }));

test('discards', () =>
  diskScene(async ({ device, disk }) => {
    device.bytes.fill(1);
    await disk.discard(4096, 8192);
    assert.ok(device.bytes.slice(4096, 4096 + 8192).every((byte) => byte === 0));
    assert.is(device.bytes[4096 + 8192], 1);
  }));

test('gets the id, up to its terminator or all 20 bytes', async () => {
  await diskScene(async ({ disk }) => assert.is(await disk.getId(), 'disk-7'), { id: 'disk-7' });
  await diskScene(async ({ disk }) => assert.is(await disk.getId(), 'abcdefghijklmnopqrst'), {
    id: 'abcdefghijklmnopqrst',
  });
});

test('a request of no bytes needs no device', () =>
  diskScene(async ({ disk }) => {
    assert.is((await disk.read(CAPACITY, 0)).length, 0);
    await disk.write(0, new Uint8Array(0));
    await disk.discard(0, 0);
    assert.is(disk.stats().requests, 0);
  }));

test('refuses what is not whole sectors of the disk, before touching the ring', () =>
  diskScene(async ({ disk }) => {
    const cases: [Promise<unknown>, ErrorCode, RegExp][] = [
      [disk.read(1, 512), 'ERR_ALIGNMENT', /512 bytes at 1: not whole sectors of 512 bytes/],
      [disk.read(0, 513), 'ERR_ALIGNMENT', /513 bytes at 0/],
      [disk.write(0, pattern(100)), 'ERR_ALIGNMENT', /write of 100 bytes/],
      [disk.discard(256, 512), 'ERR_ALIGNMENT', /discard/],
      [disk.read(CAPACITY, 512), 'ERR_OUT_OF_RANGE', new RegExp(`the disk has ${CAPACITY} bytes`)],
      [disk.read(CAPACITY - 512, 1024), 'ERR_OUT_OF_RANGE', /1024 bytes at/],
      [disk.write(-512, pattern(512)), 'ERR_OUT_OF_RANGE', /at -512/],
      [disk.read(0, -512), 'ERR_OUT_OF_RANGE', /-512 bytes/],
      [disk.writeZeroes(0, CAPACITY + 512), 'ERR_OUT_OF_RANGE', /writeZeroes/],
    ];
    for (const [call, code, message] of cases) await rejects(call, code, message);
    assert.is(disk.stats().requests, 0);
  }));

test('a value of the wrong type is a TypeError', () =>
  diskScene(async ({ disk }) => {
    for (const call of [
      () => disk.read(0.5, 512),
      () => disk.read(Number.NaN, 512),
      () => disk.read('0' as unknown as number, 512),
      () => disk.read(0, 1.5),
      () => disk.read(0, 'x' as unknown as number),
      () => disk.write(0, [1, 2] as unknown as Uint8Array),
      () => disk.discard(2 ** 60, 512),
    ]) {
      let error: unknown;
      await call().catch((caught) => {
        error = caught;
      });
      assert.instance(error, TypeError);
    }
  }));

test('options that are no object are refused as such', () =>
  diskScene(async ({ disk }) => {
    for (const [kind, call] of [
      ['read', () => disk.read(0, 512, null as never)],
      ['write', () => disk.write(0, pattern(512), null as never)],
      ['flush', () => disk.flush(null as never)],
      ['writeZeroes', () => disk.writeZeroes(0, 512, 5 as never)],
      ['batch', async () => disk.batch(null as never)],
    ] as [string, () => Promise<unknown>][]) {
      const error: unknown = await call().catch((reason: unknown) => reason);
      assert.instance(error, TypeError);
      assert.match(
        (error as TypeError).message,
        new RegExp(`^the options of ${kind} must be an object, not`),
      );
    }
  }));

test('a read that is longer than any array is refused', () =>
  diskScene(
    async ({ disk }) => {
      await rejects(
        disk.read(0, 2 ** 50),
        'ERR_ARGUMENT',
        /^read of 1125899906842624 bytes at 0: no array is as long$/,
      );
      assert.is(disk.stats().requests, 0);
    },
    { config: { capacity: 2n ** 42n } },
  ));

test('a signal that is none is refused, and so is an option that there is not', () =>
  diskScene(async ({ disk }) => {
    const calls: ((options: never) => Promise<unknown>)[] = [
      (options) => disk.read(0, 512, options),
      (options) => disk.write(0, pattern(512), options),
      (options) => disk.flush(options),
      (options) => disk.discard(0, 512, options),
      (options) => disk.writeZeroes(0, 512, options),
      (options) => disk.getId(options),
    ];
    for (const call of calls) {
      for (const signal of [1, {}, null]) {
        const error: unknown = await call({ signal } as never).catch((reason: unknown) => reason);
        assert.instance(error, TypeError);
        assert.match((error as TypeError).message, /^signal must be an AbortSignal, not /);
      }
      await rejects(
        call({ sginal: undefined } as never),
        'ERR_ARGUMENT',
        /has no option 'sginal': there are /,
      );
    }
    await rejects(disk.read(0, 512, { unmap: true } as never), 'ERR_ARGUMENT', /no option 'unmap'/);
    await rejects((async () => disk.batch({ quue: 0 } as never))(), 'ERR_ARGUMENT', /no option 'quue'/);
    assert.is(disk.stats().requests, 0);
  }));

test('a buffer that is given away on the way fails its own request, and nothing else', () =>
  diskScene(async ({ disk }) => {
    const away = (buffer: Uint8Array) =>
      structuredClone(buffer.buffer, { transfer: [buffer.buffer as ArrayBuffer] });
    const source = pattern(512);
    const target = new Uint8Array(512);
    const calls = [disk.write(0, source), disk.read(0, target), disk.read(512, 512)] as const;
    away(source);
    await Promise.resolve();
    await Promise.resolve();
    away(target);
    const [write, read, other] = await Promise.allSettled(calls);
    assert.instance((write as PromiseRejectedResult).reason, TypeError);
    assert.instance((read as PromiseRejectedResult).reason, TypeError);
    assert.is(other.status, 'fulfilled');
    assert.is(disk.stats().queues[0]?.inFlight, 0);
  }));

test('a read-only disk refuses changes before they touch the ring, and reads', () =>
  diskScene(
    async ({ device, disk }) => {
      assert.is(disk.readOnly, true);
      for (const call of [disk.write(0, pattern(512)), disk.discard(0, 512), disk.writeZeroes(0, 512)])
        await rejects(call, 'ERR_READ_ONLY', /disk0 is read-only/);
      assert.throws(
        () => disk.batch().write(0, disk.alloc(512), 0),
        (error: { code: string }) => error.code === 'ERR_READ_ONLY',
      );
      assert.is(disk.stats().requests, 0);
      device.bytes.set(pattern(512));
      assert.equal(await disk.read(0, 512), pattern(512));
      await disk.flush();
    },
    { readOnly: true },
  ));

test('says which feature a request would need', () =>
  diskScene(
    async ({ disk }) => {
      await rejects(disk.discard(0, 512), 'ERR_NOT_SUPPORTED', /VIRTIO_BLK_F_DISCARD/);
      await rejects(disk.writeZeroes(0, 512), 'ERR_NOT_SUPPORTED', /VIRTIO_BLK_F_WRITE_ZEROES/);
    },
    { without: [VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES] },
  ));

test('an I/O error of one part fails the whole call, once', () =>
  diskScene(
    async ({ device, disk }) => {
      device.shrink(CAPACITY / 2);
      await rejects(disk.read(CAPACITY / 2 - 8192, 16384), 'ERR_IO', /read of 16384 bytes/);
      assert.equal((await disk.read(0, 512)).length, 512);
    },
    {},
    { slotBytes: 4096 },
  ));

test('a request that the device does not know is named so', () =>
  diskScene(async ({ device, disk }) => {
    device.forget();
    await rejects(disk.discard(0, 512), 'ERR_UNSUPPORTED_REQUEST', /discard/);
  }));

test.run();
