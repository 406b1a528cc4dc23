import { readSync } from 'node:fs';
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CACHE_LINE, PAGE_SIZE } from '../../assembly/layout.js';
import { addressSpace } from '../../host/aperture/address-space.js';
import { Aperture, type ApertureHandle } from '../../host/aperture/aperture.js';
import { RuntimeError } from '../../host/aperture/web-assembly.js';
import { accessTo, addon, inWorker } from '../native/fixture.js';

const code = (expected: string) => (error: unknown) => (error as { code?: string }).code === expected;
const trap = (error: unknown) => error instanceof RuntimeError;

/** A small aperture and a file, both closed after `body`. */
async function stage(body: (aperture: Aperture, fd: number) => unknown): Promise<void> {
  const aperture = Aperture.create({ bytes: 2 ** 24, privateBytes: 2 ** 20 });
  const fd = addon.memfd('aperture-test', 4 * PAGE_SIZE, false);
  try {
    await body(aperture, fd);
  } finally {
    aperture.close();
    addon.close(fd);
  }
}

test('the first page, the last page and the window part trap; the private part does not', () =>
  stage((aperture) => {
    const wasm = accessTo(aperture.memory);
    for (const address of [0, PAGE_SIZE - 1, 2 ** 20, 2 ** 24 - 1]) {
      assert.throws(() => wasm.load(address), trap);
      assert.throws(() => wasm.store(address, 1), trap);
    }
    for (const address of [PAGE_SIZE, 2 ** 20 - 1]) wasm.store(address, 1);
    assert.is(aperture.u8[2 ** 20 - 1], 1);
    assert.is(aperture.u8.length, 2 ** 20);
  }));

test('allocate gives zeroed, aligned private memory until there is no more', () =>
  stage((aperture) => {
    const first = aperture.allocate(1);
    const second = aperture.allocate(10, 8);
    const third = aperture.allocate(1);
    assert.is(first, PAGE_SIZE);
    assert.is(second % 8, 0);
    assert.ok(second > first && third >= second + 10 && third % CACHE_LINE === 0);
    assert.is(aperture.u8[first], 0);
    assert.throws(() => aperture.allocate(2 ** 20), code('ERR_APERTURE_FULL'));
    aperture.allocate(2 ** 20 - 3 * PAGE_SIZE);
  }));

test('a window is whole pages, and its room is free again once unmapped', () =>
  stage((aperture, fd) => {
    const window = aperture.map({ fd, offset: 0n }, PAGE_SIZE + 1, 'rw');
    assert.is(window.bytes, 2 * PAGE_SIZE);
    const wasm = accessTo(aperture.memory);
    wasm.store(window.linear, 4);
    aperture.viewOwn(window)[1] = 5;
    const bytes = new Uint8Array(2);
    readSync(fd, bytes, 0, 2, 0);
    assert.equal([...bytes], [4, 5]);
    aperture.protect(window, 'r');
    assert.throws(() => wasm.store(window.linear, 1), trap);
    aperture.unmap(window);
    assert.throws(() => wasm.load(window.linear), trap);
    assert.is(aperture.map({ fd, offset: 0n }, PAGE_SIZE, 'r').linear, window.linear);
  }));

test('a window that cannot be mapped leaves its room free', () =>
  stage((aperture, fd) => {
    assert.throws(() => aperture.map({ fd: -1, offset: 0n }, PAGE_SIZE, 'rw'), code('EBADF'));
    assert.is(aperture.map({ fd, offset: 0n }, PAGE_SIZE, 'rw').linear, 2 ** 20);
  }));

test('reserved room is filled by mapAt and given back by unmap', () =>
  stage((aperture, fd) => {
    const room = aperture.reserveWindow(2 * PAGE_SIZE);
    const wasm = accessTo(aperture.memory);
    assert.throws(() => wasm.load(room.linear), trap);
    aperture.mapAt(room.linear, { fd, offset: 0n }, PAGE_SIZE, 'rw');
    wasm.store(room.linear, 1);
    assert.throws(() => aperture.mapAt(room.linear, { fd, offset: 0n }, PAGE_SIZE, 'rw'), code('EEXIST'));
    aperture.unmap(room);
    assert.throws(() => wasm.load(room.linear), trap);
    assert.is(aperture.reserveWindow(PAGE_SIZE).linear, room.linear);
  }));

