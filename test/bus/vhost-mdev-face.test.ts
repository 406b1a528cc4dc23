import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isSystemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import { u8, u16, u32, u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vfio from '../../host/uapi/vfio.js';
import * as vhost from '../../host/uapi/vhost.js';
import {
  VFIO_DEVICE_FLAGS_VHOST,
  VHOST_MDEV_S_MAX,
  VHOST_MDEV_S_RUNNING,
  VHOST_MDEV_S_STOPPED,
  VHOST_MDEV_SET_STATE,
} from '../../host/uapi/vhost-mdev.js';
import { VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_VERSION_1 } from '../../host/uapi/virtio.js';
import { VDUSE_GET_LOG_FD, VDUSE_SET_LOG, vduseLog } from '../../host/vduse/log-extension.js';
import type { VfioDeviceFile } from '../../host/vhost-vdpa/vfio-file.js';
import {
  askQueue,
  FEATURES,
  fails,
  get,
  mask,
  NAME,
  REFUSED,
  SharedMemory,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  vqInfo,
  vringFile,
  vringState,
} from './fixture.js';
import { type MdevScene, mapDma, mdevScene } from './mdev-fixture.js';

const setState = (device: VfioDeviceFile, state: number) =>
  device.ioctl(VHOST_MDEV_SET_STATE, u64.encode(BigInt(state)));
const run = (device: VfioDeviceFile) => setState(device, VHOST_MDEV_S_RUNNING);
const stop = (device: VfioDeviceFile) => setState(device, VHOST_MDEV_S_STOPPED);
const status = (device: VfioDeviceFile) => get(device, vhost.VHOST_VDPA_GET_STATUS, u8);

/** Statuses that the device was told of since the last call. */
function statuses({ responder }: MdevScene): number[] {
  const told = responder.of(vduse.VDUSE_SET_STATUS).map(({ s }) => s.status);
  responder.requests.length = 0;
  return told;
}

const LOG_ALL = mask(vhost.VHOST_F_LOG_ALL);
const RINGS = {
  desc_user_addr: 0x1000n,
  avail_user_addr: 0x2000n,
  used_user_addr: 0x3000n,
};

/** Sets queue `index` up, with as many entries as the device has. */
async function setVring(device: VfioDeviceFile, index = 0, num = 256): Promise<void> {
  await device.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(index, num));
  await device.ioctl(vhost.VHOST_SET_VRING_ADDR, vhost.vhostVringAddr.encode({ index, ...RINGS }));
}

/** An opened and owned device. */
async function owned(scene: MdevScene): Promise<VfioDeviceFile> {
  const device = await scene.openDevice();
  await device.ioctl(vhost.VHOST_SET_OWNER);
  statuses(scene);
  return device;
}

test('a device is a vhost device, without regions and interrupts', () =>
  mdevScene(async ({ openDevice }) => {
    const device = await openDevice();
    const { size } = vfio.vfioDeviceInfo;
    // What lies behind is the caller's: newer kernels have more to say.
    const argument = new Uint8Array(size + 4).fill(0xff);
    vfio.vfioDeviceInfo.set(argument, { argsz: size + 4 });
    assert.is(await device.ioctl(vfio.VFIO_DEVICE_GET_INFO, argument), 0);
    assert.equal(vfio.vfioDeviceInfo.decode(argument), {
      argsz: size + 4,
      flags: VFIO_DEVICE_FLAGS_VHOST,
      num_regions: 0,
      num_irqs: 0,
    });
    assert.is(argument[size], 0xff);
    const tooSmall = vfio.vfioDeviceInfo.encode({ argsz: size - 1 });
    await fails(device.ioctl(vfio.VFIO_DEVICE_GET_INFO, tooSmall), 'EINVAL', 'ioctl');
    await fails(device.ioctl(vfio.VFIO_DEVICE_GET_INFO, tooSmall.subarray(1)), 'EFAULT', 'ioctl');
    for (const request of [
      vfio.VFIO_DEVICE_GET_REGION_INFO,
      vfio.VFIO_DEVICE_GET_IRQ_INFO,
      vfio.VFIO_DEVICE_SET_IRQS,
      vfio.VFIO_DEVICE_RESET,
    ])
      await fails(device.ioctl(request, new Uint8Array(64)), 'EINVAL', 'ioctl');
    await fails(device.read(new Uint8Array(8)), 'EINVAL', 'read');
    await fails(device.write(new Uint8Array(8)), 'EINVAL', 'write');
  }));

