import * as assert from 'uvu/assert';
import { u64 } from '../../../host/uapi/codec.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { VIRTIO_F_RING_PACKED } from '../../../host/uapi/virtio.js';
import { PACKED_VRING_BASE_RESET } from '../../../host/uapi/vring-base.js';
import type { VhostVdpaFile } from '../../../host/vhost-vdpa/file.js';
import {
  askQueue,
  FEATURES,
  fails,
  get,
  mask,
  NAME,
  REFUSED,
  STATUS_DRIVER_OK,
  setStatus,
  vqInfo,
  vringState,
} from '../protocol.js';
import { onScene, type Rule } from '../rule.js';
import { lacksApi1, lacksVduseFeature } from './lacks.js';

const PACKED = FEATURES | mask(VIRTIO_F_RING_PACKED);

const setNum = (driver: VhostVdpaFile, index: number, num: number) =>
  driver.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(index, num));
const setBase = (driver: VhostVdpaFile, num: number) =>
  driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, num));
const setAddr = (driver: VhostVdpaFile, addr: Parameters<typeof vhost.vhostVringAddr.encode>[0]) =>
  driver.ioctl(vhost.VHOST_SET_VRING_ADDR, vhost.vhostVringAddr.encode({ index: 0, ...addr }));
const enable = (driver: VhostVdpaFile, index: number, num: number) =>
  driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(index, num));

