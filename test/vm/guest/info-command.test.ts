import { closeSync, constants, openSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DeviceInfo } from '../../../host/cli/device-info.js';
import { BlockDevice, type ServedDevice, serve, VdpaBus } from '../../../host/index.js';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET } from '../../../host/uapi/virtio.js';
import { run } from '../../cli/command-line.js';
import { addSimulator, bindDriver, hasModule, modprobe, skip } from '../fixture.js';

const MIB = 2 ** 20;

modprobe('vduse', 'vhost_vdpa', 'virtio_vdpa', 'virtio_blk');
const bus = new VdpaBus();
let served: ServedDevice;
let node: string;
test.before(async () => {
  served = await serve(new BlockDevice({ memory: 8 * MIB }), {
    name: 'disk0',
    transport: 'vduse',
    attach: 'vhost',
    queues: 2,
  });
  node = (await bus.show('disk0')).node!;
});
test.after(() => served.close());

/** What `ringbell info --json` prints. */
async function info<T = DeviceInfo>(...operand: string[]): Promise<T> {
  const { status, stdout, stderr } = await run(['info', '--json', ...operand]);
  assert.is(stderr, '');
  assert.is(status, 0);
  return JSON.parse(stdout) as T;
}

test('without an operand the bus is listed', async () => {
  const { managementDevices, devices } = await info<{
    managementDevices: { name: string }[];
    devices: { name: string; node: string }[];
  }>();
  assert.ok(managementDevices.some(({ name }) => name === 'vduse'));
  const disk = devices.find(({ name }) => name === 'disk0')!;
  assert.is(disk.node, node);
  const { stdout } = await run(['info']);
  assert.match(stdout, /^device +kind +of +driver +node +queues +of size$/m);
  assert.match(stdout, new RegExp(`^disk0 +block +vduse +vhost_vdpa +${node} +2 +256$`, 'm'));
  assert.match(stdout, /^vduse +(net, block|block, net)/m);
});

test('by name the bus is asked, and the device is not touched', async () => {
  const before = served.stats();
  let resets = 0;
  served.on('status', () => resets++);
  const disk = await info('disk0');
  assert.is(disk.deviceId, VIRTIO_ID_BLOCK);
  assert.is(disk.node, node);
  assert.ok(disk.features!.includes('VIRTIO_BLK_F_FLUSH'));
  assert.is(disk.config.capacity, `0x${((8 * MIB) / 512).toString(16)}`);
  assert.is(disk.config.num_queues, 2);
  assert.is(disk.queues, null);
  assert.is(resets, 0);
  assert.equal(served.stats(), before);
});

test('by path the device tells of its queues, doorbells and IOVAs', async () => {
  const disk = await info(node);
  assert.is(disk.name, 'disk0');
  assert.is(disk.managementDevice, 'vduse');
  assert.equal(disk.features, served.features);
  assert.ok(disk.backendFeatures!.includes('VHOST_BACKEND_F_IOTLB_BATCH'));
  assert.is(disk.config.capacity, `0x${((8 * MIB) / 512).toString(16)}`);
  assert.is(disk.queues!.length, 2);
  for (const { size, doorbell, doorbellRefusal } of disk.queues!) {
    assert.is(size, 256);
    assert.is(doorbell, 'eventfd');
    assert.is(doorbellRefusal, 'ENOTSUPP');
  }
  assert.equal(disk.iovaRange, { first: '0x0', last: '0xffffffffffffffff' } as never);
  assert.is(disk.groups, 1);
  assert.is(disk.addressSpaces, 1);
  const { stdout } = await run(['info', node]);
  assert.match(stdout, /^disk0 {2}block device of vduse, vendor 0x0$/m);
  assert.match(stdout, /capacity 16384 \(8 MiB\)/);
});

test('a device that a program has open is left alone, and the program named', async () => {
  const fd = openSync(node, constants.O_RDWR);
  const { status, stderr } = await run(['info', node]);
  assert.is(status, 1);
  assert.match(stderr, new RegExp(`^ringbell: ${node} is in use by \\S+ \\(process ${process.pid}\\)\n$`));
  assert.is((await info('disk0')).name, 'disk0');
  closeSync(fd);
});

test("under the kernel's own driver, status and accepted features are shown", async () => {
  await bus.bind('disk0', 'virtio_vdpa');
  const disk = await info('disk0');
  assert.equal(disk.status, ['ACKNOWLEDGE', 'DRIVER', 'DRIVER_OK', 'FEATURES_OK']);
  assert.ok(disk.negotiatedFeatures!.includes('VIRTIO_F_VERSION_1'));
  const { stdout } = await run(['info', 'disk0']);
  assert.match(stdout, /^ {2}status +ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK$/m);
});

test('what is not there is said on one line', async () => {
  for (const [operand, says] of [
    ['nobody', /^ringbell: there is no nobody on the vDPA bus[^\n]*\n$/],
    ['/dev/vhost-vdpa-99', /^ringbell: there is no \/dev\/vhost-vdpa-99\n$/],
    ['/dev/null', /^ringbell: [^\n]*\/dev\/null[^\n]*\n$/],
  ] as const) {
    const { status, stdout, stderr } = await run(['info', operand]);
    assert.is(status, 1);
    assert.is(stdout, '');
    assert.match(stderr, says);
  }
});

if (!hasModule('vdpa_sim_net')) skip('simulated devices are shown', 'there is no vdpa_sim_net');
else
  test('simulated devices are shown', async () => {
    addSimulator('net', 'net0');
    addSimulator('blk', 'blk0');
    for (const name of ['net0', 'blk0']) await bindDriver(name, 'vhost_vdpa');
    const net = await info((await bus.show('net0')).node!);
    assert.is(net.deviceId, VIRTIO_ID_NET);
    assert.is(net.groups, 2);
    assert.is(net.addressSpaces, 2);
    assert.equal(
      net.queues!.map(({ group }) => group),
      [0, 0, 1],
    );
    assert.ok(net.backendFeatures!.includes('VHOST_BACKEND_F_SUSPEND'));
    assert.is(net.config.mtu, 1500);
    assert.equal((await info('net0')).config, net.config);
    const blk = await info((await bus.show('blk0')).node!);
    assert.is(blk.deviceId, VIRTIO_ID_BLOCK);
    assert.is(blk.config.capacity, '0x40000');
    for (const name of ['net0', 'blk0']) await bus.delete(name);
  });

test.run();
