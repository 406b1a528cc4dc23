/** A disk is the same whatever its transport speaks. */
import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import { VDUSE_GET_FEATURES, VDUSE_SET_API_VERSION } from '../../host/uapi/vduse.js';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../../host/uapi/virtio.js';
import { rejects, scene, until, within } from './fixture.js';
import { RawDriver } from './raw-driver.js';

const BYTES = 2 ** 20;

for (const options of [
  {},
  { apiVersion: 0 },
  { queues: 4, groups: 2 },
  { queues: 2, groups: 2, parent: 'dma_map' },
  { indirect: false },
] as Partial<ServeOptions>[])
  test(`served with ${JSON.stringify(options)}`, async () => {
    const open = { queues: options.queues };
    await scene(
      new BlockDevice({ memory: BYTES }),
      { ...options, open },
      async ({ device, disk, errors }) => {
        const bytes = randomBytes(BYTES);
        await disk.write(0, bytes);
        const back = Buffer.alloc(BYTES);
        await disk.read(0, back);
        assert.ok(back.equals(bytes));
        assert.is(device.bounceBuffer, 'none');
        const indirect = 'VIRTIO_RING_F_INDIRECT_DESC';
        assert.is(device.features.includes(indirect), options.indirect ?? true);
        assert.is(disk.features.includes(indirect), options.indirect ?? true);
        assert.equal(errors, []);
      },
    );
  });

for (const told of [true, false])
  test(`a queue that becomes ready after DRIVER_OK is served, ${told ? 'told by a message' : 'found out'}`, async () => {
    await using bus = new Bus();
    if (!told) bus.faults.inject({ point: 'ioctl', request: VDUSE_GET_FEATURES, errno: 'EINVAL' });
    await using device = await serve(new BlockDevice({ memory: BYTES }), { name: 'disk0', bus });
    const driver = await RawDriver.open(bus);
    // Again in a second life, in which a request waits already.
    for (let life = 0; life < 2; life++) {
      await driver.start({ late: true });
      const works = driver.works();
      await driver.enable();
      assert.ok(await works);
      await driver.reset();
    }
    await driver.close();
    await until(() => device.status === 0, 'the reset');
  });

test('a queue sees the address space of its group, and no other', async () => {
  await using bus = new Bus();
  await using device = await serve(new BlockDevice({ memory: BYTES }), {
    name: 'disk0',
    bus,
    queues: 2,
    groups: 2,
  });
  const errors: string[] = [];
  device.on('error', (error) => errors.push(error.code));
  const driver = await RawDriver.open(bus);
  await driver.moveTo(1);
  await driver.start();
  assert.ok(await driver.works());
  await driver.reset();
  // The group is back where it was, and the driver's memory is not there.
  assert.not((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
  // The event comes from the message thread, on a way of its own.
  await until(() => errors.length > 0, 'the error');
  assert.equal(errors, ['ERR_CONTROL_PLANE']);
  await driver.reset();
  driver.asid = 0;
  await driver.start();
  assert.ok(await driver.works());
  await driver.close();
});

test('groups need a version of the API that knows them', async () => {
  await using bus = new Bus();
  const model = new BlockDevice({ memory: BYTES });
  const options = { name: 'disk0', bus, queues: 2, groups: 2, apiVersion: 0 } as const;
  await rejects(serve(model, options), 'ERR_NOT_SUPPORTED', /version 1/);
  assert.equal(bus.list(), []);
});

for (const [what, options] of [
  ['more groups than queues', { groups: 2 }],
  ['no group', { groups: 0 }],
  ['a version that there is not', { apiVersion: 2 as 1 }],
  ['umem that is no boolean', { umem: 1 as unknown as boolean }],
  ['indirect that is no boolean', { indirect: 1 as unknown as boolean }],
] as [string, Partial<ServeOptions>][])
  test(`${what}: ERR_ARGUMENT`, async () => {
    await using bus = new Bus();
    await rejects(
      serve(new BlockDevice({ memory: BYTES }), { name: 'disk0', bus, ...options }),
      'ERR_ARGUMENT',
    );
  });

test('a transport that refuses what it offered refuses the device', async () => {
  await using bus = new Bus();
  bus.faults.inject({ point: 'ioctl', request: VDUSE_SET_API_VERSION, errno: 'EINVAL' });
  const error = await within(
    serve(new BlockDevice({ memory: BYTES }), { name: 'disk0', bus }).catch((reason) => reason),
    'serve',
  );
  assert.is(error.code, 'EINVAL');
});

test.run();
