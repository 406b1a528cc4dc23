import * as assert from 'uvu/assert';
import { u64 } from '../../../host/uapi/codec.js';
import * as vduse from '../../../host/uapi/vduse.js';
import {
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_CONSOLE,
  VIRTIO_ID_FS,
  VIRTIO_ID_NET,
} from '../../../host/uapi/virtio.js';
import type { VduseControlFile } from '../../../host/vduse/file.js';
import { deviceConfig, FEATURES, fails, get, mask, NAME } from '../protocol.js';
import type { Rule } from '../rule.js';
import { lacksApi1, lacksVduseFeature } from './lacks.js';

/** VIRTIO_NET_F_CTRL_VQ, a bit number. */
const VIRTIO_NET_F_CTRL_VQ = 17;

type ConfigValues = Parameters<typeof vduse.vduseDevConfig.encode>[0];

/** A valid argument of VDUSE_CREATE_DEV with some fields changed. */
function config(changes: ConfigValues = {}): Uint8Array {
  const argument = deviceConfig();
  vduse.vduseDevConfig.set(argument, changes);
  return argument;
}

const create = (control: VduseControlFile, changes: ConfigValues = {}) =>
  control.ioctl(vduse.VDUSE_CREATE_DEV, config(changes));
const destroy = (control: VduseControlFile, name = NAME) =>
  control.ioctl(vduse.VDUSE_DESTROY_DEV, vduse.vduseName.encode(name));
const version = (control: VduseControlFile) => get(control, vduse.VDUSE_GET_API_VERSION, u64);

const REFUSED_CONFIGS: readonly [why: string, changes: ConfigValues][] = [
  ['a reserved field', { reserved: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] }],
  ['groups in version 0', { ngroups: 1 }],
  ['address spaces in version 0', { nas: 1 }],
  ['an alignment of 0', { vq_align: 0 }],
  ['an alignment of 2', { vq_align: 2 }],
  ['an alignment that is no power of two', { vq_align: 12 }],
  ['an alignment beyond a page', { vq_align: 8192 }],
  ['an alignment with only the top bit', { vq_align: 0x80000000 }],
  ['a config space beyond a page', { config_size: 4097 }],
  ['too many queues', { vq_num: 0x10000 }],
  ['no name', { name: '' }],
  ['a device type that VDUSE does not allow', { device_id: VIRTIO_ID_CONSOLE }],
  ['no ACCESS_PLATFORM', { features: mask(VIRTIO_F_VERSION_1) }],
  ['a writable cache mode', { features: FEATURES | mask(VIRTIO_BLK_F_CONFIG_WCE) }],
  [
    'a net device with a control queue',
    { device_id: VIRTIO_ID_NET, features: FEATURES | mask(VIRTIO_NET_F_CTRL_VQ) },
  ],
  ['a legacy net device', { device_id: VIRTIO_ID_NET, features: mask(VIRTIO_F_ACCESS_PLATFORM) }],
];

