import { closeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addressSpace } from '../../host/aperture/address-space.js';
import { loadAddon } from '../../host/native/addon.js';

/** No process maps anything here. */
const BASE = 0x1000n;

function cleanly(body: () => void): void {
  try {
    body();
  } finally {
    addressSpace.remove(BASE, 0x100000);
  }
}

test('an address resolves to the file and the offset behind it', () =>
  cleanly(() => {
    addressSpace.add(BASE, 0x2000, { fd: 3, offset: 0x5000n });
    assert.equal(addressSpace.resolve(BASE + 0x800n, 0x1000n), [
      { address: BASE + 0x800n, bytes: 0x1000n, fd: 3, offset: 0x5800n },
    ]);
  }));

test('a range over several mappings resolves to each in turn, without what lies between', () =>
  cleanly(() => {
    addressSpace.add(BASE + 0x4000n, 0x1000, { fd: 5, offset: 0n });
    addressSpace.add(BASE, 0x1000, { fd: 4, offset: 0n });
    assert.equal(addressSpace.resolve(BASE + 0x800n, 0x4000n), [
      { address: BASE + 0x800n, bytes: 0x800n, fd: 4, offset: 0x800n },
      { address: BASE + 0x4000n, bytes: 0x800n, fd: 5, offset: 0n },
    ]);
  }));

test('private mappings and unknown addresses resolve to nothing', () =>
  cleanly(() => {
    addressSpace.add(BASE, 0x1000, { fd: 3, offset: 0n, shared: false });
    assert.equal(addressSpace.resolve(BASE, 0x1000n), []);
    addressSpace.add(BASE, 0x1000, { fd: 3, offset: 0n });
    assert.equal(addressSpace.resolve(BASE + 0x1000n, 0x1000n), []);
  }));

test('removing from the middle leaves both ends, with their own offsets', () =>
  cleanly(() => {
    addressSpace.add(BASE, 0x3000, { fd: 3, offset: 0x7000n });
    addressSpace.remove(BASE + 0x1000n, 0x1000);
    assert.equal(addressSpace.resolve(BASE, 0x3000n), [
      { address: BASE, bytes: 0x1000n, fd: 3, offset: 0x7000n },
      { address: BASE + 0x2000n, bytes: 0x1000n, fd: 3, offset: 0x9000n },
    ]);
  }));

test('a mapping takes the place of what was noted there before', () =>
  cleanly(() => {
    addressSpace.add(BASE, 0x3000, { fd: 3, offset: 0n });
    addressSpace.add(BASE + 0x1000n, 0x1000, { fd: 4, offset: 0x9000n });
    assert.equal(
      addressSpace.resolve(BASE, 0x3000n).map(({ fd, offset }) => [fd, offset]),
      [
        [3, 0n],
        [4, 0x9000n],
        [3, 0x2000n],
      ],
    );
    addressSpace.add(BASE, 0x3000, { fd: 3, offset: 0n, shared: false });
    assert.equal(addressSpace.resolve(BASE, 0x3000n), []);
  }));

test('a mapping whose descriptor was closed is not found, even when another file has its number', () =>
  cleanly(() => {
    const addon = loadAddon();
    const fd = addon.memfd('first', 4096, true);
    addressSpace.add(BASE, 0x1000, { fd, offset: 0n });
    assert.is(addressSpace.resolve(BASE, 0x1000n).length, 1);
    closeSync(fd);
    assert.equal(addressSpace.resolve(BASE, 0x1000n), []);
    assert.is(addon.memfd('second', 4096, true), fd);
    assert.equal(addressSpace.resolve(BASE, 0x1000n), []);
    closeSync(fd);
  }));

test.run();
