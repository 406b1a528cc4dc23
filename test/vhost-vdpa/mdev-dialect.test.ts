import { closeSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTIO_F_VERSION_1 } from '../../assembly/virtio.js';
import { type AttachOptions, Bus } from '../../host/bus/index.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VHOST_MDEV_SET_STATE } from '../../host/uapi/vhost-mdev.js';
import type { VduseFile } from '../../host/vduse/file.js';
import { VhostVdpa } from '../../host/vhost-vdpa/device.js';
import { MdevDialect } from '../../host/vhost-vdpa/mdev-dialect.js';
import {
  createDevice,
  FEATURES,
  fails,
  iotlbMessage,
  mask,
  NAME,
  REFUSED,
  Responder,
  SharedMemory,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  vqInfo,
  within,
} from '../bus/fixture.js';

interface Played {
  bus: Bus;
  vduseFile: VduseFile;
  responder: Responder;
  dialect: MdevDialect;
  device: VhostVdpa;
}

/** Opens a vhost-mdev device of two queues as a vhost-vdpa one, plays `act` and takes everything down. */
async function play(act: (played: Played) => Promise<void>, options: AttachOptions = {}): Promise<void> {
  const bus = new Bus();
  try {
    const { file } = await createDevice(bus);
    const responder = new Responder(file);
    await bus.attach(NAME, { driver: 'vhost_mdev', ...options });
    const dialect = await MdevDialect.open(bus, NAME);
    const device = await within(VhostVdpa.open(dialect), 'opening');
    await within(act({ bus, vduseFile: file, responder, dialect, device }), 'the play');
    await within(device.close(), 'closing');
    assert.is(bus.list()[0]?.driven, false);
  } finally {
    await within(bus.close(), 'closing the bus');
  }
}

/** Takes a device to DRIVER_OK with queue 0. */
async function start(device: VhostVdpa): Promise<void> {
  await device.reset();
  await device.acknowledge();
  await device.negotiate(mask(VIRTIO_F_VERSION_1), FEATURES);
  const eventfds = { kickFd: vhost.VHOST_FILE_UNBIND, callFd: vhost.VHOST_FILE_UNBIND };
  const rings = { desc: 0x1000n, avail: 0x2000n, used: 0x3000n };
  await device.setVring({ index: 0, num: 64, ...rings, ...eventfds });
  await device.enableVring(0);
  await device.driverOk();
}

/** What the device was told since the last call: statuses, and the types of all other messages. */
const told = ({ requests }: Responder) =>
  requests.splice(0).map(({ type, s }) => (type === vduse.VDUSE_SET_STATUS ? s.status : `type ${type}`));

test('the control plane finds a vhost-vdpa device', () =>
  play(async ({ device }) => {
    assert.is(device.name, NAME);
    assert.is(device.deviceId, 2);
    assert.is(device.queueCount, 2);
    assert.is(device.configSize, 16);
    assert.equal(device.iovaRange, { first: 0n, last: 2n ** 64n - 1n });
    assert.is(await device.maxQueueSize(0), 256);
    assert.equal(await device.groups(), { groups: 1, addressSpaces: 1 });
    assert.ok(device.hasBackendFeature(vhost.VHOST_BACKEND_F_IOTLB_PERSIST));
    assert.not(device.hasBackendFeature(vhost.VHOST_BACKEND_F_IOTLB_BATCH));
  }));

test('the status is the driver’s until DRIVER_OK, and then the device’s', () =>
  play(async ({ device, responder, vduseFile }) => {
    told(responder);
    await device.acknowledge();
    assert.is(await device.status(), 3);
    await device.negotiate(mask(VIRTIO_F_VERSION_1), FEATURES);
    assert.is(await device.status(), STATUS_FEATURES_OK);
    assert.equal(told(responder), [], 'of which the device knows nothing');
    await device.driverOk();
    assert.equal(told(responder), [3, STATUS_FEATURES_OK, STATUS_DRIVER_OK]);
    await device.fail();
    assert.is(await device.status(), STATUS_DRIVER_OK | 128);
    await vduseFile.needsReset();
    assert.is(await device.status(), STATUS_DRIVER_OK | 128 | 64);
    await device.reset();
    assert.is(await device.status(), 0);
    assert.equal(told(responder).at(-1), 0);
  }));

