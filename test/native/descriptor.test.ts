import { existsSync, fstatSync, readSync, writeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon, inProcess, thrown } from './fixture.js';

test('a duplicate is another name for the same file', () => {
  const fd = addon.memfd('original', 16, false);
  const copy = addon.duplicate(fd);
  assert.is.not(copy, fd);
  writeSync(fd, Uint8Array.of(9), 0, 1, 0);
  addon.close(fd);
  const byte = new Uint8Array(1);
  readSync(copy, byte, 0, 1, 0);
  assert.is(byte[0], 9);
  addon.close(copy);
});

test('a duplicate onto a target gives that number the other file', () => {
  const fd = addon.memfd('first', 10, false);
  const target = addon.memfd('second', 20, false);
  assert.is(addon.duplicate(fd, target), target);
  assert.is(fstatSync(target).size, 10);
  addon.close(fd);
  addon.close(target);
});

test('a duplicate of what is not open is EBADF', () => {
  const fd = addon.eventfd();
  addon.close(fd);
  assert.equal(
    thrown(() => addon.duplicate(fd)),
    { name: 'Error', code: 'EBADF', errno: -9, syscall: 'fcntl' },
  );
  assert.equal(
    thrown(() => addon.duplicate(fd, fd + 1)),
    { name: 'Error', code: 'EBADF', errno: -9, syscall: 'dup3' },
  );
});

test('close closes, once', () => {
  const fd = addon.eventfd();
  assert.ok(existsSync(`/proc/self/fd/${fd}`));
  addon.close(fd);
  assert.not(existsSync(`/proc/self/fd/${fd}`));
  assert.equal(
    thrown(() => addon.close(fd)),
    { name: 'Error', code: 'EBADF', errno: -9, syscall: 'close' },
  );
});

test('close in a worker warns of nothing', async () => {
  const outcome = await inProcess(
    async (_, url) => {
      const { startWorker } = (await import(url)) as typeof import('./fixture.js');
      const worker = startWorker(({ addon }) => addon.close(addon.eventfd()), null);
      await new Promise((resolve) => worker.once('exit', resolve));
    },
    new URL('./fixture.js', import.meta.url).href,
  );
  assert.equal(outcome, { code: 0, signal: null, stdout: '', stderr: '' });
});

test.run();
