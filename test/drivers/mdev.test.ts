/** What is different for a driver of a vhost-mdev device; all that is not, the scenes of test/conformance/driver show. */
import { readdirSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { VIRTIO_CONFIG_S_FEATURES_OK } from '../../assembly/virtio.js';
import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import type { ErrnoName } from '../../host/errors.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { serve } from '../../host/serve.js';
import { u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vfio from '../../host/uapi/vfio.js';
import * as vhost from '../../host/uapi/vhost.js';
import {
  VHOST_MDEV_S_RUNNING,
  VHOST_MDEV_S_STOPPED,
  VHOST_MDEV_SET_STATE,
} from '../../host/uapi/vhost-mdev.js';
import type { VfioBus } from '../../host/vhost-vdpa/mdev-dialect.js';
import type { VhostVdpaBus } from '../../host/vhost-vdpa/open.js';
import type { VfioDeviceFile } from '../../host/vhost-vdpa/vfio-file.js';
import { createDevice, mask, REFUSED, Responder, SharedMemory, until, within } from '../bus/fixture.js';
import { diskScene, pattern, rejects, serveTestDisk } from './block-fixture.js';
import { netScene, testFrame } from './net-fixture.js';

const MDEV = { driver: 'vhost_mdev' } as const;

test('every step that fails is reported and leaves nothing open', async () => {
  const { bus, device } = await serveTestDisk(MDEV);
  const descriptors = readdirSync('/proc/self/fd').length;
  const steps: [request: number, reported: RegExp][] = [
    [vfio.VFIO_GET_API_VERSION, /cannot open disk0/],
    [vfio.VFIO_GROUP_SET_CONTAINER, /cannot open disk0/],
    [vfio.VFIO_SET_IOMMU, /cannot open disk0/],
    [vfio.VFIO_GROUP_GET_DEVICE_FD, /cannot open disk0/],
    [vfio.VFIO_DEVICE_GET_INFO, /cannot open disk0/],
    [vhost.VHOST_VDPA_GET_DEVICE_ID, /VHOST_VDPA_GET_DEVICE_ID: EIO/],
    [vhost.VHOST_SET_FEATURES, /VHOST_SET_FEATURES: EIO/],
    [vfio.VFIO_IOMMU_MAP_DMA, /VHOST_IOTLB_UPDATE .*: EIO/],
    [vhost.VHOST_SET_VRING_ADDR, /VHOST_SET_VRING_ADDR: EIO/],
    [VHOST_MDEV_SET_STATE, /VHOST_VDPA_SET_STATUS: EIO/],
  ];
  for (const [request, reported] of steps) {
    // Of VHOST_MDEV_SET_STATE the first is that to STOPPED.
    for (let skip = 0; skip < (request === VHOST_MDEV_SET_STATE ? 2 : 1); skip++) {
      const fault = bus.faults.inject({ point: 'ioctl', request, errno: 'EIO', skip });
      await rejects(openBlock('disk0', { bus }), 'ERR_CONTROL_PLANE', reported);
      assert.is(fault.hits, 1);
      fault.remove();
      assert.is(bus.list()[0]?.driven, false);
      assert.is(bus.list()[0]?.status, 0);
    }
  }
  assert.is(readdirSync('/proc/self/fd').length, descriptors);
  const disk = await openBlock('disk0', { bus });
  await disk.write(0, pattern(512));
  await disk.close();
  await bus.close();
  device.close();
});

test('a name that is missing, busy or of no vhost device is told', async () => {
  const { bus, device } = await serveTestDisk(MDEV);
  for (const [errno, code] of [
    ['ENOENT', 'ERR_NO_DEVICE'],
    ['EBUSY', 'ERR_DEVICE_BUSY'],
  ] as [ErrnoName, 'ERR_NO_DEVICE'][]) {
    bus.faults.inject({ point: 'open', errno });
    await rejects(openBlock('disk0', { bus }), code);
  }
  const other: VfioBus & VhostVdpaBus = {
    driverOf: () => 'vhost_mdev',
    openVhostVdpa: (name) => bus.openVhostVdpa(name),
    openVfioContainer: () => bus.openVfioContainer(),
    openVfioGroup: async (name) => {
      const group = await bus.openVfioGroup(name);
      const open = group.openDevice.bind(group);
      group.openDevice = async () => {
        const file = await open(name);
        file.ioctl = async () => 0;
        return file;
      };
      return group;
    },
  };
  await rejects(openBlock('disk0', { bus: other }), 'ERR_CONTROL_PLANE', /disk0 is no vhost device/);
  assert.is(bus.list()[0]?.driven, false);
  await bus.close();
  device.close();
});

test('a device that refuses its features does not start, which is all that a driver sees', async () => {
  const bus = new Bus();
  const { file } = await createDevice(bus, { config: new Uint8Array(60) });
  const responder = new Responder(file);
  responder.answer = ({ type, s }) =>
    type === vduse.VDUSE_SET_STATUS && s.status & VIRTIO_CONFIG_S_FEATURES_OK ? REFUSED : {};
  await bus.attach('disk0', MDEV);
  await rejects(openBlock('disk0', { bus }), 'ERR_CONTROL_PLANE', /disk0 refused DRIVER_OK/);
  assert.is(bus.list()[0]?.driven, false);
  await bus.close();
});

test('kicks through a mapped doorbell page', () =>
  diskScene(
    async ({ disk, device }) => {
      const rung = await device.watchDoorbells();
      await disk.write(0, pattern(512));
      assert.is(disk.stats().queues[0]?.doorbell, true);
      assert.equal(rung(), [0]);
    },
    { ...MDEV, doorbell: 'page-per-vq' },
  ));

test('a disk breaks that asks for a reset or leaves the bus, also while it is being closed', async () => {
  await diskScene(
    async ({ disk, file }) => {
      const read = disk.read(0, 512);
      const closing = disk.close();
      await file.needsReset();
      await rejects(read, 'ERR_DEVICE_BROKEN');
      await closing;
    },
    { ...MDEV, hold: true },
  );
  await diskScene(
    async ({ bus, disk }) => {
      const read = disk.read(0, 512);
      await bus.detach('disk0');
      await rejects(read, 'ERR_DEVICE_BROKEN');
    },
    { ...MDEV, hold: true },
  );
});

test('a network device is driven, too', () =>
  netScene(async ({ device, net }) => {
    const returned = net.receive();
    await net.send(testFrame(100));
    assert.equal(await returned, [testFrame(100)]);
    assert.is(device.arrived.length, 1);
  }, MDEV));

/** A bus that shows the device's file that a driver opens, and the features that it accepts. */
function watched(bus: Bus): { bus: Bus; file(): VfioDeviceFile; features(): bigint } {
  let file: VfioDeviceFile | undefined;
  let features = 0n;
  const openVfioGroup = bus.openVfioGroup.bind(bus);
  bus.openVfioGroup = async (name) => {
    const group = await openVfioGroup(name);
    const openDevice = group.openDevice.bind(group);
    group.openDevice = async () => {
      file = await openDevice(name);
      const ioctl = file.ioctl.bind(file);
      file.ioctl = (request, argument) => {
        if (request === vhost.VHOST_SET_FEATURES) features = u64.decode(argument!);
        return ioctl(request, argument);
      };
      return file;
    };
    return group;
  };
  return { bus, file: () => file!, features: () => features };
}

for (const [rings, parent] of [
  ['packed', 'set_map'],
  ['split', 'dma_map'],
] as const)
  test(`a device that is stopped and started under traffic goes on where it was, with ${rings} rings on a parent with ${parent}`, async () => {
    const { bus, file } = watched(new Bus());
    const model = new BlockDevice({ memory: 2 ** 20 });
    const served = await serve(model, { name: 'disk0', bus, attach: 'mdev', parent, queues: 2 });
    const disk = await openBlock('disk0', { bus, queues: 2, packed: rings === 'packed' });
    const setState = (state: number) => file().ioctl(VHOST_MDEV_SET_STATE, u64.encode(BigInt(state)));
    await disk.write(0, pattern(2 ** 16));
    let reads = 0;
    let stops = 0;
    const traffic = async () => {
      for (let offset = 0; stops < 20; offset = (offset + 4096) % 2 ** 16, reads++)
        assert.equal(await disk.read(offset, 512), pattern(2 ** 16).slice(offset, offset + 512));
    };
    const streams = Array.from({ length: 8 }, traffic);
    for (; stops < 20; stops++) {
      await setState(VHOST_MDEV_S_STOPPED);
      assert.is(bus.list()[0]?.status, 0);
      const before = reads;
      await setState(VHOST_MDEV_S_RUNNING);
      await until(() => reads > before, 'traffic');
    }
    await within(Promise.all(streams), 'the last reads');
    assert.equal(served.stats().hostileChains, 0);
    await disk.close();
    await served.close();
    await bus.close();
  });

test('the pages that a device writes are in the log that the driver has handed in, and no others', async () => {
  const { bus, file, features } = watched(new Bus());
  const served = await serve(new BlockDevice({ memory: 2 ** 20 }), { name: 'disk0', bus, attach: 'mdev' });
  const disk = await openBlock('disk0', { bus });
  // A bit for each page up to 8 GiB: the driver's memory lies at its linear address + 4 GiB.
  const log = new SharedMemory(2 ** 18);
  const memory = disk.alloc(8 * PAGE_SIZE);
  const page = (index: number) => (memory.byteOffset + 2 ** 32) / PAGE_SIZE + index;
  /** Pages of `memory` that were written since the last call. */
  const written = () => {
    const pages = [...Array(8).keys()].filter(
      (index) => log.bytes[page(index) >> 3]! & (1 << (page(index) & 7)),
    );
    log.bytes.fill(0);
    return pages;
  };
  const setFeatures = (mask: bigint) => file().ioctl(vhost.VHOST_SET_FEATURES, u64.encode(mask));
  const acked = features();

  await file().ioctl(vhost.VHOST_SET_LOG_BASE, u64.encode(log.address));
  await disk.read(0, memory);
  assert.equal(written(), [], 'nobody has asked');
  await setFeatures(acked | mask(vhost.VHOST_F_LOG_ALL));
  await disk.read(0, memory.subarray(PAGE_SIZE, 2 * PAGE_SIZE));
  await disk.read(0, memory.subarray(4 * PAGE_SIZE - 512, 4 * PAGE_SIZE + 512));
  await disk.write(0, memory.subarray(6 * PAGE_SIZE, 7 * PAGE_SIZE));
  assert.equal(written(), [1, 3, 4]);
  await disk.read(0, memory.subarray(0, 512));
  assert.ok(log.bytes.some((byte) => byte !== 0));
  assert.equal(written(), [0]);
  await setFeatures(acked);
  await disk.read(0, memory);
  assert.equal(written(), []);
  await disk.close();
  await served.close();
  await bus.close();
});

test.run();
