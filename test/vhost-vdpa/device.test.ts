import { closeSync, readdirSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_VERSION_1,
  VIRTIO_ID_BLOCK,
} from '../../assembly/virtio.js';
import { Bus } from '../../host/bus/index.js';
import { type RingbellError, systemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import type { VduseFile } from '../../host/vduse/file.js';
import { VhostVdpa } from '../../host/vhost-vdpa/device.js';
import type { VhostVdpaFile } from '../../host/vhost-vdpa/file.js';
import {
  createDevice,
  type DeviceOptions,
  FEATURES,
  Responder,
  SharedMemory,
  within,
} from '../bus/fixture.js';

const VERSION_1 = 1n << BigInt(VIRTIO_F_VERSION_1);

interface Played {
  bus: Bus;
  file: VduseFile;
  responder: Responder;
  device: VhostVdpa;
}

/** Opens a device on a bus of its own, plays `act` and takes everything down. */
async function play(act: (played: Played) => Promise<void>, options: DeviceOptions = {}): Promise<void> {
  const bus = new Bus();
  try {
    const { file } = await createDevice(bus, options);
    const responder = new Responder(file);
    await bus.attach('disk0');
    const device = await within(VhostVdpa.open(await bus.openVhostVdpa('disk0')), 'opening');
    await within(act({ bus, file, responder, device }), 'the play');
    await within(device.close(), 'closing');
  } finally {
    await within(bus.close(), 'closing the bus');
  }
}

async function rejects(call: Promise<unknown>, code: string, message: RegExp): Promise<RingbellError> {
  let error: unknown;
  try {
    await within(call, `waiting for ${code}`);
  } catch (caught) {
    error = caught;
  }
  assert.ok(error instanceof Error, `expected ${code}, got success`);
  assert.is((error as RingbellError).code, code, error.message);
  assert.match(error.message, message);
  return error as RingbellError;
}

/** Takes a device to DRIVER_OK with no queue. */
async function start(device: VhostVdpa): Promise<void> {
  await device.reset();
  await device.acknowledge();
  await device.negotiate(VERSION_1, FEATURES);
  await device.driverOk();
}

test('open takes the device over and learns what it is', () =>
  play(async ({ device }) => {
    assert.is(device.name, 'disk0');
    assert.is(device.deviceId, VIRTIO_ID_BLOCK);
    assert.is(device.queueCount, 2);
    assert.is(device.configSize, 16);
    assert.equal(device.iovaRange, { first: 0n, last: 2n ** 64n - 1n });
    assert.ok(device.hasBackendFeature(vhost.VHOST_BACKEND_F_IOTLB_BATCH));
    assert.not(device.hasBackendFeature(vhost.VHOST_BACKEND_F_RESUME));
  }));

test('a status that was read before a close is not written after it', () =>
  play(async ({ device, responder }) => {
    await start(device);
    responder.requests.length = 0;
    const failing = device.fail();
    await device.close();
    await failing;
    const told = responder.of(vduse.VDUSE_SET_STATUS).map(({ s }) => s.status);
    assert.not.ok(told.some((status) => status !== 0));
  }));

test('open closes the file that it cannot take over', () =>
  play(async ({ bus, device }) => {
    await device.close();
    bus.faults.inject({ point: 'ioctl', request: vhost.VHOST_SET_OWNER, errno: 'EPERM' });
    const file = await bus.openVhostVdpa('disk0');
    const error = await rejects(VhostVdpa.open(file), 'ERR_CONTROL_PLANE', /disk0: VHOST_SET_OWNER: EPERM/);
    assert.is((error.cause as { code: string }).code, 'EPERM');
    assert.is(bus.list()[0]?.driven, false);
  }));

test('walks the status up in the order of the specification', () =>
  play(async ({ device, responder }) => {
    await start(device);
    const statuses = responder.of(vduse.VDUSE_SET_STATUS).map((request) => request.s.status);
    const acknowledged = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
    const features = acknowledged | VIRTIO_CONFIG_S_FEATURES_OK;
    // The first two are the resets of opening and of `reset`.
    assert.equal(statuses, [0, 0, acknowledged, features, features | VIRTIO_CONFIG_S_DRIVER_OK]);
    assert.is(await device.status(), features | VIRTIO_CONFIG_S_DRIVER_OK);
    await device.fail();
    assert.ok((await device.status()) & VIRTIO_CONFIG_S_FAILED);
  }));

test('negotiates what both know, and insists on what is required', () =>
  play(async ({ device, file }) => {
    const flush = 1n << BigInt(VIRTIO_BLK_F_FLUSH);
    await device.reset();
    await device.acknowledge();
    assert.is(await device.offeredFeatures(), FEATURES);
    await rejects(device.negotiate(VERSION_1 | flush, 0n), 'ERR_FEATURES', /disk0 lacks VIRTIO_BLK_F_FLUSH/);
    assert.is(await device.negotiate(VERSION_1, FEATURES | flush), FEATURES);
    const features = new Uint8Array(8);
    await file.ioctl(vduse.VDUSE_DEV_GET_FEATURES, features);
    assert.is(u64.decode(features), FEATURES);
  }));

test('finds out by reading back that FEATURES_OK or DRIVER_OK was not kept', async () => {
  const lie = (bit: number) => async (device: VhostVdpa) => {
    const { ioctl } = device.file;
    device.file.ioctl = async (request, argument) => {
      const result = await ioctl.call(device.file, request, argument);
      if (request === vhost.VHOST_VDPA_GET_STATUS && argument) argument[0] = (argument[0] as number) & ~bit;
      return result;
    };
  };
  await play(async ({ device }) => {
    await lie(VIRTIO_CONFIG_S_FEATURES_OK)(device);
    await rejects(start(device), 'ERR_FEATURES', /disk0 refused VIRTIO_F_VERSION_1/);
  });
  await play(async ({ device }) => {
    await lie(VIRTIO_CONFIG_S_DRIVER_OK)(device);
    await rejects(start(device), 'ERR_CONTROL_PLANE', /refused DRIVER_OK/);
  });
});

test('a reset waits until the status reads 0', () =>
  play(async ({ device }) => {
    await device.acknowledge();
    const { ioctl } = device.file;
    let late = 3;
    device.file.ioctl = async (request, argument) => {
      const result = await ioctl.call(device.file, request, argument);
      if (request === vhost.VHOST_VDPA_GET_STATUS && argument && late-- > 0) argument[0] = 1;
      return result;
    };
    await device.reset();
    assert.is(late, -1);
  }));

test('a reset maps again what the device forgets', () =>
  play(async ({ device, file }) => {
    const memory = new SharedMemory(8192);
    await device.map([{ iova: 4096n, bytes: 8192n, address: memory.address }]);
    await device.reset();
    const entry = vduse.vduseIotlbEntry.encode({ start: 4096n, last: 4096n });

    closeSync(await file.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry));
    assert.is(vduse.vduseIotlbEntry.decode(entry).last, 4096n + 8191n);
  }));

