import * as assert from 'uvu/assert';
import { s32, u8, u16, u32, u64 } from '../../../host/uapi/codec.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import { VIRTIO_ID_BLOCK } from '../../../host/uapi/virtio.js';
import type { VhostVdpaFile } from '../../../host/vhost-vdpa/file.js';
import {
  FEATURES,
  fails,
  get,
  LAST_IOVA,
  mask,
  REFUSED,
  STATUS_DRIVER_OK,
  setStatus,
  vringFile,
  vringState,
} from '../protocol.js';
import { onScene, type Rule } from '../rule.js';
import { lacksApi1 } from './lacks.js';

/** A descriptor that no test process has open. */
const NO_FD = 9999;
/** Standard input, which every process has. */
const NO_EVENTFD = 0;

const setGroupAsid = (driver: VhostVdpaFile, group: number, asid: number) =>
  driver.ioctl(vhost.VHOST_VDPA_SET_GROUP_ASID, vringState(group, asid));

/** The ioctls of /dev/vhost-vdpa-N that are about the device as a whole. */
export const vhostVdpaRules: readonly Rule[] = [
  {
    name: 'what the device is can be asked without an owner',
    source: 'vhost_vdpa_unlocked_ioctl',
    play: onScene(
      async ({ reopen }) => {
        const driver = await reopen();
        assert.is(await get(driver, vhost.VHOST_GET_FEATURES, u64), FEATURES);
        assert.is(await get(driver, vhost.VHOST_VDPA_GET_DEVICE_ID, u32), VIRTIO_ID_BLOCK);
        assert.is(await get(driver, vhost.VHOST_VDPA_GET_STATUS, u8), 0);
        assert.is(await get(driver, vhost.VHOST_VDPA_GET_VRING_NUM, u16), 512);
        assert.is(await get(driver, vhost.VHOST_VDPA_GET_VQS_COUNT, u32), 3);
        assert.is(await get(driver, vhost.VHOST_VDPA_GET_CONFIG_SIZE, u32), 16);
        assert.is(await get(driver, vhost.VHOST_VDPA_GET_GROUP_NUM, u32), 1);
        assert.is(await get(driver, vhost.VHOST_VDPA_GET_AS_NUM, u32), 1);
        assert.equal(await get(driver, vhost.VHOST_VDPA_GET_IOVA_RANGE, vhost.vhostVdpaIovaRange), {
          first: 0n,
          last: LAST_IOVA,
        });
        await setStatus(driver, 1);
      },
      { queues: 3, queueSize: 512 },
    ),
  },
  {
    name: 'what falls through to vhost needs an owner: EPERM, before anything else about it',
    source: 'vhost_dev_ioctl, vhost_dev_check_owner',
    play: onScene(async ({ reopen }) => {
      const driver = await reopen();
      for (const request of [
        vhost.VHOST_SET_VRING_NUM,
        vhost.VHOST_SET_VRING_ADDR,
        vhost.VHOST_SET_VRING_BASE,
        vhost.VHOST_GET_VRING_BASE,
        vhost.VHOST_SET_VRING_KICK,
        vhost.VHOST_SET_VRING_CALL,
        vhost.VHOST_SET_VRING_ERR,
        vhost.VHOST_SET_MEM_TABLE,
        vhost.VHOST_RESET_OWNER,
        vhost.VHOST_VDPA_SET_VRING_ENABLE,
        vhost.VHOST_VDPA_GET_VRING_GROUP,
        vhost.VHOST_VDPA_SET_GROUP_ASID,
        vhost.VHOST_VDPA_GET_VRING_DESC_GROUP,
        vhost.VHOST_VDPA_GET_VRING_SIZE,
        0x4008_affe,
      ]) {
        await fails(driver.ioctl(request, new Uint8Array(64).fill(0xff)), 'EPERM', 'ioctl');
        await fails(driver.ioctl(request), 'EPERM', 'ioctl');
      }
    }),
  },
  {
    name: 'there is one owner: EBUSY',
    source: 'vhost_dev_set_owner',
    play: onScene(async ({ driver }) => {
      await fails(driver.ioctl(vhost.VHOST_SET_OWNER), 'EBUSY', 'ioctl');
    }),
  },
  {
    name: 'no argument at all is EFAULT for a driver',
    source: 'vhost_vdpa_unlocked_ioctl',
    play: onScene(async ({ driver }) => {
      for (const request of [
        vhost.VHOST_GET_FEATURES,
        vhost.VHOST_SET_FEATURES,
        vhost.VHOST_GET_BACKEND_FEATURES,
        vhost.VHOST_SET_BACKEND_FEATURES,
        vhost.VHOST_SET_MEM_TABLE,
        vhost.VHOST_RESET_OWNER,
        vhost.VHOST_SET_VRING_NUM,
        vhost.VHOST_SET_VRING_ADDR,
        vhost.VHOST_SET_VRING_BASE,
        vhost.VHOST_GET_VRING_BASE,
        vhost.VHOST_SET_VRING_KICK,
        vhost.VHOST_SET_VRING_CALL,
        vhost.VHOST_SET_VRING_ERR,
        vhost.VHOST_VDPA_GET_DEVICE_ID,
        vhost.VHOST_VDPA_GET_STATUS,
        vhost.VHOST_VDPA_SET_STATUS,
        vhost.VHOST_VDPA_GET_CONFIG,
        vhost.VHOST_VDPA_SET_CONFIG,
        vhost.VHOST_VDPA_GET_CONFIG_SIZE,
        vhost.VHOST_VDPA_GET_VRING_NUM,
        vhost.VHOST_VDPA_GET_VQS_COUNT,
        vhost.VHOST_VDPA_GET_GROUP_NUM,
        vhost.VHOST_VDPA_GET_AS_NUM,
        vhost.VHOST_VDPA_GET_IOVA_RANGE,
        vhost.VHOST_VDPA_SET_CONFIG_CALL,
        vhost.VHOST_VDPA_SET_VRING_ENABLE,
        vhost.VHOST_VDPA_GET_VRING_GROUP,
        vhost.VHOST_VDPA_SET_GROUP_ASID,
        vhost.VHOST_VDPA_GET_VRING_SIZE,
        0x4008_affe,
      ])
        await fails(driver.ioctl(request), 'EFAULT', 'ioctl');
    }),
  },
  {
    name: 'an unknown ioctl and the dirty log are ENOTTY',
    source: 'vhost_vdpa_unlocked_ioctl, vhost_vring_ioctl',
    play: onScene(async ({ driver }) => {
      for (const request of [
        0x4008_affe,
        vhost.VHOST_SET_LOG_BASE,
        vhost.VHOST_SET_LOG_FD,
        vhost.VHOST_RESET_OWNER,
        vhost.VHOST_SET_VRING_ENDIAN,
        vhost.VHOST_GET_VRING_ENDIAN,
      ])
        await fails(driver.ioctl(request, new Uint8Array(64)), 'ENOTTY', 'ioctl');
    }),
  },
  {
    name: 'a queue that the device does not have is ENOBUFS, before anything else about it',
    source: 'vhost_vdpa_vring_ioctl',
    play: onScene(async ({ driver }) => {
      for (const request of [
        vhost.VHOST_SET_VRING_NUM,
        vhost.VHOST_SET_VRING_ADDR,
        vhost.VHOST_SET_VRING_BASE,
        vhost.VHOST_GET_VRING_BASE,
        vhost.VHOST_SET_VRING_KICK,
        vhost.VHOST_SET_VRING_CALL,
        vhost.VHOST_SET_VRING_ERR,
        vhost.VHOST_VDPA_SET_VRING_ENABLE,
        vhost.VHOST_VDPA_GET_VRING_GROUP,
        vhost.VHOST_VDPA_GET_VRING_DESC_GROUP,
        vhost.VHOST_VDPA_GET_VRING_SIZE,
        vhost.VHOST_VDPA_SET_GROUP_ASID,
        0x4008_affe,
      ])
        for (const index of [2, 0xffff_ffff]) {
          const argument = new Uint8Array(64);
          u32.set(argument, index);
          await fails(driver.ioctl(request, argument), 'ENOBUFS', 'ioctl');
        }
    }),
  },
  {
    name: 'the backend features of a VDUSE parent are message v2, batches and address spaces',
    source: 'vhost_vdpa_unlocked_ioctl',
    play: onScene(async ({ driver }) => {
      const own = [
        vhost.VHOST_BACKEND_F_IOTLB_MSG_V2,
        vhost.VHOST_BACKEND_F_IOTLB_BATCH,
        vhost.VHOST_BACKEND_F_IOTLB_ASID,
      ];
      assert.is(await get(driver, vhost.VHOST_GET_BACKEND_FEATURES, u64), mask(...own));
      const set = (features: bigint) => driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(features));
      for (const bit of [0, 4, 5, 8, 9, 63]) await fails(set(mask(bit)), 'EOPNOTSUPP', 'ioctl');
      await fails(set(mask(vhost.VHOST_BACKEND_F_DESC_ASID)), 'EINVAL');
      const both = mask(vhost.VHOST_BACKEND_F_DESC_ASID, vhost.VHOST_BACKEND_F_IOTLB_ASID);
      await fails(set(both), 'EOPNOTSUPP');
      await set(mask(...own));
      await set(0n);
    }),
  },
  {
    name: 'a backend feature that needs nothing of the parent is taken although it is not offered',
    source: 'vhost_vdpa_unlocked_ioctl',
    play: onScene(async ({ driver }) => {
      const features = mask(vhost.VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK);
      assert.is((await get(driver, vhost.VHOST_GET_BACKEND_FEATURES, u64)) & features, 0n);
      await driver.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, u64.encode(features));
    }),
  },
  {
    name: 'a descriptor that is not open is EBADF, one that is no eventfd EINVAL, −1 unbinds',
    source: 'vhost_vring_ioctl, vhost_vdpa_set_config_call',
    play: onScene(async ({ driver }) => {
      const configCall = (fd: number) => driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(fd));
      const calls = [
        configCall,
        ...[vhost.VHOST_SET_VRING_KICK, vhost.VHOST_SET_VRING_CALL, vhost.VHOST_SET_VRING_ERR].map(
          (request) => (fd: number) => driver.ioctl(request, vringFile(0, fd)),
        ),
      ];
      for (const bind of calls) {
        await fails(bind(NO_EVENTFD), 'EINVAL', 'ioctl');
        await fails(bind(NO_FD), 'EBADF');
        await fails(bind(-2), 'EBADF');
        await bind(-1);
      }
    }),
  },
  {
    name: 'the memory table is taken for what it is worth: nothing',
    source: 'vhost_set_memory',
    play: onScene(async ({ driver, responder }) => {
      const before = responder.requests.length;
      const set = (table: Parameters<typeof vhost.vhostMemory.encode>[0]) =>
        driver.ioctl(vhost.VHOST_SET_MEM_TABLE, vhost.vhostMemory.encode(table));
      const regions = new Uint8Array(2 * vhost.vhostMemoryRegion.size);
      vhost.vhostMemoryRegion.set(regions.subarray(0), { guest_phys_addr: 0n, memory_size: 4096n });
      vhost.vhostMemoryRegion.set(regions.subarray(vhost.vhostMemoryRegion.size), {
        guest_phys_addr: 4096n,
        memory_size: 4096n,
      });
      await set({ nregions: 2, regions });
      await fails(set({ nregions: 65 }), 'E2BIG', 'ioctl');
      await fails(set({ padding: 1 }), 'EOPNOTSUPP');
      assert.is(responder.requests.length, before);
    }),
  },
  {
    name: 'a group is given an address space before DRIVER_OK',
    source: 'vduse_set_group_asid',
    lacks: lacksApi1,
    play: onScene(
      async ({ driver, responder }) => {
        await setGroupAsid(driver, 1, 2);
        assert.equal(responder.of(vduse.VDUSE_SET_VQ_GROUP_ASID)[0]?.vq_group_asid, { group: 1, asid: 2 });
        await fails(setGroupAsid(driver, 0, 3), 'EINVAL', 'ioctl');
        responder.answer = () => REFUSED;
        await fails(setGroupAsid(driver, 1, 0), 'EIO');
        responder.answer = () => ({});
        await setStatus(driver, STATUS_DRIVER_OK);
        await fails(setGroupAsid(driver, 1, 0), 'EBUSY');
      },
      { apiVersion: 1n, ngroups: 2, nas: 3 },
    ),
  },
  {
    name: 'a device of version 0 has one group and one address space, which cannot be put together anew',
    source: 'vhost_vdpa_vring_ioctl, vduse_set_group_asid',
    differs: [{ at: '6.12', why: 'VDUSE had no set_group_asid before version 1: EOPNOTSUPP' }],
    play: onScene(async ({ driver, at }) => {
      await fails(setGroupAsid(driver, 1, 0), 'EINVAL', 'ioctl');
      await fails(setGroupAsid(driver, 0, 1), 'EINVAL');
      await fails(setGroupAsid(driver, 0, 0), at('6.12') ? 'EOPNOTSUPP' : 'EINVAL');
    }),
  },
];