test('memory is mapped for the container, and stays there through a reset', () =>
  play(
    async ({ device, responder, vduseFile }) => {
      const memory = new SharedMemory(2 * 4096);
      const region = { iova: 0x10000n, bytes: 8192n, address: memory.address };
      await device.map([region]);
      await start(device);
      await device.reset();
      assert.is(responder.of(vduse.VDUSE_UPDATE_IOTLB).length, 1, 'once');
      const last = async () => {
        const entry = vduse.vduseIotlbEntry.encode({ start: 0x10000n, last: 0x10000n });
        closeSync(await vduseFile.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry));
        return vduse.vduseIotlbEntry.get(entry, 'last');
      };
      assert.is(await last(), 0x11fffn);
      await device.setMemTable([{ ...region, bytes: 4096n }]);
      assert.is(await last(), 0x10fffn);
    },
    { parent: 'dma_map' },
  ));

test('being suspended is being stopped, with the positions kept', () =>
  play(async ({ device, responder, vduseFile }) => {
    await device.reset();
    await start(device);
    told(responder);
    responder.answer = ({ type }) =>
      type === vduse.VDUSE_GET_VQ_STATE ? { vq_state: { index: 0, split: { avail_index: 9 } } } : {};
    await device.suspend();
    assert.equal(told(responder), [`type ${vduse.VDUSE_GET_VQ_STATE}`, 0]);
    assert.is(await device.status(), STATUS_DRIVER_OK, 'as with vhost-vdpa');
    assert.is(await device.vringBase(0), 9);
    await device.resume();
    assert.equal(told(responder).at(-1), STATUS_DRIVER_OK);
    const info = await vqInfo(vduseFile);
    assert.is(info.split.avail_index, 9);
    assert.is(info.ready, 1);
  }));

test('a reset ends a suspension', () =>
  play(async ({ device, responder }) => {
    await start(device);
    await device.suspend();
    await device.reset();
    assert.is(await device.status(), 0);
    responder.answer = ({ s }) => (s.status === STATUS_DRIVER_OK ? REFUSED : {});
    await start(device).then(
      () => assert.unreachable(),
      (error: Error) => assert.match(error.message, /refused DRIVER_OK/),
    );
  }));

test('a device that has not started can be neither suspended nor resumed', () =>
  play(async ({ dialect, responder }) => {
    told(responder);
    await dialect.ioctl(vhost.VHOST_VDPA_SUSPEND);
    await dialect.ioctl(vhost.VHOST_VDPA_RESUME);
    assert.equal(told(responder), []);
  }));

test('what a vhost-mdev device cannot do is refused', () =>
  play(async ({ dialect }) => {
    const disable = vhost.vhostVringState.encode({ index: 0, num: 0 });
    await fails(dialect.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, disable), 'EOPNOTSUPP');
    const batch = u64.encode(mask(vhost.VHOST_BACKEND_F_IOTLB_BATCH));
    await fails(dialect.ioctl(vhost.VHOST_SET_BACKEND_FEATURES, batch), 'EOPNOTSUPP');
    await fails(dialect.write(iotlbMessage(vhost.VHOST_IOTLB_BATCH_BEGIN)), 'EINVAL');
    await fails(dialect.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, { size: 1n })), 'EINVAL');
  }));

test('a state that the device refuses is reported', () =>
  play(async ({ bus, device }) => {
    bus.faults.inject({ point: 'ioctl', request: VHOST_MDEV_SET_STATE, errno: 'EIO' });
    await device.reset().then(
      () => assert.unreachable(),
      (error: Error) => assert.match(error.message, /VHOST_VDPA_SET_STATUS: EIO/),
    );
  }));

test.run();