/** /dev/vduse/control. */
export const vduseControlRules: readonly Rule[] = [
  {
    name: 'asking for the API version latches the newest for this file',
    source: 'vduse_ioctl',
    lacks: lacksApi1,
    play: async (world) => {
      const control = await world.control();
      assert.is(await version(control), 1n);
      await fails(create(control), 'EINVAL', 'ioctl');
      await create(control, { ngroups: 1, nas: 1 });
      // Another file has latched nothing.
      await create(await world.control(), { name: 'other' });
    },
  },
  {
    name: 'creating a device without a word about versions latches 0',
    source: 'vduse_ioctl',
    play: async (world) => {
      const control = await world.control();
      await fails(create(control, { ngroups: 1, nas: 1 }), 'EINVAL');
      await create(control);
      assert.is(await version(control), 0n);
    },
  },
  {
    name: 'a version can be set up to the newest, and back; beyond is EINVAL',
    source: 'vduse_ioctl',
    play: async (world) => {
      const control = await world.control();
      const set = (wanted: bigint) => control.ioctl(vduse.VDUSE_SET_API_VERSION, u64.encode(wanted));
      await fails(set(world.apiVersion + 1n), 'EINVAL', 'ioctl');
      await fails(set(2n ** 64n - 1n), 'EINVAL');
      await set(world.apiVersion);
      assert.is(await version(control), world.apiVersion);
      await set(0n);
      assert.is(await version(control), 0n);
    },
  },
  {
    name: 'features of VDUSE itself can be opted in to; unknown ones are EINVAL',
    source: 'vduse_ioctl',
    lacks: lacksVduseFeature(vduse.VDUSE_F_QUEUE_READY, vduse.VDUSE_F_SUSPEND),
    play: async (world) => {
      const control = await world.control();
      const features = await get(control, vduse.VDUSE_GET_FEATURES, u64);
      assert.is(features, mask(vduse.VDUSE_F_QUEUE_READY, vduse.VDUSE_F_SUSPEND));
      const set = (wanted: bigint) => control.ioctl(vduse.VDUSE_SET_FEATURES, u64.encode(wanted));
      await set(features);
      await fails(set(4n), 'EINVAL');
    },
  },
  ...REFUSED_CONFIGS.map(
    ([why, changes]): Rule => ({
      name: `creating a device is EINVAL for ${why}`,
      source: 'vduse_validate_config',
      play: async (world) => {
        const control = await world.control();
        await fails(create(control, changes), 'EINVAL', 'ioctl');
        await create(control);
      },
    }),
  ),
  {
    name: 'version 1 wants 1 to 65,535 groups and address spaces',
    source: 'vduse_validate_config',
    lacks: lacksApi1,
    play: async (world) => {
      const control = await world.control();
      await control.ioctl(vduse.VDUSE_SET_API_VERSION, u64.encode(1n));
      for (const [ngroups, nas] of [
        [0, 1],
        [1, 0],
        [0x10000, 1],
        [1, 0x10000],
      ] as const)
        await fails(create(control, { ngroups, nas }), 'EINVAL');
      await create(control, { ngroups: 0xffff, nas: 2 });
    },
  },
  {
    name: 'block and net devices are allowed, with hundreds of queues and the smallest alignment',
    source: 'device_is_allowed',
    play: async (world) => {
      const control = await world.control();
      await create(control, { vq_num: 300, vq_align: 4 });
      await create(control, { name: 'net0', device_id: VIRTIO_ID_NET });
    },
  },
  {
    name: 'file system devices are allowed',
    source: 'device_is_allowed',
    differs: [{ at: '6.12', why: 'VIRTIO_ID_FS joined allowed_device_id in 6.15' }],
    play: async (world, at) => {
      const creating = create(await world.control(), { device_id: VIRTIO_ID_FS });
      if (at('6.12')) await fails(creating, 'EINVAL');
      else await creating;
    },
  },
  {
    name: 'no argument at all is EFAULT',
    source: 'vduse_ioctl',
    play: async (world) => {
      const control = await world.control();
      for (const request of [
        vduse.VDUSE_GET_API_VERSION,
        vduse.VDUSE_SET_API_VERSION,
        vduse.VDUSE_CREATE_DEV,
        vduse.VDUSE_DESTROY_DEV,
      ])
        await fails(control.ioctl(request), 'EFAULT', 'ioctl');
    },
  },
  {
    name: 'a name is taken once, whoever created it: EEXIST',
    source: 'vduse_create_dev',
    play: async (world) => {
      const control = await world.control();
      await create(control);
      await fails(create(control), 'EEXIST');
      await fails(create(await world.control()), 'EEXIST');
    },
  },
  {
    name: 'a name without its NUL loses its last byte',
    source: 'vduse_ioctl',
    play: async (world) => {
      const control = await world.control();
      const argument = config();
      argument.fill(0x6e, 0, vduse.VDUSE_NAME_MAX);
      await control.ioctl(vduse.VDUSE_CREATE_DEV, argument);
      await destroy(control, 'n'.repeat(vduse.VDUSE_NAME_MAX - 1));
    },
  },
  {
    name: 'a device node is opened once at a time: EBUSY, and ENOENT when it was not created',
    source: 'vduse_dev_open',
    play: async (world) => {
      const control = await world.control();
      await fails(control.open(NAME), 'ENOENT', 'open');
      await create(control);
      const file = await control.open(NAME);
      await fails(control.open(NAME), 'EBUSY', 'open');
      await file.close();
      await file.close();
      await control.open(NAME);
    },
  },
  {
    name: 'destroying is EBUSY while the node is open, EINVAL for an unknown name',
    source: 'vduse_destroy_dev',
    play: async (world) => {
      const control = await world.control();
      await fails(destroy(control), 'EINVAL');
      await create(control);
      const file = await control.open(NAME);
      await fails(destroy(control), 'EBUSY');
      await file.close();
      await destroy(control);
      await fails(destroy(control), 'EINVAL');
      await create(control);
    },
  },
  {
    name: 'an unknown ioctl of the control device is EINVAL, not ENOTTY',
    source: 'vduse_ioctl',
    play: async (world) => {
      const control = await world.control();
      await fails(control.ioctl(0x81ff), 'EINVAL', 'ioctl');
      await fails(control.ioctl(0x8008_81ff, new Uint8Array(8)), 'EINVAL');
    },
  },
  {
    name: 'devices outlive the control file that created them',
    source: 'vduse_release',
    play: async (world) => {
      const control = await world.control();
      await create(control);
      await control.close();
      await fails(create(await world.control()), 'EEXIST');
    },
  },
];