test('features are those offered with that of the log, and any others EINVAL', () =>
  mdevScene(async (scene) => {
    const device = await owned(scene);
    assert.is(await get(device, vhost.VHOST_GET_FEATURES, u64), FEATURES | LOG_ALL);
    await fails(device.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES | 1n)), 'EINVAL', 'ioctl');
    const some = 1n << BigInt(VIRTIO_F_VERSION_1);
    await device.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(some));
    await run(device);
    const negotiated = await get(scene.vduse, vduse.VDUSE_DEV_GET_FEATURES, u64);
    assert.is(negotiated, some);
  }));

test('RUNNING takes the device through the virtio initialisation, STOPPED resets it', () =>
  mdevScene(async (scene) => {
    const device = await owned(scene);
    await setVring(device, 1, 64);
    // Queue 0 gets no addresses.
    await device.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(0, 64));
    assert.equal(statuses(scene), [], 'nothing of it reaches the device before');
    assert.is((await vqInfo(scene.vduse, 1)).num, 0);
    await run(device);
    assert.equal(statuses(scene), [3, STATUS_FEATURES_OK, STATUS_DRIVER_OK]);
    assert.is(await status(device), STATUS_DRIVER_OK);
    const info = await vqInfo(scene.vduse, 1);
    assert.is(info.ready, 1);
    assert.is(info.num, 64);
    assert.is(info.desc_addr, RINGS.desc_user_addr);
    assert.is(info.driver_addr, RINGS.avail_user_addr);
    assert.is(info.device_addr, RINGS.used_user_addr);
    assert.is((await vqInfo(scene.vduse, 0)).ready, 0);
    await run(device);
    assert.equal(statuses(scene), [], 'the same state again');
    await stop(device);
    assert.equal(statuses(scene), [0]);
    assert.is(await status(device), 0);
    assert.is((await vqInfo(scene.vduse, 1)).ready, 0);
    await stop(device);
    assert.equal(statuses(scene), []);
    for (const state of [BigInt(VHOST_MDEV_S_MAX), 2n ** 63n])
      await fails(device.ioctl(VHOST_MDEV_SET_STATE, u64.encode(state)), 'EINVAL', 'ioctl');
  }));

test('a queue goes on where it was stopped, unless it is told otherwise', () =>
  mdevScene(async (scene) => {
    const device = await owned(scene);
    const base = () => askQueue(device as never, vhost.VHOST_GET_VRING_BASE);
    await setVring(device);
    await device.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 7));
    assert.is(await base(), 7);
    await run(device);
    assert.is((await vqInfo(scene.vduse)).split.avail_index, 7);
    scene.responder.answer = ({ type, vq_state }) =>
      type === vduse.VDUSE_GET_VQ_STATE
        ? { vq_state: { index: vq_state.index, split: { avail_index: 12 } } }
        : {};
    assert.is(await base(), 12, 'the device says where it is');
    await stop(device);
    scene.responder.answer = () => ({});
    assert.is(await base(), 12, 'where it was');
    await run(device);
    assert.is((await vqInfo(scene.vduse)).split.avail_index, 12);
    await stop(device);
    await device.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 3));
    await run(device);
    assert.is((await vqInfo(scene.vduse)).split.avail_index, 3);
  }));

for (const [name, refused] of [
  ['FEATURES_OK', STATUS_FEATURES_OK],
  ['DRIVER_OK', STATUS_DRIVER_OK],
] as const)
  test(`a device that refuses ${name} is RUNNING, and its status says that it is not`, () =>
    mdevScene(async (scene) => {
      const device = await owned(scene);
      scene.responder.answer = ({ s }) => (s.status === refused ? REFUSED : {});
      assert.is(await run(device), 0);
      assert.not((await status(device)) & 4);
      scene.responder.answer = () => ({});
      await run(device);
      assert.not((await status(device)) & 4, 'the same state again');
      await stop(device);
      await run(device);
      assert.is(await status(device), STATUS_DRIVER_OK);
    }));

