import { readdirSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_SIZE_MAX,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_NET,
} from '../../assembly/virtio.js';
import { Bus } from '../../host/bus/index.js';
import { type OpenBlockOptions, openBlock } from '../../host/drivers/blk.js';
import { openBlock as openBlockByDefault } from '../../host/open-block.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { createDevice, Responder } from '../bus/fixture.js';
import { diskScene, pattern, rejects, serveTestDisk, type TestDiskOptions } from './block-fixture.js';

/** The TypeError with which a call rejects. */
async function refusal(call: Promise<unknown>): Promise<TypeError> {
  try {
    await call;
  } catch (error) {
    assert.instance(error, TypeError);
    return error as TypeError;
  }
  return assert.unreachable('it did not reject') as never;
}

/** Asserts that a test disk cannot be opened, and that it can be afterwards. */
async function refuses(
  code: string,
  message: RegExp,
  open: OpenBlockOptions,
  served: TestDiskOptions = {},
  again = true,
): Promise<void> {
  const { bus, device } = await serveTestDisk(served);
  try {
    await rejects(openBlock('disk0', { bus, ...open }), code, message);
    if (!again) return;
    const disk = await openBlock('disk0', { bus });
    await disk.read(0, 512);
    await disk.close();
  } finally {
    await bus.close();
    device.close();
  }
}

test('says exactly what is wrong with an option', async () => {
  const cases: [object, RegExp][] = [
    [{ queueDepth: 4 }, /openBlock has no option 'queueDepth': there are bus, queues, queueSize/],
    [{ queues: 0 }, /queues must be an integer from 1 to 65535, not 0/],
    [{ queueSize: 2 }, /queueSize must be an integer from 4 to 32768, not 2/],
    [{ queueSize: 100 }, /queueSize must be a power of two, not 100/],
    [{ slotBytes: 1000 }, /slotBytes must be a multiple of 512, not 1000/],
    [{ slotBytes: 0 }, /slotBytes must be an integer from 512/],
    [{ allocBytes: -1 }, /allocBytes must be an integer from 0/],
    [{ allocBytes: 1.5 }, /allocBytes must be an integer/],
    [{ bounce: 1 }, /bounce must be true or false, not 1/],
    [{ bounceBytes: 4096 }, /bounceBytes must be an integer from 1048576 to 1073741824, not 4096/],
    [{ mode: 'fast' }, /mode must be 'notify' or 'poll', not 'fast'/],
  ];
  for (const [options, message] of cases)
    await rejects(openBlock('disk0', options as OpenBlockOptions), 'ERR_ARGUMENT', message);
});

test('says so when options are no object, or a target is no name', async () => {
  for (const [options, shown] of [
    [null, 'null'],
    [5, '5'],
  ] as [unknown, string][]) {
    const message = `the options of openBlock must be an object, not ${shown}`;
    for (const open of [openBlock, openBlockByDefault])
      assert.is((await refusal(open('disk0', options as OpenBlockOptions))).message, message);
  }
  const error = await refusal(openBlockByDefault(5 as never));
  assert.match(error.message, /a device is named by a path or by its name on the bus/);
});

test('says so when a signal or a bus is none', async () => {
  for (const open of [openBlock, openBlockByDefault])
    for (const [options, message] of [
      [{ signal: 1 }, 'signal must be an AbortSignal, not 1'],
      [{ signal: {} }, 'signal must be an AbortSignal, not {}'],
      [{ bus: {} }, 'bus must be a Bus, not {}'],
    ] as [object, string][])
      assert.is((await refusal(open('disk0', options))).message, message);
});

test('says what the device has not got', async () => {
  await refuses('ERR_NOT_SUPPORTED', /queues: disk0 has 1, not 2/, { queues: 2 });
  await refuses(
    'ERR_NOT_SUPPORTED',
    /queues: disk0 has 1, not 2/,
    { queues: 2 },
    { queues: 2, without: [VIRTIO_BLK_F_MQ] },
  );
  await refuses('ERR_NOT_SUPPORTED', /at most 256 entries, not 512/, { queueSize: 512 });
  await refuses('ERR_NOT_SUPPORTED', /have 2 entries: too few/, {}, { queueSize: 2 }, false);
});

