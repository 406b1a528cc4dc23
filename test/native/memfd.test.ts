import { fstatSync, ftruncateSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon, thrown } from './fixture.js';

test('a memory file has the name and the size that were asked for, and reads as zeroes', () => {
  const fd = addon.memfd('named-file', 12345, false);
  assert.is(readlinkSync(`/proc/self/fd/${fd}`), '/memfd:named-file (deleted)');
  assert.is(fstatSync(fd).size, 12345);
  const bytes = new Uint8Array(100).fill(1);
  readSync(fd, bytes, 0, 100, 12000);
  assert.ok(bytes.every((byte) => byte === 0));
  addon.close(fd);
});

test('a sealed memory file can be written, and neither shrunk nor grown', () => {
  const fd = addon.memfd('sealed', 4096, true);
  assert.is(writeSync(fd, Uint8Array.of(1), 0, 1, 0), 1);
  assert.is(thrown(() => ftruncateSync(fd, 0)).code, 'EPERM');
  assert.is(thrown(() => ftruncateSync(fd, 8192)).code, 'EPERM');
  assert.is(fstatSync(fd).size, 4096);
  addon.close(fd);
});

test('a memory file that is not sealed can be resized', () => {
  const fd = addon.memfd('open', 4096, false);
  ftruncateSync(fd, 8192);
  assert.is(fstatSync(fd).size, 8192);
  addon.close(fd);
});

test('a name that is too long is cut off, between two characters', () => {
  for (const [name, shown] of [
    ['x'.repeat(300), 'x'.repeat(249)],
    ['é'.repeat(150), 'é'.repeat(124)],
    ['x'.repeat(249), 'x'.repeat(249)],
  ] as const) {
    const fd = addon.memfd(name, 4096, false);
    assert.is(readlinkSync(`/proc/self/fd/${fd}`), `/memfd:${shown} (deleted)`);
    addon.close(fd);
  }
});

test('a bad argument is refused', () => {
  assert.is(thrown(() => addon.memfd('x', -1, false)).name, 'RangeError');
  assert.is(thrown(() => addon.memfd('x', 0.5, false)).name, 'RangeError');
  assert.is(thrown(() => addon.memfd(1 as never, 1, false)).name, 'TypeError');
  assert.is(thrown(() => addon.memfd('x', 1, 'yes' as never)).name, 'TypeError');
});

test.run();