test('ioctls of vhost have its errnos', () =>
  mdevScene(async (scene) => {
    const device = await scene.openDevice();
    await fails(device.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(0, 64)), 'EPERM', 'ioctl');
    // Features, states and positions do not ask for an owner.
    await device.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES));
    assert.is(await askQueue(device as never, vhost.VHOST_GET_VRING_BASE), 0);
    await device.ioctl(vhost.VHOST_SET_OWNER);
    await fails(device.ioctl(vhost.VHOST_SET_OWNER), 'EBUSY', 'ioctl');
    await fails(device.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(2, 64)), 'ENOBUFS', 'ioctl');
    await fails(device.ioctl(vhost.VHOST_GET_VRING_BASE, vringState(2, 0)), 'ENOBUFS', 'ioctl');
    for (const num of [0, 3, 2 ** 16])
      await fails(device.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(0, num)), 'EINVAL', 'ioctl');
    await fails(device.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 2 ** 16)), 'EINVAL', 'ioctl');
    const addr = (fields: object) => vhost.vhostVringAddr.encode({ ...RINGS, ...fields });
    const set = (fields: object) => device.ioctl(vhost.VHOST_SET_VRING_ADDR, addr(fields));
    await fails(set({ flags: 2 }), 'EOPNOTSUPP', 'ioctl');
    await fails(set({ avail_user_addr: 1n }), 'EINVAL', 'ioctl');
    await fails(set({ used_user_addr: 2n }), 'EINVAL', 'ioctl');
    for (const request of [
      vhost.VHOST_SET_VRING_KICK,
      vhost.VHOST_SET_VRING_CALL,
      vhost.VHOST_SET_VRING_ERR,
    ]) {
      await fails(device.ioctl(request, vringFile(0, 9999)), 'EBADF', 'ioctl');
      await device.ioctl(request, vringFile(0, vhost.VHOST_FILE_UNBIND));
    }
    // What came with vhost-vdpa.
    await fails(device.ioctl(vhost.VHOST_VDPA_SET_STATUS, new Uint8Array(4)), 'ENOTTY', 'ioctl');
    await fails(device.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1)), 'ENOTTY', 'ioctl');
    await fails(device.ioctl(vhost.VHOST_GET_BACKEND_FEATURES, new Uint8Array(8)), 'ENOTTY', 'ioctl');
    await device.close();
    await fails(device.ioctl(vhost.VHOST_GET_FEATURES, new Uint8Array(8)), 'EBADF', 'ioctl');
    await fails(device.read(new Uint8Array(8)), 'EBADF', 'read');
  }));

test('what a driver has to know of its device can be asked', () =>
  mdevScene(
    async (scene) => {
      const device = await scene.openDevice();
      assert.is(await get(device, vhost.VHOST_VDPA_GET_DEVICE_ID, u32), 2);
      assert.is(await get(device, vhost.VHOST_VDPA_GET_VRING_NUM, u16), 128);
      assert.is(await get(device, vhost.VHOST_VDPA_GET_VQS_COUNT, u32), 2);
      assert.is(await get(device, vhost.VHOST_VDPA_GET_CONFIG_SIZE, u32), 3);
      const config = vhost.vhostVdpaConfig.encode({ off: 1, len: 2, buf: new Uint8Array(2) });
      await device.ioctl(vhost.VHOST_VDPA_GET_CONFIG, config);
      assert.equal([...vhost.vhostVdpaConfig.get(config, 'buf')], [8, 9]);
      await fails(device.ioctl(vhost.VHOST_VDPA_GET_CONFIG, vringState(2, 2)), 'EINVAL', 'ioctl');
      const fd = loadAddon().eventfd();
      await device.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, u32.encode(fd));
      await run(device);
      await scene.vduse.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
      assert.is(loadAddon().eventfdDrain(fd), 1);
      loadAddon().close(fd);
    },
    { config: Uint8Array.of(7, 8, 9), queueSize: 128 },
  ));

