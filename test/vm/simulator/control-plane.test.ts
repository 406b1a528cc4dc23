/** What VDUSE does not have as a parent and the kernel's simulators have: suspension, persistent maps, two address spaces. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Aperture } from '../../../host/aperture/aperture.js';
import { isSystemError, type RingbellError } from '../../../host/errors.js';
import { loadAddon } from '../../../host/native/addon.js';
import * as vhost from '../../../host/uapi/vhost.js';
import {
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_F_ACCESS_PLATFORM,
  VIRTIO_F_VERSION_1,
} from '../../../host/uapi/virtio.js';
import { VhostVdpa } from '../../../host/vhost-vdpa/device.js';
import { openVhostVdpaFile } from '../../../host/vhost-vdpa/open.js';
import { addSimulator, bindDriver, hasModule, modprobe, removeDevice, shell, skip } from '../fixture.js';

const PAGE = 4096;
const PAGES = 16;
const FEATURES = (1n << BigInt(VIRTIO_F_VERSION_1)) | (1n << BigInt(VIRTIO_F_ACCESS_PLATFORM));

/** A device up to FEATURES_OK, with memory at IOVA 1 MiB that it can be shown. */
async function open(path: string) {
  const device = await VhostVdpa.open(await openVhostVdpaFile(path));
  await device.reset();
  await device.acknowledge();
  await device.negotiate(FEATURES, 0n);
  const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
  const fd = loadAddon().memfd('simulator', PAGES * PAGE, true);
  const window = aperture.map({ fd, offset: 0n }, PAGES * PAGE, 'rw');
  loadAddon().close(fd);
  const region = (page: number, asid = 0) => ({
    iova: BigInt(2 ** 20 + page * PAGE),
    bytes: BigInt(PAGE),
    address: aperture.address + BigInt(window.linear + page * PAGE),
    asid,
  });
  const setVring = async (base: number) => {
    const eventfd = loadAddon().eventfd();
    await device.setVring({
      index: 0,
      num: 64,
      desc: region(0).iova,
      avail: region(1).iova,
      used: region(2).iova,
      base,
      kickFd: eventfd,
      callFd: eventfd,
    });
    loadAddon().close(eventfd);
    await device.enableVring(0);
  };
  return { device, region, setVring };
}

/** Code of what the kernel says to a call; undefined if it accepts. */
async function refusal(call: Promise<unknown>): Promise<string | undefined> {
  try {
    await call;
    return undefined;
  } catch (error) {
    const { cause = error } = error as RingbellError;
    return isSystemError(cause) ? cause.code : (error as RingbellError).code;
  }
}

if (!hasModule('vdpa_sim_net')) {
  skip('simulators', 'this kernel comes without them, and nobody built them');
} else {
  modprobe('vhost_vdpa');
  addSimulator('blk', 'disk0');
  addSimulator('net', 'net0');
  const disk = await bindDriver('disk0', 'vhost_vdpa');
  const net = await bindDriver('net0', 'vhost_vdpa');

  test('every backend feature that a simulator has is acknowledged', async () => {
    const { device } = await open(disk);
    for (const feature of [
      vhost.VHOST_BACKEND_F_IOTLB_MSG_V2,
      vhost.VHOST_BACKEND_F_IOTLB_BATCH,
      vhost.VHOST_BACKEND_F_IOTLB_ASID,
      vhost.VHOST_BACKEND_F_SUSPEND,
      vhost.VHOST_BACKEND_F_RESUME,
      vhost.VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK,
      vhost.VHOST_BACKEND_F_IOTLB_PERSIST,
    ])
      assert.ok(device.hasBackendFeature(feature), `feature ${feature}`);
    assert.is(device.hasBackendFeature(vhost.VHOST_BACKEND_F_DESC_ASID), false);
    await device.close();
  });

  test('a running device is suspended and resumed, and its base can be moved meanwhile', async () => {
    const { device, region, setVring } = await open(disk);
    assert.is(await refusal(device.suspend()), 'ERR_CONTROL_PLANE', 'before DRIVER_OK');
    await device.map([region(0), region(1), region(2)]);
    await setVring(7);
    await device.driverOk();
    const setBase = () =>
      device.file.ioctl(vhost.VHOST_SET_VRING_BASE, vhost.vhostVringState.encode({ index: 0, num: 9 }));
    assert.is(await refusal(setBase()), 'EINVAL');
    assert.is(await device.vringBase(0), 7);
    await device.suspend();
    assert.is(await refusal(setBase()), undefined);
    assert.is(await device.vringBase(0), 9);
    await device.resume();
    assert.is(await refusal(setBase()), 'EINVAL');
    assert.ok((await device.status()) & VIRTIO_CONFIG_S_DRIVER_OK);
    await device.close();
  });

  test('mappings persist through a reset, and the base does not', async () => {
    const { device, region, setVring } = await open(disk);
    await device.map([region(0), region(1), region(2)]);
    await setVring(7);
    await device.reset();
    assert.is(device.iotlb.mapped.length, 3);
    assert.is(await refusal(device.map([region(1)])), 'EFAULT');
    assert.is(await device.vringBase(0), 0);
    await device.map([region(3)]);
    await device.close();
  });

  test('a batch is verified by its last region, and a refused one is withdrawn', async () => {
    const { device, region } = await open(disk);
    await device.map([region(0)]);
    assert.is(await refusal(device.map([region(1), region(2), region(0), region(3)])), 'EFAULT');
    assert.is(device.iotlb.mapped.length, 1);
    await device.map([region(1), region(2), region(3), region(4)]);
    assert.is(device.iotlb.mapped.length, 5);
    await device.close();
  });

  test('a network device’s queues are in two groups, each with an address space if asked', async () => {
    const { device, region } = await open(net);
    assert.equal(await device.groups(), { groups: 2, addressSpaces: 2 });
    assert.equal(
      [await device.vringGroup(0), await device.vringGroup(1), await device.vringGroup(2)],
      [0, 0, 1],
    );
    await device.setGroupAsid(1, 1);
    assert.is(await refusal(device.setGroupAsid(1, 2)), 'EINVAL');
    assert.is(await refusal(device.setGroupAsid(2, 0)), 'EINVAL');
    // The same IOVA in both.
    await device.map([region(0, 0)]);
    await device.map([region(0, 1)]);
    assert.is(await refusal(device.map([region(0, 1)])), 'EFAULT');
    assert.is(await refusal(device.map([region(1, 2)])), 'EFAULT');
    assert.is(device.iotlb.mapped.length, 2);
    await device.close();
  });

  test('what is asked of a device before it is driven', async () => {
    const { device } = await open(disk);
    assert.is(device.queueCount, 1);
    assert.equal(device.iovaRange, { first: 0n, last: 2n ** 64n - 1n });
    assert.is(await device.maxQueueSize(0), 256);
    assert.ok((await device.offeredFeatures()) & (1n << BigInt(VIRTIO_BLK_F_FLUSH)));
    assert.is((await device.config(8)).byteLength, 8);
    assert.is(await refusal(device.config(device.configSize! + 1)), 'EINVAL');
    await device.close();
  });

  test.after(() => {
    removeDevice('disk0');
    removeDevice('net0');
    // The next test file may load them with other parameters.
    shell(`modprobe -d ${process.env.RINGBELL_VM_MODULES ?? '/'} -r vdpa_sim_net vdpa_sim_blk`);
  });
}

test.run();
