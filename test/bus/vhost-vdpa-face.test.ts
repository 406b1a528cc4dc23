import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as vhost from '../../host/uapi/vhost.js';
import { fails, getStatus, scene, setStatus } from './fixture.js';

function configArgument(off: number, len: number, bytes = len): Uint8Array {
  return vhost.vhostVdpaConfig.encode({ off, len, buf: new Uint8Array(bytes) });
}

test('an argument that is too short is EFAULT', async () => {
  await scene(async ({ driver }) => {
    await fails(driver.ioctl(vhost.VHOST_GET_FEATURES, new Uint8Array(7)), 'EFAULT');
    await fails(driver.ioctl(vhost.VHOST_SET_VRING_ADDR, new Uint8Array(39)), 'EFAULT');
    await fails(driver.ioctl(vhost.VHOST_VDPA_GET_CONFIG, configArgument(0, 16, 15)), 'EFAULT');
    const regions = new Uint8Array(2 * vhost.vhostMemoryRegion.size);
    const table = vhost.vhostMemory.encode({ nregions: 3, regions });
    await fails(driver.ioctl(vhost.VHOST_SET_MEM_TABLE, table), 'EFAULT');
  });
});

test('ioctls wait for each other as they do for the kernel’s mutex', async () => {
  await scene(async ({ driver, responder }) => {
    const order: string[] = [];
    responder.answer = async () => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      order.push('device');
      return {};
    };
    const slow = setStatus(driver, 1).then(() => order.push('set'));
    const fast = getStatus(driver).then((status) => order.push(`get ${status}`));
    await Promise.all([slow, fast]);
    assert.equal(order, ['device', 'set', 'get 1']);
  });
});

test.run();
