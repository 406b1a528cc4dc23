import * as assert from 'uvu/assert';
import { u64 } from '../../../host/uapi/codec.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { VIRTIO_CONFIG_S_FAILED } from '../../../host/uapi/virtio.js';
import {
  FEATURES,
  fails,
  get,
  getStatus,
  mask,
  REFUSED,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  setStatus,
  vringState,
} from '../protocol.js';
import { onScene, type Rule } from '../rule.js';
import { lacksVduseFeature } from './lacks.js';

/** The device status: what may be written, and what the device has to say to it. */
export const statusRules: readonly Rule[] = [
  {
    name: 'status bits can be added; taking one away is EINVAL, 0 is a reset',
    source: 'vhost_vdpa_set_status',
    play: onScene(async ({ driver, responder }) => {
      await setStatus(driver, 1);
      await setStatus(driver, 3);
      await fails(setStatus(driver, 1), 'EINVAL', 'ioctl');
      await fails(setStatus(driver, 4), 'EINVAL');
      await setStatus(driver, 3 | VIRTIO_CONFIG_S_FAILED);
      await setStatus(driver, 0);
      assert.is(await getStatus(driver), 0);
      assert.equal(
        responder.of(vduse.VDUSE_SET_STATUS).map((request) => request.s.status),
        [0, 1, 3, 131, 0],
      );
    }),
  },
  {
    name: 'the device is asked before the status changes, and again when nothing is added',
    source: 'vduse_vdpa_set_status',
    play: onScene(async ({ driver, responder }) => {
      await setStatus(driver, 1);
      await setStatus(driver, 1);
      assert.is(responder.of(vduse.VDUSE_SET_STATUS).length, 3);
    }),
  },
  {
    name: 'a status that the device refuses is not taken over, and the ioctl says nothing',
    source: 'vduse_vdpa_set_status',
    play: onScene(async ({ driver, responder }) => {
      await setStatus(driver, 3);
      responder.answer = () => REFUSED;
      await setStatus(driver, STATUS_FEATURES_OK);
      assert.is(await getStatus(driver), 3);
      responder.answer = () => ({});
      await setStatus(driver, STATUS_FEATURES_OK);
      assert.is(await getStatus(driver), STATUS_FEATURES_OK);
    }),
  },
  {
    name: 'a reset that the device refuses is EIO, and has happened',
    source: 'vduse_vdpa_reset',
    play: onScene(async ({ device, driver, responder }) => {
      await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES));
      await setStatus(driver, STATUS_FEATURES_OK);
      responder.answer = () => REFUSED;
      await fails(setStatus(driver, 0), 'EIO', 'ioctl');
      assert.is(await getStatus(driver), 0);
      assert.is(await get(device, vduse.VDUSE_DEV_GET_FEATURES, u64), 0n);
    }),
  },
  {
    name: 'features are frozen at FEATURES_OK: EBUSY, until a reset',
    source: 'vhost_vdpa_set_features',
    play: onScene(async ({ driver }) => {
      const set = (features: bigint) => driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(features));
      await set(1n);
      await set(FEATURES);
      await setStatus(driver, STATUS_FEATURES_OK);
      await fails(set(FEATURES), 'EBUSY', 'ioctl');
      await setStatus(driver, 0);
      await set(FEATURES);
    }),
  },
  {
    name: 'DRIVER_OK can be written with nothing before it',
    source: 'vhost_vdpa_set_status',
    play: onScene(async ({ driver }) => {
      await setStatus(driver, STATUS_DRIVER_OK);
      assert.is(await getStatus(driver), STATUS_DRIVER_OK);
    }),
  },
  {
    name: 'suspend and resume are EOPNOTSUPP, and nothing at all before DRIVER_OK',
    source: 'vhost_vdpa_suspend, vhost_vdpa_resume',
    play: onScene(async ({ driver }) => {
      await driver.ioctl(vhost.VHOST_VDPA_SUSPEND);
      await driver.ioctl(vhost.VHOST_VDPA_RESUME);
      await setStatus(driver, STATUS_DRIVER_OK);
      await fails(driver.ioctl(vhost.VHOST_VDPA_SUSPEND), 'EOPNOTSUPP', 'ioctl');
      await fails(driver.ioctl(vhost.VHOST_VDPA_RESUME), 'EOPNOTSUPP', 'ioctl');
    }),
  },
  {
    name: 'a device that opted in can be suspended, which frees addresses and base, and resumed only by a reset',
    source: 'vhost_vdpa_suspend, vduse_vdpa_suspend',
    lacks: lacksVduseFeature(vduse.VDUSE_F_SUSPEND),
    play: onScene(
      async ({ driver, responder }) => {
        const features = await get(driver, vhost.VHOST_GET_BACKEND_FEATURES, u64);
        assert.ok(features & mask(vhost.VHOST_BACKEND_F_SUSPEND));
        await driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(features));
        await driver.ioctl(vhost.VHOST_VDPA_SUSPEND);
        assert.is(responder.of(vduse.VDUSE_SUSPEND).length, 0);
        await setStatus(driver, STATUS_DRIVER_OK);
        const setBase = () => driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 5));
        await fails(setBase(), 'EINVAL', 'ioctl');

        responder.answer = () => REFUSED;
        await fails(driver.ioctl(vhost.VHOST_VDPA_SUSPEND), 'EIO', 'ioctl');
        await fails(setBase(), 'EINVAL');
        responder.answer = () => ({});
        await driver.ioctl(vhost.VHOST_VDPA_SUSPEND);
        assert.is(responder.of(vduse.VDUSE_SUSPEND).length, 2);
        await setBase();
        await driver.ioctl(vhost.VHOST_SET_VRING_ADDR, vhost.vhostVringAddr.encode({ index: 0 }));
        await fails(driver.ioctl(vhost.VHOST_VDPA_RESUME), 'EOPNOTSUPP');

        await setStatus(driver, 0);
        await setStatus(driver, STATUS_DRIVER_OK);
        await fails(setBase(), 'EINVAL');
      },
      { vduseFeatures: mask(vduse.VDUSE_F_SUSPEND) },
    ),
  },
];