test('reads the config space until two reads agree', () =>
  play(
    async ({ device }) => {
      assert.equal([...(await device.config(16))], [...new Uint8Array(16).fill(9)]);
      const { ioctl } = device.file;
      let reads = 0;
      device.file.ioctl = async (request, argument) => {
        const result = await ioctl.call(device.file, request, argument);
        // Torn until the fourth read.
        if (request === vhost.VHOST_VDPA_GET_CONFIG && argument) argument[8] = Math.min(++reads, 4);
        return result;
      };
      assert.is((await device.config(16))[0], 4);
      assert.is(reads, 5);
      reads = Number.NEGATIVE_INFINITY;
      device.file.ioctl = async (request, argument) => {
        const result = await ioctl.call(device.file, request, argument);
        if (request === vhost.VHOST_VDPA_GET_CONFIG && argument)
          argument[8] = (argument[8] as number) + (flips++ & 1);
        return result;
      };
      let flips = 0;
      await rejects(device.config(16), 'ERR_CONTROL_PLANE', /changed during each of 16 reads/);
    },
    { config: new Uint8Array(16).fill(9) },
  ));

test('writes to the config space, which a VDUSE device never sees', () =>
  play(async ({ device }) => {
    await device.setConfig(0, new Uint8Array([1, 2, 3]));
    assert.equal([...(await device.config(3))], [0, 0, 0]);
    await rejects(
      device.setConfig(15, new Uint8Array(2)),
      'ERR_CONTROL_PLANE',
      /VHOST_VDPA_SET_CONFIG: EINVAL/,
    );
  }));

test('sets a queue up as its device then finds it', () =>
  play(
    async ({ device, file }) => {
      const addon = loadAddon();
      const [kickFd, callFd] = [addon.eventfd(), addon.eventfd()];
      await device.reset();
      await device.acknowledge();
      await device.negotiate(VERSION_1, FEATURES);
      assert.is(await device.maxQueueSize(1), 64);
      await device.setVring({
        index: 1,
        num: 32,
        desc: 0x1_0000_0000n,
        avail: 0x1_0000_1000n,
        used: 0x1_0000_2000n,
        base: 5,
        kickFd,
        callFd,
      });
      await device.enableVring(1);
      await device.driverOk();
      const info = vduse.vduseVqInfo.encode({ index: 1 });
      await file.ioctl(vduse.VDUSE_VQ_GET_INFO, info);
      const found = vduse.vduseVqInfo.decode(info);
      assert.is(found.num, 32);
      assert.is(found.desc_addr, 0x1_0000_0000n);
      assert.is(found.driver_addr, 0x1_0000_1000n);
      assert.is(found.device_addr, 0x1_0000_2000n);
      assert.is(found.split.avail_index, 5);
      assert.is(found.ready, 1);
      addon.eventfdSignal(await file.callFd(1));
      assert.is(addon.eventfdDrain(callFd), 1);
      await rejects(
        device.setVring({ index: 2, num: 32, desc: 0n, avail: 0n, used: 0n, kickFd, callFd }),
        'ERR_CONTROL_PLANE',
        /VHOST_SET_VRING_NUM: ENOBUFS/,
      );

      closeSync(kickFd);
      closeSync(callFd);
    },
    { queueSize: 64 },
  ));

