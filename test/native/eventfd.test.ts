import { writeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon, inWorker, thrown } from './fixture.js';

const withEventfd = async (body: (fd: number) => unknown) => {
  const fd = addon.eventfd();
  try {
    await body(fd);
  } finally {
    addon.close(fd);
  }
};

test('drain gives the number of signals since the last one', () =>
  withEventfd((fd) => {
    assert.is(addon.eventfdDrain(fd), 0);
    for (let signal = 0; signal < 3; signal++) addon.eventfdSignal(fd);
    assert.is(addon.eventfdDrain(fd), 3);
    assert.is(addon.eventfdDrain(fd), 0);
  }));

test('a saturated counter takes a signal without an error, and stays readable', () =>
  withEventfd((fd) => {
    const maximum = new BigUint64Array([2n ** 64n - 2n]);
    writeSync(fd, new Uint8Array(maximum.buffer));
    addon.eventfdSignal(fd);
    addon.eventfdSignal(fd);
    assert.is(addon.eventfdDrain(fd), 2 ** 64);
    assert.is(addon.eventfdDrain(fd), 0);
  }));

test('a signal of one thread is drained by another', () =>
  withEventfd(async (fd) => {
    addon.eventfdSignal(fd);
    const drained = await inWorker(({ addon }, fd: number, post) => {
      post(addon.eventfdDrain(fd));
      addon.eventfdSignal(fd);
    }, fd);
    assert.is(drained, 1);
    assert.is(addon.eventfdDrain(fd), 1);
  }));

test('what is no eventfd, or not open, throws code, errno and syscall', () => {
  const fd = addon.eventfd();
  addon.close(fd);
  assert.equal(
    thrown(() => addon.eventfdSignal(fd)),
    { name: 'Error', code: 'EBADF', errno: -9, syscall: 'write' },
  );
  assert.equal(
    thrown(() => addon.eventfdDrain(fd)),
    { name: 'Error', code: 'EBADF', errno: -9, syscall: 'read' },
  );
  assert.is(thrown(() => addon.eventfdSignal('1' as never)).name, 'TypeError');
  assert.is(thrown(() => addon.eventfdDrain(0.5)).name, 'RangeError');
});

test.run();
