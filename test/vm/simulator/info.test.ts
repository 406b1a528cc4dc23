import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { infoByName, infoByNode } from '../../../host/cli/device-info.js';
import { VdpaBus } from '../../../host/index.js';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET, VIRTIO_NET_F_MAC } from '../../../host/uapi/virtio.js';
import { addSimulator, modprobe, shell } from '../fixture.js';

modprobe('vhost_vdpa', 'vdpa_sim_net', 'vdpa_sim_blk');
const bus = new VdpaBus();

test('a network device gets what it is to have, and tells it', async () => {
  await bus.add('net0', 'vdpasim_net', { macAddress: '52:54:00:AA:bb:cc', mtu: 9000 });
  const { fields, features } = await bus.config('net0');
  assert.equal(fields, { mac: '52:54:00:aa:bb:cc', status: 1, mtu: 9000 });
  assert.ok((features! >> BigInt(VIRTIO_NET_F_MAC)) & 1n);
  const theirs = JSON.parse(shell('vdpa -j dev config show net0')).config.net0;
  assert.is(theirs.mac, fields.mac);
  assert.is(theirs.mtu, fields.mtu);
  const error = await bus.vendorStats('net0', 0).catch((error) => error);
  assert.is(error.code, 'EAGAIN');
  assert.match(error.message, /feature negotiation not complete/);
  await bus.delete('net0');
});

test('a device with groups and address spaces is shown with them', async () => {
  addSimulator('net', 'net0');
  const { node } = await bus.bind('net0', 'vhost_vdpa');
  const net = await infoByNode(bus, node!);
  assert.is(net.name, 'net0');
  assert.is(net.deviceId, VIRTIO_ID_NET);
  assert.is(net.groups, 2);
  assert.is(net.addressSpaces, 2);
  assert.equal(
    net.queues!.map(({ group }) => group),
    [0, 0, 1],
  );
  for (const { doorbell, doorbellRefusal } of net.queues!) {
    assert.is(doorbell, 'eventfd');
    assert.is(doorbellRefusal, 'ENOTSUPP');
  }
  assert.ok(net.backendFeatures!.includes('VHOST_BACKEND_F_SUSPEND'));
  assert.is(net.config.mac, '52:54:00:aa:bb:cc');
  assert.equal((await infoByName(bus, 'net0')).config, net.config);
  await bus.delete('net0');
});

test('a disk is shown with its config space', async () => {
  addSimulator('blk', 'blk0');
  const { node } = await bus.bind('blk0', 'vhost_vdpa');
  const disk = await infoByNode(bus, node!);
  assert.is(disk.deviceId, VIRTIO_ID_BLOCK);
  assert.is(disk.managementDevice, 'vdpasim_blk');
  assert.is(disk.config.capacity, 0x40000n);
  assert.is((await infoByName(bus, 'blk0')).config.capacity, 0x40000n);
  await bus.delete('blk0');
});

test.run();