test('says which feature is missing', () =>
  refuses('ERR_FEATURES', /disk0 lacks VIRTIO_F_VERSION_1/, {}, { without: [VIRTIO_F_VERSION_1] }, false));

test('refuses a memory plan that no aperture holds', () =>
  refuses('ERR_ARGUMENT', /4 GiB/, { slotBytes: 2 ** 25 }));

test('refuses a config space that cannot be', async () => {
  await refuses('ERR_NOT_SUPPORTED', /beyond 2\^53 bytes/, {}, { config: { capacity: 2n ** 63n } }, false);
  await refuses(
    'ERR_NOT_SUPPORTED',
    /size_max is 100 bytes/,
    {},
    { add: [VIRTIO_BLK_F_SIZE_MAX], config: { size_max: 100 } },
    false,
  );
});

test('tells a device that is missing, busy or of another kind', async () => {
  const bus = new Bus();
  await rejects(openBlock('nothing', { bus }), 'ERR_NO_DEVICE', /no device 'nothing' on the bus/);
  await rejects(openBlock('nothing'), 'ERR_ARGUMENT', /'nothing' is no path, and no bus was given/);
  await rejects(
    openBlock('/dev/vhost-vdpa-nothing'),
    'ERR_NO_DEVICE',
    /there is no \/dev\/vhost-vdpa-nothing/,
  );
  const { file } = await createDevice(bus, { deviceId: VIRTIO_ID_NET });
  new Responder(file);
  await bus.attach('disk0');
  bus.faults.inject({ point: 'open', errno: 'ENOTSUPP' });
  await rejects(openBlock('disk0', { bus }), 'ERR_NOT_SUPPORTED', /disk0 stands behind no IOMMU/);
  await rejects(openBlock('disk0', { bus }), 'ERR_NOT_SUPPORTED', /device id 1, this driver is for 2/);
  await bus.close();
});

test('a device that refuses FEATURES_OK or DRIVER_OK is not opened', async () => {
  for (const [refused, code] of [
    [VIRTIO_CONFIG_S_FEATURES_OK, 'ERR_FEATURES'],
    [vduse.VDUSE_SET_STATUS, 'ERR_CONTROL_PLANE'],
  ] as const) {
    const bus = new Bus();
    const { file } = await createDevice(bus, { config: new Uint8Array(60) });
    const responder = new Responder(file);
    responder.answer = (request) =>
      request.type === vduse.VDUSE_SET_STATUS &&
      (refused === VIRTIO_CONFIG_S_FEATURES_OK ? request.s.status === 11 : request.s.status === 15)
        ? { result: vduse.VDUSE_REQ_RESULT_FAILED }
        : {};
    await bus.attach('disk0');
    await rejects(openBlock('disk0', { bus }), code);
    assert.is(bus.list()[0]?.driven, false);
    await bus.close();
  }
});

