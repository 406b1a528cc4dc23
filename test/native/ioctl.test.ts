import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon, thrown } from './fixture.js';

/** Bytes left to read, as an int (asm-generic/ioctls.h). */
const FIONREAD = 0x541b;
/** Discards what a terminal holds; the argument is an integer (asm-generic/ioctls.h). */
const TCFLSH = 0x540b;
const TCIFLUSH = 0;
/** Shares a range between two files; the argument is the source's descriptor (linux/fs.h). */
const FICLONE = 0x40049409;
/** _IOR('f', 1, long): a number that says its own size. */
const FS_IOC_GETFLAGS = 0x80086601;

const withMemfd = async (bytes: number, body: (fd: number) => unknown) => {
  const fd = addon.memfd('ioctl-test', bytes, false);
  try {
    await body(fd);
  } finally {
    addon.close(fd);
  }
};

test('an ioctl writes into the buffer in place', () =>
  withMemfd(1234, (fd) => {
    const argument = new Uint8Array(8).fill(0xaa);
    assert.is(addon.ioctl(fd, FIONREAD, argument), 0);
    assert.is(new DataView(argument.buffer).getInt32(0, true), 1234);
    assert.equal([...argument.subarray(4)], [0xaa, 0xaa, 0xaa, 0xaa]);
  }));

test('a prepared ioctl is made with the same arguments each time, of a buffer with a copy', () => {
  const fd = addon.memfd('ioctl-test', 4096, false);
  const argument = new Uint8Array(4).fill(0xaa);
  const bytesLeft = addon.prepareIoctl(fd, FIONREAD, argument);
  assert.equal([bytesLeft(), bytesLeft(), argument[0]], [0, 0, 0xaa]);
  addon.close(fd);
  assert.is(thrown(bytesLeft).code, 'EBADF');
  assert.is(thrown(() => addon.prepareIoctl(0, FS_IOC_GETFLAGS, argument)).name, 'RangeError');
});

test('an ioctl works on a view into the middle of a buffer', () =>
  withMemfd(77, (fd) => {
    const whole = new Uint8Array(16);
    addon.ioctl(fd, FIONREAD, whole.subarray(4, 8));
    assert.equal([...whole.subarray(0, 8)], [0, 0, 0, 0, 77, 0, 0, 0]);
  }));

test('an ioctl takes an integer', () => {
  if (!existsSync('/dev/ptmx')) return console.log('skipped: no /dev/ptmx to flush');
  const fd = openSync('/dev/ptmx', constants.O_RDWR | constants.O_NOCTTY);
  assert.is(addon.ioctl(fd, TCFLSH, TCIFLUSH), 0);
  assert.is(thrown(() => addon.ioctl(fd, TCFLSH, 99)).code, 'EINVAL');
  closeSync(fd);
});

test('an ioctl that fails throws code, errno and syscall', () =>
  withMemfd(1, (fd) => {
    assert.equal(
      thrown(() => addon.ioctl(fd, 0xdead)),
      { name: 'Error', code: 'ENOTTY', errno: -25, syscall: 'ioctl' },
    );
    assert.equal(
      thrown(() => addon.ioctl(-1, FIONREAD, new Uint8Array(4))),
      { name: 'Error', code: 'EBADF', errno: -9, syscall: 'ioctl' },
    );
  }));

test('errno 95 has the name that the kernel gives it, not the one of libuv', () =>
  withMemfd(1, (fd) => {
    assert.equal(
      thrown(() => addon.ioctl(fd, FICLONE, fd)),
      { name: 'Error', code: 'EOPNOTSUPP', errno: -95, syscall: 'ioctl' },
    );
  }));

test('a buffer that is shorter than the request says is a RangeError', () =>
  withMemfd(1, async (fd) => {
    assert.is(thrown(() => addon.ioctl(fd, FS_IOC_GETFLAGS, new Uint8Array(7))).name, 'RangeError');
    assert.is(thrown(() => addon.ioctlAsync(fd, FS_IOC_GETFLAGS, new Uint8Array(7))).name, 'RangeError');
  }));

test('arguments of other types are refused', () =>
  withMemfd(1, (fd) => {
    assert.is(thrown(() => addon.ioctl(fd, -1)).name, 'RangeError');
    assert.is(thrown(() => addon.ioctl(fd, 2 ** 32)).name, 'RangeError');
    assert.is(thrown(() => addon.ioctl(fd, FIONREAD, 'x' as never)).name, 'TypeError');
    assert.is(thrown(() => addon.ioctl(fd, FIONREAD, new Uint32Array(1) as never)).name, 'TypeError');
    assert.is(thrown(() => addon.ioctl('1' as never, FIONREAD)).name, 'TypeError');
  }));

test('ioctlAsync resolves once the buffer holds the answer', () =>
  withMemfd(4321, async (fd) => {
    const argument = new Uint8Array(4);
    const pending = addon.ioctlAsync(fd, FIONREAD, argument);
    assert.equal([...argument], [0, 0, 0, 0]);
    assert.is(await pending, 0);
    assert.is(new DataView(argument.buffer).getInt32(0, true), 4321);
  }));

test('ioctlAsync rejects with code, errno and syscall', () =>
  withMemfd(1, async (fd) => {
    const error = await addon.ioctlAsync(fd, 0xdead).then(
      () => assert.unreachable('resolved'),
      (reason) => reason,
    );
    assert.ok(error instanceof Error);
    const { code, errno, syscall } = error as NodeJS.ErrnoException;
    assert.equal({ code, errno, syscall }, { code: 'ENOTTY', errno: -25, syscall: 'ioctl' });
  }));

test('ioctlAsync survives that its buffer is transferred away meanwhile', () =>
  withMemfd(5, async (fd) => {
    const argument = new Uint8Array(4);
    const pending = addon.ioctlAsync(fd, FIONREAD, argument);
    const moved = structuredClone(argument, { transfer: [argument.buffer] });
    assert.is(await pending, 0);
    assert.is(argument.length, 0);
    assert.equal([...moved], [0, 0, 0, 0]);
  }));

test.run();
