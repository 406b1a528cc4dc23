import { closeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../host/native/addon.js';
import { s32 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '../../host/uapi/virtio.js';
import {
  fails,
  getStatus,
  mask,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  scene,
  setStatus,
  vringFile,
  vringState,
} from './fixture.js';

test('a queue that the device does not have has no descriptors: EINVAL', async () => {
  await scene(async ({ device }) => {
    await fails(device.kickFd(2, -1), 'EINVAL');
    await fails(device.callFd(2), 'EINVAL');
  });
});

test('the driver’s call eventfd is signalled through callFd, until a reset', async () => {
  const addon = loadAddon();
  const call = addon.eventfd();
  await scene(async ({ device, driver }) => {
    await driver.ioctl(vhost.VHOST_SET_VRING_CALL, vringFile(0, call));
    addon.eventfdSignal(await device.callFd(0));
    assert.is(addon.eventfdDrain(call), 1);
    await setStatus(driver, 0);
    addon.eventfdSignal(await device.callFd(0));
    assert.is(addon.eventfdDrain(call), 0);
  });
  closeSync(call);
});

test('a suspended device’s callFd signals nobody', async () => {
  const addon = loadAddon();
  const call = addon.eventfd();
  await scene(
    async ({ device, driver }) => {
      await driver.ioctl(vhost.VHOST_SET_VRING_CALL, vringFile(0, call));
      await setStatus(driver, STATUS_DRIVER_OK);
      const callFd = await device.callFd(0);
      await driver.ioctl(vhost.VHOST_VDPA_SUSPEND);
      addon.eventfdDrain(call);
      addon.eventfdSignal(callFd);
      assert.is(addon.eventfdDrain(call), 0);
    },
    { vduseFeatures: mask(vduse.VDUSE_F_SUSPEND) },
  );
  closeSync(call);
});

test('the number of a kickFd stays the same, whatever is bound', async () => {
  const addon = loadAddon();
  const [kick, own] = [addon.eventfd(), addon.eventfd()];
  await scene(async ({ device, driver }) => {
    const before = await device.kickFd(0, own);
    await driver.ioctl(vhost.VHOST_SET_VRING_KICK, vringFile(0, kick));
    await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
    await device.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, vduse.vduseVqEventfd.encode({ index: 0, fd: own }));
    assert.is(await device.kickFd(0, own), before);
  });
  for (const fd of [kick, own]) closeSync(fd);
});

test('a device that needs a reset says so in the status, with a config interrupt, until it is reset', async () => {
  const addon = loadAddon();
  const config = addon.eventfd();
  await scene(async ({ device, driver, responder }) => {
    assert.is(await device.needsReset(), true);
    assert.is(await getStatus(driver), 0);
    await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(config));
    await setStatus(driver, STATUS_FEATURES_OK);
    responder.answer = async () => {
      await device.needsReset();
      return {};
    };
    await setStatus(driver, STATUS_DRIVER_OK);
    assert.is(await getStatus(driver), STATUS_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert.is(addon.eventfdDrain(config), 1);
    responder.answer = () => ({});
    await setStatus(driver, 0);
    assert.is(await getStatus(driver), 0);
  });
  closeSync(config);
});

test('a short argument is EFAULT, a closed file EBADF', async () => {
  await scene(async ({ device }) => {
    await fails(device.ioctl(vduse.VDUSE_VQ_GET_INFO, new Uint8Array(47)), 'EFAULT');
    await device.close();
    await fails(device.ioctl(vduse.VDUSE_DEV_GET_FEATURES, new Uint8Array(8)), 'EBADF', 'ioctl');
    await fails(device.read(), 'EBADF', 'read');
    await fails(device.write(new Uint8Array(152)), 'EBADF', 'write');
    await fails(device.kickFd(0, -1), 'EBADF');
    await fails(device.callFd(0), 'EBADF');
    await fails(device.needsReset(), 'EBADF');
  });
});

test.run();
