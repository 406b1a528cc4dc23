import { readFileSync, readSync, writeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { RuntimeError } from '../../host/aperture/web-assembly.js';
import { ERRNO } from '../../host/errors.js';
import { accessTo, addon, newMemory, thrown } from './fixture.js';

/** Where windows begin in these memories. */
const WINDOWS = 65536;

/** A memory with everything from WINDOWS on reserved, and a file of `pages`. */
function stage({ bytes = 2 ** 20, pages = 4 } = {}) {
  const { memory, view } = newMemory(bytes);
  addon.reserve(view, WINDOWS, bytes - WINDOWS);
  const fd = addon.memfd('window-test', pages * PAGE_SIZE, false);
  return {
    memory,
    view,
    fd,
    wasm: accessTo(memory),
    source: { fd, offset: 0n },
    close() {
      addon.release(view);
      addon.close(fd);
    },
  };
}

const errno = (code: keyof typeof ERRNO, syscall: string) => ({
  name: 'Error',
  code,
  errno: -ERRNO[code],
  syscall,
});

test('a window, its file, WASM and a second memory see the same bytes', () => {
  const one = stage();
  const two = stage();
  addon.map(one.view, WINDOWS, PAGE_SIZE, one.source, 'rw');
  addon.map(two.view, WINDOWS + PAGE_SIZE, PAGE_SIZE, one.source, 'rw');
  one.view[WINDOWS + 1] = 11;
  one.wasm.store(WINDOWS + 2, 22);
  writeSync(one.fd, Uint8Array.of(33), 0, 1, 3);
  two.wasm.store(WINDOWS + PAGE_SIZE + 4, 44);
  const expected = [0, 11, 22, 33, 44];
  const read = new Uint8Array(5);
  readSync(one.fd, read, 0, 5, 0);
  assert.equal([...read], expected);
  assert.equal([...one.view.subarray(WINDOWS, WINDOWS + 5)], expected);
  assert.equal(
    expected.map((_, index) => two.wasm.load(WINDOWS + PAGE_SIZE + index)),
    expected,
  );
  one.close();
  two.close();
});

test('a window shows the file from the offset that was asked for', () => {
  const { view, fd, wasm, close } = stage();
  writeSync(fd, Uint8Array.of(7), 0, 1, 2 * PAGE_SIZE);
  addon.map(view, WINDOWS, PAGE_SIZE, { fd, offset: BigInt(2 * PAGE_SIZE) }, 'r');
  assert.is(wasm.load(WINDOWS), 7);
  close();
});

test('a window that is not shared keeps its writes to itself', () => {
  const { view, fd, wasm, close } = stage();
  addon.map(view, WINDOWS, PAGE_SIZE, { fd, offset: 0n, shared: false }, 'rw');
  wasm.store(WINDOWS, 9);
  const read = new Uint8Array(1);
  readSync(fd, read, 0, 1, 0);
  assert.is(wasm.load(WINDOWS), 9);
  assert.is(read[0], 0);
  close();
});

test('a window outlives the descriptor that it was mapped from', () => {
  const { view, wasm } = stage();
  const fd = addon.memfd('short-lived', PAGE_SIZE, false);
  addon.map(view, WINDOWS, PAGE_SIZE, { fd, offset: 0n }, 'rw');
  addon.close(fd);
  wasm.store(WINDOWS, 5);
  assert.is(wasm.load(WINDOWS), 5);
  addon.release(view);
});

test('windows of a memory that was forgotten stay, and take no more, until the memory is collected', async () => {
  const mapped = () => readFileSync('/proc/self/maps', 'utf8').includes('memfd:forgotten ');
  const stay = () => {
    const { view, wasm } = stage();
    const fd = addon.memfd('forgotten', PAGE_SIZE, true);
    addon.map(view, WINDOWS, PAGE_SIZE, { fd, offset: 0n }, 'rw');
    wasm.store(WINDOWS, 5);
    addon.forget(view);
    addon.forget(view);
    assert.is(wasm.load(WINDOWS), 5);
    assert.equal(
      thrown(() => addon.map(view, WINDOWS + PAGE_SIZE, PAGE_SIZE, { fd, offset: 0n }, 'rw')),
      errno('ERANGE', 'mmap'),
    );
    addon.close(fd);
    assert.ok(mapped());
  };
  stay();
  // V8 frees memory of collected buffers in its own time.
  const deadline = performance.now() + 10_000;
  while (mapped()) {
    assert.ok(performance.now() < deadline, 'the window is still mapped');
    globalThis.gc?.();
    await new Promise(setImmediate);
  }
});

test('WASM that reads or writes reserved space traps, and can go on', () => {
  const { wasm, close } = stage();
  assert.throws(
    () => wasm.load(WINDOWS),
    (error: unknown) => error instanceof RuntimeError,
  );
  assert.throws(
    () => wasm.store(WINDOWS, 1),
    (error: unknown) => error instanceof RuntimeError,
  );
  wasm.store(8, 3);
  assert.is(wasm.load(8), 3);
  close();
});

test('an unmapped window traps', () => {
  const { view, source, wasm, close } = stage();
  addon.map(view, WINDOWS, PAGE_SIZE, source, 'rw');
  wasm.store(WINDOWS, 1);
  addon.unmap(view, WINDOWS, PAGE_SIZE);
  assert.throws(
    () => wasm.load(WINDOWS),
    (error: unknown) => error instanceof RuntimeError,
  );
  close();
});

test('a WASM store to a read-only window traps and changes nothing', () => {
  const { view, source, wasm, close } = stage();
  addon.map(view, WINDOWS, PAGE_SIZE, source, 'r');
  assert.is(wasm.load(WINDOWS), 0);
  assert.throws(
    () => wasm.store(WINDOWS, 1),
    (error: unknown) => error instanceof RuntimeError,
  );
  assert.is(wasm.load(WINDOWS), 0);
  close();
});

test('a window of protection none traps until protect opens it', () => {
  const { view, source, wasm, close } = stage();
  addon.map(view, WINDOWS, PAGE_SIZE, source, 'none');
  assert.throws(
    () => wasm.load(WINDOWS),
    (error: unknown) => error instanceof RuntimeError,
  );
  addon.protect(view, WINDOWS, PAGE_SIZE, 'rw');
  wasm.store(WINDOWS, 6);
  addon.protect(view, WINDOWS, PAGE_SIZE, 'r');
  assert.is(wasm.load(WINDOWS), 6);
  assert.throws(
    () => wasm.store(WINDOWS, 1),
    (error: unknown) => error instanceof RuntimeError,
  );
  close();
});

test('a write-only window takes writes', () => {
  const { view, fd, source, wasm, close } = stage();
  addon.map(view, WINDOWS, PAGE_SIZE, source, 'w');
  wasm.store(WINDOWS, 6);
  const read = new Uint8Array(1);
  readSync(fd, read, 0, 1, 0);
  assert.is(read[0], 6);
  close();
});

test('a window over a window is EEXIST, wherever they overlap', () => {
  const { view, source, wasm, close } = stage();
  addon.map(view, WINDOWS + PAGE_SIZE, 2 * PAGE_SIZE, source, 'rw');
  wasm.store(WINDOWS + PAGE_SIZE, 1);
  for (const [page, pages] of [
    [1, 2],
    [0, 2],
    [2, 2],
    [0, 4],
    [1, 1],
    [2, 1],
  ] as const)
    assert.equal(
      thrown(() => addon.map(view, WINDOWS + page * PAGE_SIZE, pages * PAGE_SIZE, source, 'rw')),
      errno('EEXIST', 'mmap'),
    );
  assert.equal(
    thrown(() => addon.reserve(view, WINDOWS, 4 * PAGE_SIZE)),
    errno('EEXIST', 'mmap'),
  );
  assert.is(wasm.load(WINDOWS + PAGE_SIZE), 1);
  // Neighbours are no overlap.
  addon.map(view, WINDOWS, PAGE_SIZE, source, 'rw');
  addon.map(view, WINDOWS + 3 * PAGE_SIZE, PAGE_SIZE, source, 'rw');
  close();
});

test('anything outside of what was reserved is ERANGE', () => {
  const { view, source, close } = stage();
  for (const [offset, length] of [
    [0, PAGE_SIZE],
    [WINDOWS - PAGE_SIZE, 2 * PAGE_SIZE],
    [2 ** 20 - PAGE_SIZE, 2 * PAGE_SIZE],
    [2 ** 20, PAGE_SIZE],
    [2 ** 40, PAGE_SIZE],
  ] as const) {
    assert.equal(
      thrown(() => addon.map(view, offset, length, source, 'rw')),
      errno('ERANGE', 'mmap'),
    );
    assert.equal(
      thrown(() => addon.unmap(view, offset, length)),
      errno('ERANGE', 'munmap'),
    );
  }
  assert.equal(
    thrown(() => addon.reserve(view, 2 ** 20, PAGE_SIZE)),
    errno('ERANGE', 'mmap'),
  );
  const stranger = newMemory();
  assert.equal(
    thrown(() => addon.map(stranger.view, WINDOWS, PAGE_SIZE, source, 'rw')),
    errno('ERANGE', 'mmap'),
  );
  close();
});

test('what is not whole pages, or no range at all, is a RangeError or a TypeError', () => {
  const { view, fd, source, close } = stage();
  for (const [offset, length] of [
    [WINDOWS + 1, PAGE_SIZE],
    [WINDOWS, PAGE_SIZE - 1],
    [WINDOWS, 0],
    [-PAGE_SIZE, PAGE_SIZE],
    [WINDOWS, Number.NaN],
    [WINDOWS, Number.POSITIVE_INFINITY],
    [WINDOWS + 0.5, PAGE_SIZE],
  ] as const)
    assert.is(thrown(() => addon.map(view, offset, length, source, 'rw')).name, 'RangeError');
  for (const offset of [1n, -4096n, 2n ** 63n, 2n ** 64n])
    assert.is(thrown(() => addon.map(view, WINDOWS, PAGE_SIZE, { fd, offset }, 'rw')).name, 'RangeError');
  const part = new Uint8Array(view.buffer, PAGE_SIZE);
  assert.is(thrown(() => addon.map(part, WINDOWS, PAGE_SIZE, source, 'rw')).name, 'RangeError');
  for (const call of [
    () => addon.map(view, '65536' as never, PAGE_SIZE, source, 'rw'),
    () => addon.map(view, WINDOWS, PAGE_SIZE, source, 'rwx' as never),
    () => addon.map(view, WINDOWS, PAGE_SIZE, undefined as never, 'rw'),
    () => addon.map(view, WINDOWS, PAGE_SIZE, { fd, offset: 0 as never }, 'rw'),
    () => addon.map(view.buffer as never, WINDOWS, PAGE_SIZE, source, 'rw'),
    () => addon.map(new Int32Array(view.buffer) as never, WINDOWS, PAGE_SIZE, source, 'rw'),
    () => (addon.map as () => void)(),
  ])
    assert.is(thrown(call).name, 'TypeError');
  close();
});

test('an mmap that the kernel refuses leaves reserved space behind', () => {
  const { view, source, wasm, close } = stage();
  assert.equal(
    thrown(() => addon.map(view, WINDOWS, PAGE_SIZE, { fd: -1, offset: 0n }, 'rw')),
    errno('EBADF', 'mmap'),
  );
  const eventfd = addon.eventfd();
  assert.equal(
    thrown(() => addon.map(view, WINDOWS, PAGE_SIZE, { fd: eventfd, offset: 0n }, 'rw')),
    errno('ENODEV', 'mmap'),
  );
  addon.close(eventfd);
  assert.throws(
    () => wasm.load(WINDOWS),
    (error: unknown) => error instanceof RuntimeError,
  );
  addon.map(view, WINDOWS, PAGE_SIZE, source, 'rw');
  assert.is(wasm.load(WINDOWS), 0);
  close();
});

test('unmap cuts windows, and takes many at once', () => {
  const { view, source, wasm, close } = stage();
  addon.map(view, WINDOWS, 4 * PAGE_SIZE, source, 'rw');
  addon.map(view, WINDOWS + 4 * PAGE_SIZE, 4 * PAGE_SIZE, source, 'rw');
  addon.unmap(view, WINDOWS + PAGE_SIZE, 6 * PAGE_SIZE);
  assert.is(wasm.load(WINDOWS), 0);
  assert.is(wasm.load(WINDOWS + 7 * PAGE_SIZE), 0);
  for (const page of [1, 3, 4, 6])
    assert.throws(
      () => wasm.load(WINDOWS + page * PAGE_SIZE),
      (error: unknown) => error instanceof RuntimeError,
    );
  addon.map(view, WINDOWS + PAGE_SIZE, 4 * PAGE_SIZE, source, 'rw');
  assert.is(wasm.load(WINDOWS + PAGE_SIZE), 0);
  close();
});

test('protect of anything but windows is ENOMEM, as mprotect says', () => {
  const { view, source, close } = stage();
  addon.map(view, WINDOWS, PAGE_SIZE, source, 'rw');
  for (const [offset, length] of [
    [WINDOWS, 2 * PAGE_SIZE],
    [WINDOWS + PAGE_SIZE, PAGE_SIZE],
    [0, PAGE_SIZE],
  ] as const)
    assert.equal(
      thrown(() => addon.protect(view, offset, length, 'r')),
      errno('ENOMEM', 'mprotect'),
    );
  close();
});

test('release makes every window inaccessible, and the memory can be reserved anew', () => {
  const { view, fd, source, wasm, close } = stage();
  addon.map(view, WINDOWS, PAGE_SIZE, source, 'rw');
  addon.release(view);
  assert.throws(
    () => wasm.load(WINDOWS),
    (error: unknown) => error instanceof RuntimeError,
  );
  assert.equal(
    thrown(() => addon.map(view, WINDOWS, PAGE_SIZE, source, 'rw')),
    errno('ERANGE', 'mmap'),
  );
  addon.release(view);
  addon.reserve(view, WINDOWS, PAGE_SIZE);
  writeSync(fd, Uint8Array.of(8), 0, 1, 0);
  addon.map(view, WINDOWS, PAGE_SIZE, source, 'r');
  assert.is(wasm.load(WINDOWS), 8);
  close();
});

test('a memory of 4 GiB takes a window at its very end, and costs next to nothing', () => {
  const before = process.memoryUsage().rss;
  const bytes = 2 ** 32;
  const { memory, view } = newMemory(bytes);
  addon.reserve(view, WINDOWS, bytes - WINDOWS);
  const fd = addon.memfd('far', PAGE_SIZE, false);
  const wasm = accessTo(memory);
  addon.map(view, bytes - PAGE_SIZE, PAGE_SIZE, { fd, offset: 0n }, 'rw');
  wasm.store(bytes - 1, 77);
  assert.is(view[bytes - 1], 77);
  assert.throws(
    () => wasm.load(bytes - PAGE_SIZE - 1),
    (error: unknown) => error instanceof RuntimeError,
  );
  assert.ok(process.memoryUsage().rss - before < 2 ** 26);
  addon.release(view);
  addon.close(fd);
});

test('a window of 2 GiB of a sparse file is mapped whole', () => {
  const { memory, view } = newMemory(2 ** 32);
  addon.reserve(view, WINDOWS, 2 ** 32 - WINDOWS);
  const fd = addon.memfd('sparse', 2 ** 31, true);
  addon.map(view, 2 ** 30, 2 ** 31, { fd, offset: 0n }, 'rw');
  const wasm = accessTo(memory);
  wasm.store(2 ** 30 + 2 ** 31 - 1, 1);
  const read = new Uint8Array(1);
  readSync(fd, read, 0, 1, 2 ** 31 - 1);
  assert.is(read[0], 1);
  addon.release(view);
  addon.close(fd);
});

test('address is where the memory begins', () => {
  const { view } = newMemory();
  const address = addon.address(view);
  assert.is(typeof address, 'bigint');
  assert.is(address % BigInt(PAGE_SIZE), 0n);
  assert.is(addon.address(new Uint8Array(view.buffer)), address);
  assert.is.not(addon.address(newMemory().view), address);
});

test.run();