test('kicks and interrupts pass while the device runs, by the eventfds of either moment', () =>
  mdevScene(async (scene) => {
    const addon = loadAddon();
    const device = await owned(scene);
    const [kick, otherKick, call, otherCall, own] = Array.from({ length: 5 }, () => addon.eventfd());
    await setVring(device);
    await device.ioctl(vhost.VHOST_SET_VRING_KICK, vringFile(0, kick!));
    await device.ioctl(vhost.VHOST_SET_VRING_CALL, vringFile(0, call!));
    for (let life = 0; life < 2; life++) {
      await run(device);
      const setup = vduse.vduseVqEventfd.encode({ index: 0, fd: own! });
      await scene.vduse.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, setup);
      const kickFd = await scene.vduse.kickFd(0, own!);
      addon.eventfdDrain(kickFd);
      addon.eventfdSignal(kick!);
      assert.is(addon.eventfdDrain(kickFd), 1, `kick in life ${life}`);
      await scene.vduse.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(0));
      assert.is(addon.eventfdDrain(call!), 1, `interrupt in life ${life}`);
      if (life === 0) await stop(device);
    }
    await device.ioctl(vhost.VHOST_SET_VRING_KICK, vringFile(0, otherKick!));
    await device.ioctl(vhost.VHOST_SET_VRING_CALL, vringFile(0, otherCall!));
    const kickFd = await scene.vduse.kickFd(0, own!);
    addon.eventfdDrain(kickFd);
    addon.eventfdSignal(otherKick!);
    assert.is(addon.eventfdDrain(kickFd), 1);
    await scene.vduse.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(0));
    assert.is(addon.eventfdDrain(otherCall!), 1);
    assert.is(addon.eventfdDrain(call!), 0);
    for (const fd of [kick, otherKick, call, otherCall, own]) addon.close(fd!);
  }));

test('opening and closing stop the device', () =>
  mdevScene(async (scene) => {
    const device = await scene.openDevice();
    assert.equal(statuses(scene), [0]);
    await run(device);
    statuses(scene);
    await device.close();
    assert.equal(statuses(scene), [0]);
    const again = await scene.group.openDevice(NAME);
    assert.equal(statuses(scene), [0]);
    await again.close();
    assert.equal(statuses(scene), [], 'it was stopped');
    scene.responder.answer = () => REFUSED;
    await fails(scene.group.openDevice(NAME), 'EIO', 'ioctl');
    scene.responder.answer = () => ({});
    await (await scene.group.openDevice(NAME)).close();
  }));

test('a device that can be suspended is, before its positions are asked for', () =>
  mdevScene(
    async (scene) => {
      const device = await owned(scene);
      await setVring(device);
      await run(device);
      scene.responder.requests.length = 0;
      await stop(device);
      assert.equal(
        scene.responder.requests.map(({ type }) => type),
        [vduse.VDUSE_SUSPEND, vduse.VDUSE_GET_VQ_STATE, vduse.VDUSE_SET_STATUS],
      );
    },
    { apiVersion: 1n, vduseFeatures: 1n << BigInt(vduse.VDUSE_F_SUSPEND) },
  ));

for (const parent of ['set_map', 'dma_map'] as const)
  test(`starting and stopping leave the container's mappings alone, on a parent with ${parent}`, () =>
    mdevScene(
      async (scene) => {
        const memory = new SharedMemory(4096);
        const device = await owned(scene);
        await mapDma(scene.container, { iova: 0x1000n, size: 4096n, vaddr: memory.address });
        const mapped = async () => {
          const entry = vduse.vduseIotlbEntry.encode({ start: 0x1000n, last: 0x1000n });
          loadAddon().close(await scene.vduse.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry));
        };
        await run(device);
        await mapped();
        await stop(device);
        await mapped();
        await device.close();
        await mapped();
      },
      { parent },
    ));

test('a doorbell is mapped, by the rules of vhost-vdpa', () =>
  mdevScene(
    async ({ openDevice }) => {
      const device = await openDevice();
      const { aperture } = new SharedMemory(4096);
      const page = aperture.reserveWindow(4096);
      const request = { length: 4096, protection: 'w', shared: true, offset: 4096 } as const;
      const map = (change: object) => device.mmap(aperture, page.linear, { ...request, ...change });
      await fails(map({ protection: 'rw' }), 'EINVAL', 'mmap');
      await fails(map({ shared: false }), 'EINVAL', 'mmap');
      await fails(map({ length: 8192 }), 'EINVAL', 'mmap');
      await fails(map({ offset: 2 * 4096 }), 'EINVAL', 'mmap');
      await map({});
      await device.close();
      await fails(map({}), 'EBADF', 'mmap');
    },
    { doorbell: 'page-per-vq' },
  ));

