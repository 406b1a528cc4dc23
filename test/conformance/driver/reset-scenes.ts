/** What a driver of this package sees of a queue that is reset, and started again, while the others go on. */
import * as assert from 'uvu/assert';
import { pattern, rejects } from '../../drivers/block-fixture.js';
import { DISK_BYTES } from './disk-host.js';
import type { DriverScene } from './scenes.js';

const SECTOR = 512;

/** Ways of keeping a ring, as options of the driver. */
const RINGS = {
  packed: {},
  split: { packed: false },
  'split, without indirect descriptors': { packed: false, indirect: false },
};

/** Only the vhost-vdpa of the bus passes a reset on. */
export const resets: readonly DriverScene[] = Object.entries(RINGS).map(([rings, open]) => ({
  name: `a queue is reset, and given another size, while the others go on (rings: ${rings})`,
  device: { queues: 3, queueSize: 64 },
  open: { queues: 3, queueSize: 16, maxQueueSize: 64, ...open },
  play: async ({ world, device, disk }) => {
    if (world.place !== 'vhost_vdpa of the bus') {
      assert.not(disk.features.includes('VIRTIO_F_RING_RESET'));
      return void (await rejects(disk.resetQueue(0), 'ERR_NOT_SUPPORTED'));
    }
    const sectors = DISK_BYTES / SECTOR;
    const expected = new Uint8Array(DISK_BYTES);
    const writes = Array.from({ length: sectors }, (_, index) => {
      const bytes = pattern(SECTOR, index);
      expected.set(bytes, index * SECTOR);
      return disk.write(index * SECTOR, bytes);
    });
    for (const queueSize of [4, 64, 8]) {
      await disk.resetQueue(1, { queueSize });
      assert.equal(
        disk.stats().queues.map(({ size }) => size),
        [16, queueSize, 16],
      );
    }
    await Promise.all(writes);
    assert.is(Buffer.compare(await device.bytes(), expected), 0);
  },
}));
