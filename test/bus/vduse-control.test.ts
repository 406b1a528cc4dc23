import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import * as vduse from '../../host/uapi/vduse.js';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_FS, VIRTIO_ID_NET } from '../../host/uapi/virtio.js';
import type { VduseControlFile } from '../../host/vduse/file.js';
import { deviceConfig, fails, NAME } from './fixture.js';

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
    await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, config().subarray(0, 335)), 'EFAULT');
    await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, config().subarray(0, 336 + 15)), 'EFAULT');
    await fails(control.ioctl(vduse.VDUSE_DESTROY_DEV, new Uint8Array(255)), 'EFAULT');
  });
});

test('a closed file is EBADF, and its devices stay', async () => {
  await onControl(async (control, bus) => {
    await control.ioctl(vduse.VDUSE_CREATE_DEV, config());
    await control.close();
    await fails(control.ioctl(vduse.VDUSE_GET_API_VERSION, new Uint8Array(8)), 'EBADF');
    await fails(control.open(NAME), 'EBADF');
    assert.is(bus.list().length, 1);
  });
});

test.run();
