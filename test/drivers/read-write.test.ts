import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CAPACITY, diskScene, pattern } from './block-fixture.js';

test('reads a sector that the device has', () =>
  diskScene(async ({ device, disk }) => {
    const sector = pattern(512);
    device.bytes.set(sector, 1024);
    assert.equal(await disk.read(1024, 512), sector);
  }));

test('writes a sector where it was told to, and nowhere else', () =>
  diskScene(async ({ device, disk }) => {
    const sector = pattern(512, 2);
    await disk.write(CAPACITY - 512, sector);
    assert.equal(device.bytes.slice(CAPACITY - 512), sector);
    assert.ok(device.bytes.slice(0, CAPACITY - 512).every((byte) => byte === 0));
  }));

test.run();