test('a log is handed to the device while it is asked for, wherever it lies then', () =>
  mdevScene(async (scene) => {
    const memory = new SharedMemory(4 * 4096);
    const device = await owned(scene);
    const setFeatures = (features: bigint) => device.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(features));
    const setLogBase = (base: bigint) => device.ioctl(vhost.VHOST_SET_LOG_BASE, u64.encode(base));
    /** Where the device is to mark what it writes: byte of the file and bytes, undefined for nowhere. */
    const log = async (): Promise<[offset: bigint, bytes: bigint] | undefined> => {
      const argument = vduseLog.encode({});
      try {
        loadAddon().close(await scene.vduse.ioctl(VDUSE_GET_LOG_FD, argument));
      } catch (error) {
        assert.ok(isSystemError(error, 'ENOENT'));
        return undefined;
      }
      const { offset, bytes } = vduseLog.decode(argument);
      return [offset, bytes];
    };
    await setLogBase(memory.address);
    assert.is(await log(), undefined, 'not asked for yet');
    await setFeatures(FEATURES | LOG_ALL);
    assert.equal(await log(), [0n, 4n * 4096n]);
    await run(device);
    assert.is(await get(scene.vduse, vduse.VDUSE_DEV_GET_FEATURES, u64), FEATURES, 'no feature of virtio');
    await setLogBase(memory.address + 2n * 4096n);
    assert.equal(await log(), [2n * 4096n, 2n * 4096n], 'also while it runs');
    await fails(setLogBase(4096n), 'EFAULT', 'ioctl');
    await fails(setLogBase(memory.address - 4096n), 'EFAULT', 'ioctl');
    assert.equal(await log(), [2n * 4096n, 2n * 4096n], 'as it was');
    await setFeatures(FEATURES);
    assert.is(await log(), undefined);
    await setFeatures(FEATURES | LOG_ALL);
    await stop(device);
    assert.equal(await log(), [2n * 4096n, 2n * 4096n], 'a stop is no end of it');
    await device.close();
    assert.is(await log(), undefined);
  }));

test('a device that cannot log leaves features and log as they were', () =>
  mdevScene(async (scene) => {
    const memory = new SharedMemory(4096);
    const device = await owned(scene);
    await device.ioctl(vhost.VHOST_SET_LOG_BASE, u64.encode(memory.address));
    scene.responder.answer = ({ type }) => (type === VDUSE_SET_LOG ? REFUSED : {});
    const all = u64.encode(FEATURES | LOG_ALL);
    await fails(device.ioctl(vhost.VHOST_SET_FEATURES, all), 'EIO', 'ioctl');
    await device.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES));
    assert.is(scene.responder.of(VDUSE_SET_LOG).length, 1);
  }));

test('a used ring is logged where it lies', () =>
  mdevScene(async (scene) => {
    const device = await owned(scene);
    const set = (log_guest_addr: bigint, flags = 1 << vhost.VHOST_VRING_F_LOG) =>
      device.ioctl(
        vhost.VHOST_SET_VRING_ADDR,
        vhost.vhostVringAddr.encode({ ...RINGS, flags, log_guest_addr }),
      );
    await set(RINGS.used_user_addr);
    await set(0x5000n, 0);
    await fails(set(0x5000n), 'EOPNOTSUPP', 'ioctl');
    await fails(device.ioctl(vhost.VHOST_SET_LOG_FD, u32.encode(9999)), 'EBADF', 'ioctl');
    const fd = loadAddon().eventfd();
    await device.ioctl(vhost.VHOST_SET_LOG_FD, u32.encode(fd));
    loadAddon().close(fd);
  }));

test('a device that leaves the bus tells its driver', () =>
  mdevScene(async (scene) => {
    const device = await owned(scene);
    const fd = loadAddon().eventfd();
    await device.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, u32.encode(fd));
    await run(device);
    await scene.bus.detach(NAME);
    assert.is(loadAddon().eventfdDrain(fd), 1);
    assert.is(await status(device), STATUS_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
    await fails(run(device), 'ENODEV', 'ioctl');
    await device.close();
    loadAddon().close(fd);
  }));

test.run();