test('the address space knows which file is behind a window, as long as it is mapped', () =>
  stage((aperture, fd) => {
    const window = aperture.map({ fd, offset: BigInt(PAGE_SIZE) }, PAGE_SIZE, 'rw');
    const address = aperture.address + BigInt(window.linear);
    assert.equal(addressSpace.resolve(address, 16n), [
      { address, bytes: 16n, fd, offset: BigInt(PAGE_SIZE) },
    ]);
    aperture.unmap(window);
    assert.equal(addressSpace.resolve(address, 16n), []);
  }));

test('another thread maps windows in what was shared with it, and never where this one does', () =>
  stage(async (aperture, fd) => {
    const url = new URL('../../host/aperture/aperture.js', import.meta.url).href;
    const linear = await inWorker(
      async (
        _,
        { handle, fd, url }: { handle: ApertureHandle; fd: number; url: string },
        post: (linear: number) => void,
      ) => {
        const { Aperture } = (await import(url)) as typeof import('../../host/aperture/aperture.js');
        const adopted = Aperture.adopt(handle);
        const window = adopted.map({ fd, offset: 0n }, 4096, 'rw');
        adopted.engine.copy(window.linear, window.linear + 8, 8);
        post(window.linear);
      },
      { handle: aperture.share(2 ** 20), fd, url },
    );
    const wasm = accessTo(aperture.memory);
    wasm.store(linear, 1);
    const own = aperture.map({ fd, offset: 0n }, PAGE_SIZE, 'rw');
    assert.ok(own.linear >= linear + 2 ** 20 || own.linear + PAGE_SIZE <= linear);
    assert.is(wasm.load(own.linear), 1);
  }));

test('an engine instance shares the memory', () =>
  stage((aperture) => {
    const at = aperture.allocate(64);
    aperture.u8.set([1, 2, 3], at);
    aperture.engine.copy(at + 32, at, 3);
    assert.equal([...aperture.u8.subarray(at + 32, at + 35)], [1, 2, 3]);
  }));

test('a closed aperture refuses windows with ERR_CLOSED, and closing twice is nothing', () =>
  stage((aperture, fd) => {
    const window = aperture.map({ fd, offset: 0n }, PAGE_SIZE, 'rw');
    aperture.close();
    aperture.close();
    assert.throws(() => accessTo(aperture.memory).load(window.linear), trap);
    assert.throws(() => aperture.map({ fd, offset: 0n }, PAGE_SIZE, 'rw'), code('ERR_CLOSED'));
    assert.throws(() => aperture.protect(window, 'r'), code('ERR_CLOSED'));
    assert.throws(() => aperture.guardSigbus(PAGE_SIZE), code('ERR_CLOSED'));
    aperture.unmap(window);
    assert.equal(addressSpace.resolve(aperture.address, BigInt(aperture.bytes)), []);
    assert.match(inspect(aperture), /^Aperture \{ 16 MiB at 0x[0-9a-f]+, closed \}$/);
  }));

test('sizes that no aperture has are ERR_ARGUMENT', () => {
  for (const options of [
    { bytes: 65537 },
    { bytes: 0 },
    { bytes: 2 ** 33 },
    { bytes: 2 ** 20, privateBytes: 2 ** 20 },
    { bytes: 2 ** 20, privateBytes: 5000 },
  ])
    assert.throws(() => Aperture.create(options), code('ERR_ARGUMENT'));
});

test('an aperture of 4 GiB works to its last usable page', () => {
  const aperture = Aperture.create({ bytes: 2 ** 32, privateBytes: 2 ** 20 });
  const fd = addon.memfd('far', PAGE_SIZE, false);
  const far = 2 ** 32 - 2 * PAGE_SIZE;
  aperture.mapAt(far, { fd, offset: 0n }, PAGE_SIZE, 'rw');
  aperture.engine.copy(far, PAGE_SIZE, PAGE_SIZE);
  assert.throws(() => accessTo(aperture.memory).load(far + PAGE_SIZE), trap);
  aperture.close();
  addon.close(fd);
});

test('a thousand apertures come and go', () => {
  for (let round = 0; round < 1000; round++) {
    const aperture = Aperture.create();
    aperture.close();
    if (round % 100 === 0) (globalThis as unknown as { gc?: () => void }).gc?.();
  }
});

test.run();