test('asks the device for the position of a queue', () =>
  play(async ({ device, responder }) => {
    await start(device);
    responder.answer = (request) =>
      request.type === vduse.VDUSE_GET_VQ_STATE
        ? { vq_state: { index: request.vq_state.index, split: { avail_index: 77 } } }
        : {};
    assert.is(await device.vringBase(1), 77);
  }));

test('knows of groups and address spaces where the device has them', async () => {
  await play(
    async ({ device }) => {
      assert.equal(await device.groups(), { groups: 2, addressSpaces: 2 });
      assert.is(await device.vringGroup(0), 0);
      await device.setGroupAsid(1, 1);
      await rejects(device.setGroupAsid(0, 2), 'ERR_CONTROL_PLANE', /VHOST_VDPA_SET_GROUP_ASID: EINVAL/);
    },
    { apiVersion: 1n, ngroups: 2, nas: 2 },
  );
});

test('refuses to be suspended where the kernel would do nothing, or cannot', async () => {
  await play(async ({ device }) => {
    await rejects(device.suspend(), 'ERR_NOT_SUPPORTED', /disk0 does not know of being suspended/);
    await rejects(device.resume(), 'ERR_NOT_SUPPORTED', /disk0 does not know of being resumed/);
  });
  await play(
    async ({ device, responder }) => {
      await rejects(device.suspend(), 'ERR_CONTROL_PLANE', /cannot be suspended before DRIVER_OK/);
      await start(device);
      await device.suspend();
      assert.is(responder.of(vduse.VDUSE_SUSPEND).length, 1);
    },
    { apiVersion: 1n, vduseFeatures: 1n << BigInt(vduse.VDUSE_F_SUSPEND) },
  );
});

test('calls back on a config interrupt', () =>
  play(async ({ device, file }) => {
    await start(device);
    const interrupted = new Promise<void>((resolve) => {
      void device.watchConfig(resolve);
    });
    await new Promise(setImmediate);
    await file.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
    await interrupted;
  }));

test('checks a doorbell index that older kernels would pass on', () =>
  play(async ({ device }) => {
    const memory = new SharedMemory(4096);
    const page = memory.aperture.reserveWindow(4096);
    await rejects(
      device.mapDoorbell(memory.aperture, page.linear, 2),
      'ERR_ARGUMENT',
      /has 2 queues, no queue 2/,
    );
    await rejects(device.mapDoorbell(memory.aperture, page.linear, 1), 'ENOTSUPP', /mmap/);
  }));

test('gives its descriptors back even if the file cannot be closed, or the device takes no config interrupt', () =>
  play(async ({ bus, device }) => {
    const count = () => readdirSync('/proc/self/fd').length;
    const before = count();
    bus.faults.inject({ point: 'ioctl', request: vhost.VHOST_VDPA_SET_CONFIG_CALL, errno: 'EINVAL' });
    await rejects(
      device.watchConfig(() => {}),
      'ERR_CONTROL_PLANE',
      /SET_CONFIG_CALL/,
    );
    assert.is(count(), before);
    await device.watchConfig(() => {});
    const { file } = device;
    const close = file.close.bind(file);
    file.close = async () => {
      await close();
      throw systemError('EIO', 'close');
    };
    await rejects(device.close(), 'EIO', /close/);
    // The watcher’s own descriptor goes a turn later.
    await new Promise(setImmediate);
    assert.is(count(), before);
  }));

test('closing while the file takes the config eventfd leaves no descriptor behind', () =>
  play(async ({ bus, device }) => {
    const count = () => readdirSync('/proc/self/fd').length;
    const before = count();
    bus.faults.inject({ point: 'ioctl', request: vhost.VHOST_VDPA_SET_CONFIG_CALL, delay: 20 });
    await Promise.all([device.watchConfig(() => {}), device.close()]);
    await new Promise(setImmediate);
    assert.is(count(), before);
  }));

test('closing twice is closing once', () =>
  play(async ({ bus, device }) => {
    await device.close();
    await device.close();
    assert.is(bus.list()[0]?.driven, false);
    const file: VhostVdpaFile = await bus.openVhostVdpa('disk0');
    await file.close();
  }));

test.run();
