import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import {
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_BLOCK,
  VIRTIO_ID_CONSOLE,
  VIRTIO_ID_FS,
  VIRTIO_ID_NET,
} from '../../host/uapi/virtio.js';
import type { VduseControlFile } from '../../host/vduse/file.js';
import { deviceConfig, FEATURES, fails, NAME } from './fixture.js';

const mask = (...bits: number[]) => bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);

type ConfigValues = Partial<Parameters<typeof vduse.vduseDevConfig.encode>[0]>;

/** A valid argument of VDUSE_CREATE_DEV with some fields changed. */
function config(changes: ConfigValues = {}): Uint8Array {
  const argument = deviceConfig();
  vduse.vduseDevConfig.set(argument, changes);
  return argument;
}

async function onControl(act: (control: VduseControlFile, bus: Bus) => Promise<void>): Promise<void> {
  await using bus = new Bus();
  await act(bus.control(), bus);
}

async function version(control: VduseControlFile): Promise<bigint> {
  const argument = new Uint8Array(8);
  await control.ioctl(vduse.VDUSE_GET_API_VERSION, argument);
  return u64.decode(argument);
}

test('asking for the API version latches the newest for this file', async () => {
  await onControl(async (control, bus) => {
    assert.is(await version(control), 1n);
    await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, config()), 'EINVAL');
    await control.ioctl(vduse.VDUSE_CREATE_DEV, config({ ngroups: 1, nas: 1 }));
    // Another file has latched nothing.
    await bus.control().ioctl(vduse.VDUSE_CREATE_DEV, config({ name: 'other' }));
  });
});

test('creating a device without a word about versions latches 0', async () => {
  await onControl(async (control) => {
    await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, config({ ngroups: 1, nas: 1 })), 'EINVAL');
    await control.ioctl(vduse.VDUSE_CREATE_DEV, config());
    assert.is(await version(control), 0n);
  });
});

test('a version can be set up to the newest; beyond is EINVAL', async () => {
  await onControl(async (control) => {
    await fails(control.ioctl(vduse.VDUSE_SET_API_VERSION, u64.encode(2n)), 'EINVAL', 'ioctl');
    await fails(control.ioctl(vduse.VDUSE_SET_API_VERSION, u64.encode(2n ** 64n - 1n)), 'EINVAL');
    await control.ioctl(vduse.VDUSE_SET_API_VERSION, u64.encode(0n));
    assert.is(await version(control), 0n);
    await control.ioctl(vduse.VDUSE_SET_API_VERSION, u64.encode(1n));
    assert.is(await version(control), 1n);
  });
});

test('features of VDUSE itself can be opted in to; unknown ones are EINVAL', async () => {
  await onControl(async (control) => {
    const argument = new Uint8Array(8);
    await control.ioctl(vduse.VDUSE_GET_FEATURES, argument);
    assert.is(u64.decode(argument), mask(vduse.VDUSE_F_QUEUE_READY, vduse.VDUSE_F_SUSPEND));
    await control.ioctl(vduse.VDUSE_SET_FEATURES, argument);
    await fails(control.ioctl(vduse.VDUSE_SET_FEATURES, u64.encode(4n)), 'EINVAL');
  });
});

const refusals: [why: string, changes: ConfigValues][] = [
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
  ['a net device with a control queue', { device_id: VIRTIO_ID_NET, features: FEATURES | mask(17) }],
  ['a legacy net device', { device_id: VIRTIO_ID_NET, features: mask(VIRTIO_F_ACCESS_PLATFORM) }],
];
for (const [why, changes] of refusals)
  test(`creating a device is EINVAL for ${why}`, async () => {
    await onControl(async (control, bus) => {
      await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, config(changes)), 'EINVAL', 'ioctl');
      assert.equal(bus.list(), []);
    });
  });

test('version 1 wants 1 to 65,535 groups and address spaces', async () => {
  await onControl(async (control) => {
    await control.ioctl(vduse.VDUSE_SET_API_VERSION, u64.encode(1n));
    for (const [ngroups, nas] of [
      [0, 1],
      [1, 0],
      [0x10000, 1],
      [1, 0x10000],
    ] as const)
      await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, config({ ngroups, nas })), 'EINVAL');
    await control.ioctl(vduse.VDUSE_CREATE_DEV, config({ ngroups: 0xffff, nas: 2 }));
  });
});

test('block, net and file system devices are allowed, to the limits', async () => {
  await onControl(async (control, bus) => {
    for (const device_id of [VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_ID_FS])
      await control.ioctl(
        vduse.VDUSE_CREATE_DEV,
        config({ name: `d${device_id}`, device_id, vq_num: 0xffff, vq_align: 4 }),
      );
    assert.equal(
      bus.list().map(({ name, queues }) => [name, queues]),
      [
        ['d2', 65535],
        ['d1', 65535],
        ['d26', 65535],
      ],
    );
  });
});

test('an argument that is too short for its config space is EFAULT', async () => {
  await onControl(async (control) => {
    await fails(control.ioctl(vduse.VDUSE_CREATE_DEV), 'EFAULT');
    await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, config().subarray(0, 335)), 'EFAULT');
    await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, config().subarray(0, 336 + 15)), 'EFAULT');
    await fails(control.ioctl(vduse.VDUSE_DESTROY_DEV, new Uint8Array(255)), 'EFAULT');
  });
});

test('a name is taken once: EEXIST', async () => {
  await onControl(async (control, bus) => {
    await control.ioctl(vduse.VDUSE_CREATE_DEV, config());
    await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, config()), 'EEXIST');
    await fails(bus.control().ioctl(vduse.VDUSE_CREATE_DEV, config()), 'EEXIST');
  });
});

test('a device is opened once at a time: EBUSY, and ENODEV when it does not exist', async () => {
  await onControl(async (control) => {
    await fails(control.open(NAME), 'ENODEV', 'open');
    await control.ioctl(vduse.VDUSE_CREATE_DEV, config());
    const file = await control.open(NAME);
    await fails(control.open(NAME), 'EBUSY', 'open');
    await file.close();
    await file.close();
    await control.open(NAME);
  });
});

test('destroying is EBUSY while open, EINVAL for an unknown name', async () => {
  await onControl(async (control, bus) => {
    const name = vduse.vduseName.encode(NAME);
    await fails(control.ioctl(vduse.VDUSE_DESTROY_DEV, name), 'EINVAL');
    await control.ioctl(vduse.VDUSE_CREATE_DEV, config());
    const file = await control.open(NAME);
    await fails(control.ioctl(vduse.VDUSE_DESTROY_DEV, name), 'EBUSY');
    await file.close();
    await control.ioctl(vduse.VDUSE_DESTROY_DEV, name);
    assert.equal(bus.list(), []);
  });
});

test('an unknown ioctl is EINVAL here, and a closed file EBADF', async () => {
  await onControl(async (control, bus) => {
    await fails(control.ioctl(0x81ff), 'EINVAL', 'ioctl');
    await control.ioctl(vduse.VDUSE_CREATE_DEV, config());
    await control.close();
    await fails(version(control), 'EBADF');
    await fails(control.open(NAME), 'EBADF');
    assert.is(bus.list().length, 1);
  });
});

test.run();