test('an ioctl that fails, whichever it is, is reported by name and leaves nothing open', async () => {
  const { bus, device } = await serveTestDisk();
  const requests = {
    VHOST_SET_OWNER: vhost.VHOST_SET_OWNER,
    VHOST_GET_BACKEND_FEATURES: vhost.VHOST_GET_BACKEND_FEATURES,
    VHOST_SET_BACKEND_FEATURES: vhost.VHOST_SET_BACKEND_FEATURES,
    VHOST_VDPA_GET_DEVICE_ID: vhost.VHOST_VDPA_GET_DEVICE_ID,
    VHOST_VDPA_GET_STATUS: vhost.VHOST_VDPA_GET_STATUS,
    VHOST_VDPA_SET_STATUS: vhost.VHOST_VDPA_SET_STATUS,
    VHOST_GET_FEATURES: vhost.VHOST_GET_FEATURES,
    VHOST_SET_FEATURES: vhost.VHOST_SET_FEATURES,
    VHOST_VDPA_GET_CONFIG: vhost.VHOST_VDPA_GET_CONFIG,
    VHOST_VDPA_GET_VRING_NUM: vhost.VHOST_VDPA_GET_VRING_NUM,
    VHOST_SET_VRING_NUM: vhost.VHOST_SET_VRING_NUM,
    VHOST_SET_VRING_BASE: vhost.VHOST_SET_VRING_BASE,
    VHOST_SET_VRING_ADDR: vhost.VHOST_SET_VRING_ADDR,
    VHOST_SET_VRING_CALL: vhost.VHOST_SET_VRING_CALL,
    VHOST_SET_VRING_KICK: vhost.VHOST_SET_VRING_KICK,
    VHOST_VDPA_SET_VRING_ENABLE: vhost.VHOST_VDPA_SET_VRING_ENABLE,
    VHOST_VDPA_SET_CONFIG_CALL: vhost.VHOST_VDPA_SET_CONFIG_CALL,
  };
  const descriptors = readdirSync('/proc/self/fd').length;
  for (const [name, request] of Object.entries(requests)) {
    // The ioctl for one queue's maximum is a newer one, which this one stands in for.
    const newer = bus.faults.inject({
      point: 'ioctl',
      request: vhost.VHOST_VDPA_GET_VRING_SIZE,
      errno: 'ENOTTY',
    });
    const fault = bus.faults.inject({ point: 'ioctl', request, errno: 'EIO' });
    const error = await rejects(
      openBlock('disk0', { bus }),
      'ERR_CONTROL_PLANE',
      new RegExp(`disk0: ${name}: EIO`),
    );
    assert.is(error.errno, -5);
    assert.is(error.syscall, 'ioctl');
    assert.is(fault.hits, 1);
    fault.remove();
    newer.remove();
    assert.is(bus.list()[0]?.driven, false, name);
  }
  const fault = bus.faults.inject({ point: 'write', errno: 'ENOMEM' });
  await rejects(
    openBlock('disk0', { bus }),
    'ERR_CONTROL_PLANE',
    /VHOST_IOTLB_UPDATE of \d+ bytes \(are RLIMIT_MEMLOCK and max_iotlb_entries of vhost_vdpa large enough\?\): ENOMEM/,
  );
  fault.remove();
  assert.is(readdirSync('/proc/self/fd').length, descriptors);
  const disk = await openBlock('disk0', { bus });
  await disk.read(0, 512);
  await disk.close();
  await bus.close();
  device.close();
});

test('works on kernels that lack the newer ioctls', async () => {
  const { bus, device } = await serveTestDisk();
  for (const request of [
    vhost.VHOST_GET_BACKEND_FEATURES,
    vhost.VHOST_VDPA_GET_VQS_COUNT,
    vhost.VHOST_VDPA_GET_CONFIG_SIZE,
    vhost.VHOST_VDPA_GET_IOVA_RANGE,
    vhost.VHOST_VDPA_GET_VRING_SIZE,
  ])
    bus.faults.inject({ point: 'ioctl', request, errno: 'ENOTTY' });
  const disk = await openBlock('disk0', { bus });
  await disk.write(0, pattern(512));
  assert.equal(await disk.read(0, 512), pattern(512));
  await disk.close();
  await bus.close();
  device.close();
});

test('reads the config space by what was negotiated', () =>
  diskScene(
    async ({ disk }) => {
      assert.is(disk.config.blockSize, 4096);
      assert.is(disk.config.queues, 2);
      assert.is(disk.config.discard?.maxBytes, 1024 * 512);
      assert.equal(disk.config.writeZeroes, { maxBytes: 1024 * 512, mayUnmap: true });
      assert.is(disk.config.sizeMax, undefined);
      assert.is(disk.config.topology, undefined);
      assert.is(disk.queues, 1);
    },
    { queues: 2 },
  ));

test.run();
