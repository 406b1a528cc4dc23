import * as assert from 'uvu/assert';
import { loadAddon } from '../../../host/native/addon.js';
import { s32 } from '../../../host/uapi/codec.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '../../../host/uapi/virtio.js';
import {
  fails,
  getStatus,
  iotlbMessage,
  NAME,
  REFUSED,
  STATUS_FEATURES_OK,
  setStatus,
  within,
} from '../protocol.js';
import { onScene, type Rule } from '../rule.js';

/** Opening and closing, attaching and detaching. */
export const lifeRules: readonly Rule[] = [
  {
    name: 'a device has one driver at a time: EBUSY, and possible again after close',
    source: 'vhost_vdpa_open',
    play: onScene(async ({ world, driver }) => {
      await fails(world.open(NAME), 'EBUSY', 'open');
      await driver.close();
      await driver.close();
      await fails(driver.ioctl(vhost.VHOST_SET_OWNER), 'EBADF', 'ioctl');
      await fails(driver.write(iotlbMessage(vhost.VHOST_IOTLB_BATCH_BEGIN)), 'EBADF', 'write');
      const again = await world.open(NAME);
      await again.ioctl(vhost.VHOST_SET_OWNER);
    }),
  },
  {
    name: 'opening is EBUSY while another opening waits for the device',
    source: 'vhost_vdpa_open',
    play: onScene(async ({ world, driver, responder }) => {
      await driver.close();
      let confirm = () => {};
      responder.answer = () =>
        new Promise((resolve) => {
          confirm = () => resolve({});
        });
      const first = world.open(NAME);
      await world.settle();
      await fails(world.open(NAME), 'EBUSY');
      responder.answer = () => ({});
      confirm();
      await within(first, 'the first opening');
    }),
  },
  {
    name: 'opening and closing reset the device; a refused reset makes open EIO, and close does not care',
    source: 'vhost_vdpa_open, vhost_vdpa_release',
    play: onScene(async ({ world, driver, responder }) => {
      await setStatus(driver, 1);
      responder.answer = () => REFUSED;
      await driver.close();
      await fails(world.open(NAME), 'EIO', 'open');
      responder.answer = () => ({});
      const again = await world.open(NAME);
      assert.is(await getStatus(again), 0);
      await again.close();
      const statuses = responder.of(vduse.VDUSE_SET_STATUS).map(({ s }) => s.status);
      assert.equal(statuses, [0, 1, 0, 0, 0, 0]);
    }),
  },
  {
    name: 'a device on the bus is not destroyed, served or not: EBUSY',
    source: 'vduse_destroy_dev',
    play: onScene(async ({ world, control, device, driver }) => {
      const destroy = () => control.ioctl(vduse.VDUSE_DESTROY_DEV, vduse.vduseName.encode(NAME));
      await driver.close();
      await device.close();
      await fails(destroy(), 'EBUSY', 'ioctl');
      await world.detach(NAME);
      await destroy();
    }),
  },
  {
    name: 'a device that nobody drives leaves the bus with no message to its server, and comes back',
    source: 'vdpa_dev_del of vduse_dev.c',
    play: onScene(async ({ world, driver, responder }) => {
      await driver.close();
      const before = responder.requests.length;
      await world.detach(NAME);
      await world.settle();
      assert.is(responder.requests.length, before);
      await world.attach(NAME, 30_000);
      await within(world.open(NAME), 'opening');
      assert.is(responder.requests.length, before + 1);
    }),
  },
  {
    name: 'a device with a driver leaves the bus once the driver has closed its file',
    source: 'vhost_vdpa_remove',
    differs: [
      {
        at: 'bus',
        why: 'nobody there could make a driver close: it is told by DEVICE_NEEDS_RESET and a config interrupt, and whatever it asks from then on is ENODEV',
      },
    ],
    play: onScene(async ({ world, at, driver }) => {
      const addon = loadAddon();
      const config = world.eventfd();
      await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(config));
      await setStatus(driver, STATUS_FEATURES_OK);
      let detached = false;
      const detaching = world.detach(NAME).then(() => {
        detached = true;
      });
      if (at('bus')) {
        await detaching;
        assert.is(addon.eventfdDrain(config), 1);
        assert.is(await getStatus(driver), STATUS_FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
        await fails(setStatus(driver, 0), 'ENODEV', 'ioctl');
      } else {
        await world.settle();
        assert.is(detached, false);
        assert.is(addon.eventfdDrain(config), 0);
        assert.is(await getStatus(driver), STATUS_FEATURES_OK);
        await setStatus(driver, 0);
      }
      await driver.close();
      await within(detaching, 'detaching');
      await fails(world.open(NAME), 'ENOENT');
    }),
  },
];
