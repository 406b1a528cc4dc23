import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configFields } from '../../host/cli/config-fields.js';
import type { DeviceInfo } from '../../host/cli/device-info.js';
import { deviceLines, listLines } from '../../host/cli/info-report.js';
import { mask } from '../../host/uapi/bits.js';
import * as virtio from '../../host/uapi/virtio.js';

const DEVICE: DeviceInfo = {
  name: 'disk0',
  node: '/dev/vhost-vdpa-0',
  driver: 'vhost_vdpa',
  managementDevice: 'vduse',
  deviceId: virtio.VIRTIO_ID_BLOCK,
  vendorId: 0x1af4,
  status: [],
  features: ['VIRTIO_BLK_F_FLUSH', 'VIRTIO_F_VERSION_1'],
  negotiatedFeatures: null,
  config: { capacity: 2048n, blk_size: 512 },
  queueCount: 2,
  queueSize: 256,
  queues: [
    { size: 256, group: 0, doorbell: 'page', doorbellRefusal: null },
    { size: 128, group: null, doorbell: 'eventfd', doorbellRefusal: 'ENOTSUPP' },
  ],
  backendFeatures: ['VHOST_BACKEND_F_IOTLB_BATCH'],
  iovaRange: { first: 0n, last: 2n ** 64n - 1n },
  groups: 2,
  addressSpaces: 1,
};

test('everything that is known of a device is said', () => {
  assert.equal(deviceLines(DEVICE), [
    'disk0  block device of vduse, vendor 0x1af4',
    '  driver      vhost_vdpa: /dev/vhost-vdpa-0',
    '  status      reset',
    '  features    FLUSH VERSION_1',
    '  backend     IOTLB_BATCH',
    '  config      capacity 2048 (1 MiB)',
    '              blk_size 512',
    '  IOVAs       0x0 to 0xffffffffffffffff',
    '  groups      2 of queues, 1 address space',
    '',
    'queue  size  group  doorbell',
    '    0   256      0  page',
    '    1   128      –  eventfd (no page: ENOTSUPP)',
  ]);
});

test('what was not asked for is left out, and how to ask is said', () => {
  const asked = { queues: null, backendFeatures: null, iovaRange: null, groups: null, addressSpaces: null };
  const lines = deviceLines({ ...DEVICE, ...asked, status: null, features: null, config: {} });
  assert.equal(lines, [
    'disk0  block device of vduse, vendor 0x1af4',
    '  driver      vhost_vdpa: /dev/vhost-vdpa-0',
    '  queues      2 of at most 256 entries',
    '',
    'ringbell info /dev/vhost-vdpa-0 tells more, and resets the device',
  ]);
});

test('many features take several lines', () => {
  const features = Array.from({ length: 30 }, (_, bit) => `VIRTIO_F_NUMBER_${bit}`);
  const lines = deviceLines({ ...DEVICE, features }).filter((line) => line.includes('NUMBER_'));
  assert.ok(lines.length > 2);
  for (const line of lines) assert.ok(line.length <= 114, line);
  assert.is(lines.join(' ').match(/NUMBER_/g)!.length, 30);
});

test('the bus is listed, empty or not', () => {
  const source = { name: 'vduse', deviceIds: [1, 2, 63], queues: 0, features: 0n };
  const device = {
    ...{ name: 'disk0', managementDevice: 'vduse', deviceId: 2, vendorId: 0 },
    ...{ queues: 1, queueSize: 256, driver: undefined, node: undefined },
  };
  assert.equal(listLines([source], [device]), [
    'device  kind   of     driver  node  queues  of size',
    'disk0   block  vduse  –       –          1      256',
    '',
    'management device  makes                queues  features',
    'vduse              net, block, type 63       –  –',
  ]);
  assert.equal(listLines([], []), ['no device on the bus', '', 'no management device: load vduse']);
});

test('config spaces are decoded as far as their features go, whatever their length', () => {
  const space = virtio.virtioBlkConfig.encode({ capacity: 5n, blk_size: 4096, num_queues: 3 });
  const features = mask(virtio.VIRTIO_BLK_F_BLK_SIZE, virtio.VIRTIO_BLK_F_MQ);
  assert.equal(configFields(virtio.VIRTIO_ID_BLOCK, space, features), {
    ...{ capacity: 5n, blk_size: 4096, num_queues: 3 },
  });
  assert.equal(configFields(virtio.VIRTIO_ID_BLOCK, space.subarray(0, 8), 0n), { capacity: 5n });
  const net = virtio.virtioNetConfig.encode({ mac: [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc], status: 1, mtu: 1500 });
  assert.equal(
    configFields(
      virtio.VIRTIO_ID_NET,
      new Uint8Array([...net, ...new Uint8Array(4000)]),
      mask(virtio.VIRTIO_NET_F_MAC, virtio.VIRTIO_NET_F_MTU),
    ),
    { mac: '52:54:00:aa:bb:cc', mtu: 1500 },
  );
  assert.equal(configFields(virtio.VIRTIO_ID_CONSOLE, net, mask(0)), {});
});

test.run();
