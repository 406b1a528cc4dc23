/** Groups of queues and address spaces: version 1 of VDUSE's API. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, serve } from '../../../host/index.js';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../../../host/uapi/virtio.js';
import { rejects } from '../../models/fixture.js';
import { openRawDriver, withDisk } from '../disk-fixture.js';
import { kernelIsSince, modprobe, skip, until } from '../fixture.js';

const BYTES = 2 ** 20;
const GROUPS = { queues: 2, groups: 2 };

if (kernelIsSince('7.0')) {
  test('a queue sees the address space of its group, and no other', async () => {
    const options = { driver: 'vhost_vdpa', ...GROUPS } as const;
    await withDisk(new BlockDevice({ memory: BYTES }), options, async ({ path, errors }) => {
      const driver = await openRawDriver(path);
      await driver.moveTo(1);
      assert.ok((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
      assert.ok(await driver.works());
      await driver.reset();
      // The group is back where it was, and the driver's memory is not there.
      assert.not((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
      // The event comes from the message thread, on a way of its own.
      await until('an error', () => errors.length > 0);
      assert.is(errors.length, 1);
      assert.match(errors[0]!, /^ERR_CONTROL_PLANE.*not mapped/);
      await driver.reset();
      driver.asid = 0;
      assert.ok((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
      assert.ok(await driver.works());
      await driver.close();
    });
  });
} else {
  skip('address spaces', 'this kernel has version 0 of the API');
  test('version 0 has no groups', async () => {
    modprobe('vduse');
    const options = { name: 'grouped', transport: 'vduse', ...GROUPS } as const;
    await rejects(serve(new BlockDevice({ memory: BYTES }), options), 'ERR_NOT_SUPPORTED', /version 1/);
  });
}

test.run();