/** The vring ioctls of a driver, and what VDUSE_VQ_GET_INFO shows of them. */
export const vringRules: readonly Rule[] = [
  {
    name: 'a ring has a power of two entries up to the maximum, else EINVAL',
    source: 'vhost_vdpa_vring_ioctl, VHOST_SET_VRING_NUM',
    play: onScene(async ({ device, driver }) => {
      for (const num of [0, 3, 96, 257, 512, 65536, 0x80000000])
        await fails(setNum(driver, 0, num), 'EINVAL', 'ioctl');
      assert.is((await vqInfo(device)).num, 0);
      for (const num of [1, 2, 256]) {
        await setNum(driver, 0, num);
        assert.is((await vqInfo(device)).num, num);
      }
    }),
  },
  {
    name: 'the maximum is that of the largest queue, for every queue',
    source: 'vduse_vdpa_get_vq_num_max',
    play: onScene(async ({ device, driver, world }) => {
      await driver.close();
      const setup = vduse.vduseVqConfig.encode({ index: 0, max_size: 64 });
      await device.ioctl(vduse.VDUSE_VQ_SETUP, setup);
      const again = await world.open(NAME);
      await again.ioctl(vhost.VHOST_SET_OWNER);
      assert.is(await askQueue(again, vhost.VHOST_VDPA_GET_VRING_SIZE, 0), 64);
      await setNum(again, 0, 256);
      assert.is((await vqInfo(device)).num, 256);
    }),
  },
  {
    name: 'the size of a ring is its maximum until it is set',
    source: 'vduse_vdpa_get_vq_size',
    play: onScene(async ({ driver }) => {
      assert.is(await askQueue(driver, vhost.VHOST_VDPA_GET_VRING_SIZE, 1), 256);
      await setNum(driver, 1, 16);
      assert.is(await askQueue(driver, vhost.VHOST_VDPA_GET_VRING_SIZE, 1), 16);
      assert.is(await askQueue(driver, vhost.VHOST_VDPA_GET_VRING_SIZE, 0), 256);
    }),
  },
  {
    name: 'ring addresses are aligned, avail to 2 and used to 4, else EINVAL; unknown flags are EOPNOTSUPP',
    source: 'vhost_vring_set_addr',
    play: onScene(async ({ device, driver }) => {
      await fails(setAddr(driver, { avail_user_addr: 1n }), 'EINVAL', 'ioctl');
      await fails(setAddr(driver, { used_user_addr: 2n }), 'EINVAL');
      await fails(setAddr(driver, { log_guest_addr: 2n }), 'EINVAL');
      await fails(setAddr(driver, { flags: 2 }), 'EOPNOTSUPP');
      await fails(setAddr(driver, { flags: 2, avail_user_addr: 1n }), 'EOPNOTSUPP');
      const last = 2n ** 64n - 4n;
      await setAddr(driver, { flags: 1, desc_user_addr: 1n, avail_user_addr: 2n, used_user_addr: last });
      const { desc_addr, driver_addr, device_addr } = await vqInfo(device);
      assert.equal([desc_addr, driver_addr, device_addr], [1n, 2n, last]);
    }),
  },
  {
    name: 'addresses and base are EINVAL while the driver runs; the size is not',
    source: 'vhost_vdpa_vring_ioctl',
    play: onScene(async ({ device, driver }) => {
      await setStatus(driver, STATUS_DRIVER_OK);
      await fails(setAddr(driver, {}), 'EINVAL', 'ioctl');
      await fails(setBase(driver, 0), 'EINVAL', 'ioctl');
      await setNum(driver, 0, 8);
      assert.is((await vqInfo(device)).num, 8);
    }),
  },
  {
    name: 'the base of a split ring has 16 bits',
    source: 'vhost_vring_ioctl, VHOST_SET_VRING_BASE',
    play: onScene(async ({ device, driver }) => {
      await setBase(driver, 0xffff);
      assert.is((await vqInfo(device)).split.avail_index, 0xffff);
      await fails(setBase(driver, 0x10000), 'EINVAL', 'ioctl');
      await setBase(driver, 0);
      assert.is((await vqInfo(device)).split.avail_index, 0);
    }),
  },
  {
    name: 'the base of a packed ring has two indices and two wrap counters',
    source: 'vhost_vdpa_vring_ioctl, vduse_dev_get_vq_state_packed',
    play: onScene(
      async ({ device, driver, responder }) => {
        await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(PACKED));
        await setBase(driver, PACKED_VRING_BASE_RESET);
        assert.equal((await vqInfo(device)).packed, {
          last_avail_counter: 1,
          last_avail_idx: 0,
          last_used_counter: 1,
          last_used_idx: 0,
        });
        await setBase(driver, 0x7fff_8005);
        assert.equal((await vqInfo(device)).packed, {
          last_avail_counter: 1,
          last_avail_idx: 5,
          last_used_counter: 0,
          last_used_idx: 0x7fff,
        });
        responder.answer = ({ vq_state }) => ({
          // Bits that do not belong to the answer are the device's mistake, and are left out.
          vq_state: {
            index: vq_state.index,
            packed: {
              last_avail_counter: 0xfffe,
              last_avail_idx: 0x8005,
              last_used_counter: 0xffff,
              last_used_idx: 0x8003,
            },
          },
        });
        assert.is(await askQueue(driver, vhost.VHOST_GET_VRING_BASE), 0x8003_0005);
        responder.answer = () => ({});
      },
      { features: PACKED },
    ),
  },
  {
    name: 'after a reset vhost takes a ring for packed until features are written again',
    source: 'vhost_vdpa_set_features, vq->acked_features',
    play: onScene(
      async ({ device, driver }) => {
        await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(PACKED));
        await setStatus(driver, 0);
        assert.is(await get(device, vduse.VDUSE_DEV_GET_FEATURES, u64), 0n);
        await setBase(driver, PACKED_VRING_BASE_RESET);
        await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES));
        await fails(setBase(driver, PACKED_VRING_BASE_RESET), 'EINVAL', 'ioctl');
      },
      { features: PACKED },
    ),
  },
  {
    name: 'the base is asked of the device, whose refusal is EIO',
    source: 'vduse_dev_get_vq_state_split',
    play: onScene(async ({ driver, responder }) => {
      responder.answer = ({ vq_state }) => ({
        vq_state: { index: vq_state.index, split: { avail_index: 40_000 + vq_state.index } },
      });
      assert.is(await askQueue(driver, vhost.VHOST_GET_VRING_BASE, 1), 40_001);
      responder.answer = () => REFUSED;
      await fails(driver.ioctl(vhost.VHOST_GET_VRING_BASE, vringState(0, 0)), 'EIO', 'ioctl');
    }),
  },
  {
    name: 'a ring is enabled before and after DRIVER_OK, without a message',
    source: 'vduse_vdpa_set_vq_ready',
    play: onScene(async ({ device, driver, responder }) => {
      await enable(driver, 0, 1);
      await setStatus(driver, STATUS_DRIVER_OK);
      await enable(driver, 1, 2);
      await enable(driver, 0, 0);
      assert.is((await vqInfo(device, 0)).ready, 0);
      assert.is((await vqInfo(device, 1)).ready, 1);
      assert.is(responder.of(vduse.VDUSE_SET_VQ_READY).length, 0);
    }),
  },
  {
    name: 'a device that opted in is told of ready, and breaks when it refuses',
    source: 'vduse_vdpa_set_vq_ready',
    lacks: lacksVduseFeature(vduse.VDUSE_F_QUEUE_READY),
    play: onScene(
      async ({ device, driver, responder }) => {
        await enable(driver, 1, 1);
        assert.equal(responder.of(vduse.VDUSE_SET_VQ_READY)[0]?.vq_ready, { num: 1, ready: 1 });
        assert.is((await vqInfo(device, 1)).ready, 1);
        responder.answer = () => REFUSED;
        await enable(driver, 0, 1);
        await fails(vqInfo(device), 'EPERM', 'ioctl');
      },
      { vduseFeatures: mask(vduse.VDUSE_F_QUEUE_READY) },
    ),
  },
  {
    name: 'a reset forgets the ring',
    source: 'vduse_dev_reset',
    play: onScene(async ({ device, driver }) => {
      await setNum(driver, 0, 16);
      await setBase(driver, 9);
      await setAddr(driver, { desc_user_addr: 4096n, avail_user_addr: 8192n, used_user_addr: 12288n });
      await enable(driver, 0, 1);
      await setStatus(driver, 0);
      const { num, desc_addr, driver_addr, device_addr, split, ready } = await vqInfo(device);
      assert.equal(
        [num, desc_addr, driver_addr, device_addr, split.avail_index, ready],
        [0, 0n, 0n, 0n, 0, 0],
      );
    }),
  },
  {
    name: 'groups of queues are those of VDUSE_VQ_SETUP, descriptor groups there are none',
    source: 'vduse_get_vq_group',
    lacks: lacksApi1,
    play: onScene(
      async ({ device, driver }) => {
        const setup = vduse.vduseVqConfig.encode({ index: 1, max_size: 64, group: 1 });
        await device.ioctl(vduse.VDUSE_VQ_SETUP, setup);
        assert.is(await askQueue(driver, vhost.VHOST_VDPA_GET_VRING_GROUP, 0), 0);
        assert.is(await askQueue(driver, vhost.VHOST_VDPA_GET_VRING_GROUP, 1), 1);
        const descGroup = driver.ioctl(vhost.VHOST_VDPA_GET_VRING_DESC_GROUP, vringState(0, 0));
        await fails(descGroup, 'EOPNOTSUPP', 'ioctl');
      },
      { apiVersion: 1n, ngroups: 2, nas: 1 },
    ),
  },
  {
    name: 'every queue of a device of version 0 is in group 0',
    source: 'vduse_get_vq_group',
    differs: [{ at: '6.12', why: 'VDUSE had no get_vq_group before version 1: EOPNOTSUPP' }],
    play: onScene(async ({ driver, at }) => {
      const asking = askQueue(driver, vhost.VHOST_VDPA_GET_VRING_GROUP, 1);
      if (at('6.12')) await fails(asking, 'EOPNOTSUPP', 'ioctl');
      else assert.is(await asking, 0);
    }),
  },
  {
    name: 'the busy-loop timeout is kept and used by nobody',
    source: 'vhost_vring_ioctl',
    play: onScene(async ({ driver }) => {
      await driver.ioctl(vhost.VHOST_SET_VRING_BUSYLOOP_TIMEOUT, vringState(1, 50));
      assert.is(await askQueue(driver, vhost.VHOST_GET_VRING_BUSYLOOP_TIMEOUT, 1), 50);
      assert.is(await askQueue(driver, vhost.VHOST_GET_VRING_BUSYLOOP_TIMEOUT, 0), 0);
    }),
  },
];
