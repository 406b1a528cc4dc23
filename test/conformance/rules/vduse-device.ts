import * as assert from 'uvu/assert';
import { u32, u64 } from '../../../host/uapi/codec.js';
import * as vduse from '../../../host/uapi/vduse.js';
import * as vhost from '../../../host/uapi/vhost.js';
import type { VduseFile } from '../../../host/vduse/file.js';
import {
  createDevice,
  fails,
  get,
  LAST_IOVA,
  NAME,
  STATUS_DRIVER_OK,
  setStatus,
  vqInfo,
} from '../protocol.js';
import { onScene, type Rule } from '../rule.js';
import { lacksApi1 } from './lacks.js';

const setup = (device: VduseFile, values: Parameters<typeof vduse.vduseVqConfig.encode>[0]) =>
  device.ioctl(vduse.VDUSE_VQ_SETUP, vduse.vduseVqConfig.encode(values));
/** A field of reserved words whose last is not zero. */
const dirty = (words: number) => [...new Array<number>(words - 1).fill(0), 1];

/** /dev/vduse/NAME, but for messages, notifications and mappings. */
export const vduseDeviceRules: readonly Rule[] = [
  {
    name: 'a queue that the device does not have is EINVAL for its server',
    source: 'vduse_dev_ioctl',
    play: onScene(async ({ device }) => {
      for (const index of [2, 0xffff, 0xffff_ffff]) {
        await fails(setup(device, { index, max_size: 64 }), 'EINVAL', 'ioctl');
        await fails(vqInfo(device, index), 'EINVAL');
        await fails(device.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(index)), 'EINVAL');
        const kickfd = vduse.vduseVqEventfd.encode({ index, fd: -1 });
        await fails(device.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, kickfd), 'EINVAL');
      }
    }),
  },
  {
    name: 'queues of version 0 have no group, and can be set up at any time',
    source: 'vduse_dev_ioctl, VDUSE_VQ_SETUP',
    play: onScene(async ({ device, driver }) => {
      await fails(setup(device, { index: 0, max_size: 64, group: 1 }), 'EINVAL');
      await fails(setup(device, { index: 0, max_size: 64, reserved1: 1 }), 'EINVAL');
      await fails(setup(device, { index: 0, max_size: 64, reserved2: dirty(10) }), 'EINVAL');
      await setStatus(driver, STATUS_DRIVER_OK);
      await setup(device, { index: 0, max_size: 64 });
    }),
  },
  {
    name: 'queues of version 1 have a group of the device’s, and none is set up after DRIVER_OK',
    source: 'vduse_dev_ioctl, VDUSE_VQ_SETUP',
    lacks: lacksApi1,
    play: onScene(
      async ({ device, driver }) => {
        await setup(device, { index: 0, max_size: 64, group: 1 });
        await fails(setup(device, { index: 0, max_size: 64, group: 2 }), 'EINVAL');
        await fails(setup(device, { index: 0, max_size: 64, reserved1: 1 }), 'EINVAL');
        await fails(setup(device, { index: 0, max_size: 64, reserved2: dirty(10) }), 'EINVAL');
        await setStatus(driver, STATUS_DRIVER_OK);
        await fails(setup(device, { index: 0, max_size: 64, group: 1 }), 'EINVAL');
      },
      { apiVersion: 1n, ngroups: 2, nas: 1 },
    ),
  },
  {
    name: 'a device is attached once all its queues are set up, and only once',
    source: 'vdpa_dev_add of vduse_dev.c',
    play: async (world) => {
      const control = await world.control();
      const device = await createDevice(control, { queues: 1 });
      await setup(device, { index: 0, max_size: 0 });
      await refused(world.attach(NAME, 1000));
      await setup(device, { index: 0, max_size: 64 });
      await world.attach(NAME, 1000);
      await refused(world.attach(NAME, 1000));
      await refused(world.attach('nobody', 1000));
      await world.detach(NAME);
      await refused(world.detach(NAME));
      await world.attach(NAME, 1000);
    },
  },
  {
    name: 'features are those that the driver wrote, whatever they are',
    source: 'vduse_vdpa_set_driver_features',
    play: onScene(async ({ device, driver }) => {
      assert.is(await get(device, vduse.VDUSE_DEV_GET_FEATURES, u64), 0n);
      await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(LAST_IOVA));
      assert.is(await get(device, vduse.VDUSE_DEV_GET_FEATURES, u64), LAST_IOVA);
    }),
  },
  {
    name: 'memory for the bounce buffer is refused while there is no bounce buffer',
    source: 'vduse_dev_reg_umem',
    play: onScene(async ({ device }) => {
      const umem = (reserved = [0, 0, 0, 0, 0], asid = 0) => vduse.vduseIovaUmem.encode({ reserved, asid });
      await fails(device.ioctl(vduse.VDUSE_IOTLB_REG_UMEM, umem()), 'EINVAL', 'ioctl');
      await fails(device.ioctl(vduse.VDUSE_IOTLB_REG_UMEM, umem(dirty(5))), 'EINVAL');
      await fails(device.ioctl(vduse.VDUSE_IOTLB_DEREG_UMEM, umem()), 'ENOENT');
      await fails(device.ioctl(vduse.VDUSE_IOTLB_DEREG_UMEM, umem(dirty(5))), 'EINVAL');
      await fails(device.ioctl(vduse.VDUSE_IOTLB_DEREG_UMEM, umem(undefined, 1)), 'EINVAL');
    }),
  },
  {
    name: 'an unknown ioctl of a device node is ENOTTY',
    source: 'vduse_dev_ioctl',
    play: onScene(async ({ device }) => {
      await fails(device.ioctl(0x8008_81ff, new Uint8Array(8)), 'ENOTTY', 'ioctl');
    }),
  },
  {
    name: 'no argument at all is EFAULT for a device’s server',
    source: 'vduse_dev_ioctl',
    play: onScene(async ({ device }) => {
      for (const request of [
        vduse.VDUSE_IOTLB_GET_FD,
        vduse.VDUSE_DEV_GET_FEATURES,
        vduse.VDUSE_DEV_SET_CONFIG,
        vduse.VDUSE_VQ_SETUP,
        vduse.VDUSE_VQ_GET_INFO,
        vduse.VDUSE_VQ_SETUP_KICKFD,
        vduse.VDUSE_VQ_INJECT_IRQ,
        vduse.VDUSE_IOTLB_REG_UMEM,
        vduse.VDUSE_IOTLB_DEREG_UMEM,
        vduse.VDUSE_IOTLB_GET_INFO,
      ])
        await fails(device.ioctl(request), 'EFAULT', 'ioctl');
    }),
  },
];

/** Asserts that a management call is refused; how is for the tool that makes it. */
async function refused(call: Promise<void>): Promise<void> {
  const outcome = await call.then(
    () => 'success',
    () => 'refused',
  );
  assert.is(outcome, 'refused');
}
