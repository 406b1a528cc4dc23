import { closeSync, constants, existsSync, openSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, type ServedDevice, serve, VdpaBus } from '../../../host/index.js';
import { VIRTIO_ID_BLOCK, VIRTIO_ID_NET } from '../../../host/uapi/virtio.js';
import { modprobe, shell } from '../fixture.js';

const MIB = 2 ** 20;

modprobe('vduse', 'vhost_vdpa', 'virtio_vdpa', 'virtio_blk');
const bus = new VdpaBus();
let served: ServedDevice;
test.before(async () => {
  served = await serve(new BlockDevice({ memory: 8 * MIB }), {
    name: 'disk0',
    transport: 'vduse',
    attach: false,
  });
});
test.after(() => served.close());

/** What iproute2 says, by its command. */
function iproute2<T>(command: string): Record<string, T> {
  const answer = JSON.parse(shell(`vdpa -j ${command} show`)) as Record<string, Record<string, T>>;
  return Object.values(answer)[0] ?? {};
}

/** What a request rejects with. */
async function refusal(request: Promise<unknown>): Promise<NodeJS.ErrnoException> {
  const error = await request.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  assert.instance(error, Error);
  return error as NodeJS.ErrnoException;
}

test('management devices are those of iproute2', async () => {
  const mine = await bus.managementDevices();
  const theirs = iproute2<{ supported_classes: string[]; max_supported_vqs: number; dev_features: string[] }>(
    'mgmtdev',
  );
  assert.equal(mine.map(({ name }) => name).toSorted(), Object.keys(theirs).toSorted());
  const classes = new Map([
    [VIRTIO_ID_NET, 'net'],
    [VIRTIO_ID_BLOCK, 'block'],
  ]);
  for (const { name, deviceIds, queues, features } of mine) {
    const { supported_classes, max_supported_vqs, dev_features } = theirs[name]!;
    const known = deviceIds.flatMap((id) => classes.get(id) ?? []);
    assert.equal(known.toSorted(), supported_classes.filter((each) => known.includes(each)).toSorted(), name);
    assert.is(queues, max_supported_vqs, name);
    assert.is([...features.toString(2)].filter((bit) => bit === '1').length, dev_features.length, name);
  }
});

test('a device is added, listed as iproute2 lists it, and deleted', async () => {
  assert.not.ok((await bus.list()).some(({ name }) => name === 'disk0'));
  await bus.add('disk0', 'vduse');
  const shown = await bus.show('disk0');
  assert.equal(shown, {
    name: 'disk0',
    managementDevice: 'vduse',
    deviceId: VIRTIO_ID_BLOCK,
    vendorId: 0,
    queues: 1,
    queueSize: 256,
    driver: undefined,
    node: undefined,
  });
  assert.equal(await bus.list(), [shown]);
  assert.equal(iproute2('dev'), {
    disk0: { type: 'block', mgmtdev: 'vduse', vendor_id: 0, max_vqs: 1, max_vq_size: 256 },
  });
  await bus.delete('disk0');
  assert.equal(await bus.list(), []);
  assert.equal(iproute2('dev'), {});
});

test('what iproute2 adds can be deleted, and what it deletes is gone', async () => {
  shell('vdpa dev add name disk0 mgmtdev vduse');
  await bus.delete('disk0');
  await bus.add('disk0', 'vduse');
  shell('vdpa dev del disk0');
  assert.is((await refusal(bus.show('disk0'))).code, 'ENODEV');
});

test('a refusal has the errno of the kernel, and its reason in words', async () => {
  for (const [request, code, says] of [
    [
      () => bus.add('x', 'nowhere'),
      'ENODEV',
      /^ENODEV: add x to nowhere: .*find the specified management device/,
    ],
    [() => bus.add('x', 'pci/0000:99:00.0'), 'ENODEV', /management device/],
    [() => bus.add('nobody', 'vduse'), 'EINVAL', /^EINVAL: add nobody to vduse: refused/],
    [() => bus.delete('nobody'), 'ENODEV', /^ENODEV: delete nobody: .*device not found/],
    [() => bus.show('nobody'), 'ENODEV', /device not found/],
    [() => bus.config('nobody'), 'ENODEV', /device not found/],
    [() => bus.vendorStats('nobody', 0), 'ENODEV', /device not found/],
    [() => bus.add('disk0', 'vduse', { mtu: 1500 }), 'EOPNOTSUPP', /attributes are not supported/],
    [() => bus.add('disk0', 'vduse', { queuePairs: 0 }), 'EINVAL', /At least one pair/],
    [() => bus.add('disk0', 'vduse', { mtu: 1500, features: 0n }), 'EINVAL', /Missing features 0x8 /],
  ] as const) {
    const error = await refusal(request());
    assert.is(error.code, code, error.message);
    assert.match(error.message, says);
    assert.is(error.syscall, 'netlink');
    assert.type(error.errno, 'number');
  }
  await bus.add('disk0', 'vduse');
  assert.is((await refusal(bus.add('disk0', 'vduse'))).code, 'EEXIST');
  await bus.delete('disk0');
});

test('the config space of a block device is told by field', async () => {
  await bus.add('disk0', 'vduse');
  const { deviceId, features, negotiatedFeatures, fields } = await bus.config('disk0');
  assert.is(deviceId, VIRTIO_ID_BLOCK);
  assert.ok(features !== undefined && features > 0n);
  assert.is(negotiatedFeatures, undefined);
  assert.is(fields.capacity, BigInt((8 * MIB) / 512));
  assert.is(fields.blk_size, 512);
  assert.is((await refusal(bus.vendorStats('disk0', 0))).code, 'EOPNOTSUPP');
  await bus.delete('disk0');
});

test('a device is bound from driver to driver, and has a node each time', async () => {
  await bus.add('disk0', 'vduse');
  const virtio = await bus.bind('disk0', 'virtio_vdpa');
  assert.is(virtio.driver, 'virtio_vdpa');
  assert.match(virtio.node!, /^\/dev\/vd[a-z]$/);
  assert.ok(existsSync(virtio.node!));
  assert.is(shell(`blockdev --getsize64 ${virtio.node}`).trim(), `${8 * MIB}`);
  assert.ok((await bus.config('disk0')).negotiatedFeatures);

  const vhost = await bus.bind('disk0', 'vhost_vdpa');
  assert.is(vhost.driver, 'vhost_vdpa');
  assert.match(vhost.node!, /^\/dev\/vhost-vdpa-\d+$/);
  assert.ok(existsSync(vhost.node!));
  assert.not.ok(existsSync(virtio.node!));
  assert.equal(await bus.bind('disk0', 'vhost_vdpa'), vhost);

  await bus.unbind('disk0');
  const { driver, node } = await bus.show('disk0');
  assert.is(driver, undefined);
  assert.is(node, undefined);
  await bus.delete('disk0');
});

test('a device that a program has open is not taken from it', async () => {
  await bus.add('disk0', 'vduse');
  const { node } = await bus.bind('disk0', 'vhost_vdpa');
  const fd = openSync(node!, constants.O_RDWR);
  for (const request of [
    () => bus.delete('disk0'),
    () => bus.unbind('disk0'),
    () => bus.bind('disk0', 'virtio_vdpa'),
  ])
    assert.is((await refusal(request())).code, 'ERR_DEVICE_BUSY');
  assert.is((await bus.show('disk0')).node, node);
  closeSync(fd);
  await bus.delete('disk0');
});

test.run();
