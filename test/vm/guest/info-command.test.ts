import { closeSync, constants, openSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { infoByName, infoByNode } from '../../../host/cli/device-info.js';
import { BlockDevice, type ServedDevice, serve, VdpaBus } from '../../../host/index.js';
import { VIRTIO_ID_BLOCK } from '../../../host/uapi/virtio.js';
import { run } from '../../cli/command-line.js';
import { modprobe } from '../fixture.js';

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

/** What `ringbell info` finds out, without the seconds that a process takes to start where a CPU is emulated. */
const info = (target: string) => (target.includes('/') ? infoByNode(bus, target) : infoByName(bus, target));

test('without an operand the bus is listed', async () => {
  const { status, stdout: json } = await run(['info', '--json']);
  assert.is(status, 0);
  const { managementDevices, devices } = JSON.parse(json);
  assert.ok(managementDevices.some(({ name }: { name: string }) => name === 'vduse'));
  assert.equal(devices, [await bus.show('disk0')]);
  const { stdout } = await run(['info']);
  assert.match(stdout, /^device +kind +of +driver +node +queues +of size$/m);
  assert.match(stdout, new RegExp(`^disk0 +block +vduse +vhost_vdpa +${node} +2 +256$`, 'm'));
  assert.match(stdout, /^vduse +(net, block|block, net)/m);
});

test('by name the bus is asked, and the device is not touched', async () => {
  let resets = 0;
  served.on('status', () => resets++);
  const disk = await info('disk0');
  assert.is(disk.deviceId, VIRTIO_ID_BLOCK);
  assert.is(disk.node, node);
  assert.ok(disk.features!.includes('VIRTIO_BLK_F_FLUSH'));
  assert.is(disk.config.capacity, BigInt((8 * MIB) / 512));
  assert.is(disk.config.num_queues, 2);
  assert.is(disk.queues, null);
  assert.is(resets, 0);
});

test('by path the device tells of its queues, doorbells and IOVAs', async () => {
  const disk = await info(node);
  assert.is(disk.name, 'disk0');
  assert.is(disk.managementDevice, 'vduse');
  assert.equal(disk.features, served.features);
  assert.ok(disk.backendFeatures!.includes('VHOST_BACKEND_F_IOTLB_BATCH'));
  assert.is(disk.config.capacity, BigInt((8 * MIB) / 512));
  assert.is(disk.queues!.length, 2);
  for (const { size, doorbell, doorbellRefusal } of disk.queues!) {
    assert.is(size, 256);
    assert.is(doorbell, 'eventfd');
    assert.is(doorbellRefusal, 'ENOTSUPP');
  }
  assert.equal(disk.iovaRange, { first: 0n, last: 2n ** 64n - 1n });
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
});

test('what is not there is said on one line', async () => {
  for (const [operand, code] of [
    ['nobody', 'ERR_NO_DEVICE'],
    ['/dev/vhost-vdpa-99', 'ERR_NO_DEVICE'],
    ['/dev/null', 'ERR_NO_DEVICE'],
  ] as const) {
    const error = await info(operand).catch((error) => error);
    assert.is(error.code, code, operand);
  }
  const { status, stdout, stderr } = await run(['info', 'nobody']);
  assert.is(status, 1);
  assert.is(stdout, '');
  assert.match(stderr, /^ringbell: there is no nobody on the vDPA bus[^\n]*\n$/);
});

test.run();
