/** The whole of the kernel's simulated disk, written by us, read by us and by the kernel. */
import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBlock } from '../../../host/index.js';
import {
  addSimulator,
  bindDriver,
  hasModule,
  modprobe,
  removeDevice,
  shell,
  skip,
  unbindDriver,
} from '../fixture.js';
import { hashOf, pattern, sweep } from './sweep.js';

const NAME = 'simulator1';
/** Milliseconds for reading the whole disk under emulation. */
const WHOLE_LIMIT_MS = 60_000;

if (!hasModule('vdpa_sim_blk')) {
  skip('the whole simulated disk', 'this kernel comes without vdpa_sim_blk, and nobody built it');
} else {
  modprobe('vhost_vdpa', 'virtio_vdpa', 'virtio_blk');
  addSimulator('blk', NAME);
  const path = await bindDriver(NAME, 'vhost_vdpa');

  test('the whole disk, written by us, is the same to us and to the kernel', async () => {
    const disk = await openBlock(path);
    const { capacity } = disk;
    assert.is(capacity, 128 * 2 ** 20);
    const written = createHash('sha256');
    await sweep(capacity, 0, (offset, length) => {
      // Requests start in order, whenever they end.
      const bytes = pattern(offset, length, 1);
      written.update(bytes);
      return disk.write(offset, bytes);
    });
    await disk.flush();
    const expected = written.digest('hex');
    assert.is(await hashOf(disk), expected, 'to us');
    await disk.close();
    await unbindDriver(NAME);
    const node = await bindDriver(NAME, 'virtio_vdpa');
    const output = shell(`sha256sum ${node}`, { limitMs: WHOLE_LIMIT_MS });
    assert.is(output.split(' ')[0], expected, 'to the kernel');
  });

  test.after(() => removeDevice(NAME));
}

test.run();
