import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VDUSE_GET_API_VERSION, VDUSE_SET_API_VERSION } from '../../../host/uapi/vduse.js';
import { KernelVduseControlFile } from '../../../host/vduse/kernel-file.js';
import {
  addSimulator,
  artefacts,
  bindDriver,
  hasModule,
  hasTool,
  kernelSeries,
  modprobe,
  removeDevice,
  scratch,
  shell,
  skip,
} from '../fixture.js';
import { SERIES } from '../series.js';

const MIB = 2 ** 20;
const series = SERIES.find(({ name }) => name === kernelSeries());

test('the kernel is of a series that the harness knows', () => {
  assert.ok(series, kernelSeries());
});

test('the bus drivers of vDPA are there, and take no device by themselves', () => {
  assert.equal(readdirSync('/sys/bus/vdpa/drivers').sort(), ['vhost_vdpa', 'virtio_vdpa']);
  assert.is(readFileSync('/sys/bus/vdpa/drivers_autoprobe', 'utf8').trim(), '0');
});

test('VDUSE speaks the API version of the series, and no newer one', async () => {
  const control = new KernelVduseControlFile();
  const version = new BigUint64Array(1);
  const argument = new Uint8Array(version.buffer);
  try {
    await control.ioctl(VDUSE_GET_API_VERSION, argument);
    assert.is(version[0], BigInt(series!.vduseApiVersion));
    version[0]! += 1n;
    try {
      await control.ioctl(VDUSE_SET_API_VERSION, argument);
      assert.unreachable();
    } catch (error) {
      assert.is((error as NodeJS.ErrnoException).code, 'EINVAL');
    }
  } finally {
    await control.close();
  }
});

for (const [type, tool] of Object.entries({ ext4: 'mkfs.ext4', xfs: 'mkfs.xfs' })) {
  const name = `${type} can be made in a file and mounted`;
  if (hasTool(tool))
    test(name, () => {
      const folder = scratch();
      const image = join(folder, 'image');
      const mount = join(folder, 'mount');
      mkdirSync(mount);
      shell(`truncate -s ${512 * MIB} ${image} && ${tool} -q ${image}`);
      modprobe('loop', type);
      shell(`mount -o loop ${image} ${mount}`);
      writeFileSync(join(mount, 'file'), 'content');
      shell(`umount ${mount} && mount -o loop ${image} ${mount}`);
      assert.is(readFileSync(join(mount, 'file'), 'utf8'), 'content');
      shell(`umount ${mount}`);
    });
  else skip(name, `${tool} is not installed`);
}

test('what tests need besides is there', () => {
  modprobe('null_blk', 'tun', 'veth', 'bridge', 'virtio_net', 'virtio_blk', 'af_packet');
});

for (const [kind, driver] of [
  ['blk', 'vhost_vdpa'],
  ['blk', 'virtio_vdpa'],
  ['net', 'vhost_vdpa'],
] as const) {
  const name = `a simulated ${kind} device can be bound to ${driver}`;
  if (hasModule(`vdpa_sim_${kind}`))
    test(name, async () => {
      addSimulator(kind, 'sim0');
      const path = await bindDriver('sim0', driver);
      assert.match(path, driver === 'vhost_vdpa' ? /^\/dev\/vhost-vdpa-\d+$/ : /^\/dev\/vd[a-z]$/);
      removeDevice('sim0');
      assert.equal(readdirSync('/sys/bus/vdpa/devices'), []);
    });
  else skip(name, `Linux ${kernelSeries()} comes without vdpa_sim_${kind}`);
}

test('artefacts can be written', () => {
  writeFileSync(join(artefacts(), 'modules'), readFileSync('/proc/modules'));
});

test.run();
