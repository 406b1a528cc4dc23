import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  IOC_NONE,
  IOC_READ,
  IOC_WRITE,
  io,
  iocDirection,
  iocSize,
  iocType,
  ior,
  iow,
  iowr,
} from '../../host/uapi/ioc.js';

const argument = { size: 40 };

test('an ioctl number is direction, size, type and number', () => {
  assert.is(io(0xaf, 0x01), 0x0000af01);
  assert.is(iow(0xaf, 0x11, argument), 0x4028af11);
  assert.is(ior(0xaf, 0x11, argument), 0x8028af11);
  assert.is(iowr(0xaf, 0x11, argument), 0xc028af11);
});

test('a number comes apart again, also with the highest bit set', () => {
  const request = iowr(0x81, 0x15, argument);
  assert.is(iocDirection(request), IOC_READ | IOC_WRITE);
  assert.is(iocType(request), 0x81);
  assert.is(iocSize(request), 40);
  assert.is(iocDirection(io(0x81, 0x13)), IOC_NONE);
  assert.is(iocSize(io(0x81, 0x13)), 0);
});

test.run();
