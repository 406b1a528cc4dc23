import { closeSync, openSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../host/native/addon.js';
import { s32, u32, u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '../../host/uapi/virtio.js';
import type { VduseFile } from '../../host/vduse/file.js';
import {
  fails,
  getStatus,
  iotlbMessage,
  LAST_IOVA,
  SharedMemory,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  scene,
  setStatus,
  vringState,
} from './fixture.js';

const setup = (device: VduseFile, values: Parameters<typeof vduse.vduseVqConfig.encode>[0]) =>
  device.ioctl(vduse.VDUSE_VQ_SETUP, vduse.vduseVqConfig.encode(values));

test('a queue that the device does not have is EINVAL', async () => {
  await scene(async ({ device }) => {
    await fails(setup(device, { index: 2, max_size: 64 }), 'EINVAL', 'ioctl');
    await fails(device.ioctl(vduse.VDUSE_VQ_GET_INFO, vduse.vduseVqInfo.encode({ index: 2 })), 'EINVAL');
    await fails(device.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(2)), 'EINVAL');
    await fails(device.kickFd(2, -1), 'EINVAL');
    await fails(device.callFd(2), 'EINVAL');
    const kickfd = vduse.vduseVqEventfd.encode({ index: 2, fd: -1 });
    await fails(device.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, kickfd), 'EINVAL');
  });
});

test('queues of version 0 have no group and can be set up at any time', async () => {
  await scene(async ({ device, driver }) => {
    await fails(setup(device, { index: 0, max_size: 64, group: 1 }), 'EINVAL');
    await fails(setup(device, { index: 0, max_size: 64, reserved1: 1 }), 'EINVAL');
    await fails(
      setup(device, { index: 0, max_size: 64, reserved2: [0, 0, 0, 0, 0, 0, 0, 0, 0, 1] }),
      'EINVAL',
    );
    await setStatus(driver, STATUS_DRIVER_OK);
    await setup(device, { index: 0, max_size: 64 });
  });
});

test('queues of version 1 have a group of the device’s, and none is set up after DRIVER_OK', async () => {
  await scene(
    async ({ device, driver }) => {
      await setup(device, { index: 0, max_size: 64, group: 1 });
      await fails(setup(device, { index: 0, max_size: 64, group: 2 }), 'EINVAL');
      await setStatus(driver, STATUS_DRIVER_OK);
      await fails(setup(device, { index: 0, max_size: 64, group: 1 }), 'EINVAL');
    },
    { apiVersion: 1n, ngroups: 2, nas: 1 },
  );
});

test('the device changes its config space, and the driver sees it at once', async () => {
  await scene(async ({ bus, device, driver }) => {
    const { generation } = bus.list()[0]!;
    const write = (offset: number, length: number, buffer: Uint8Array) =>
      device.ioctl(vduse.VDUSE_DEV_SET_CONFIG, vduse.vduseConfigData.encode({ offset, length, buffer }));
    await write(12, 4, Uint8Array.of(1, 2, 3, 4));
    const argument = vhost.vhostVdpaConfig.encode({ off: 12, len: 4, buf: new Uint8Array(4) });
    await driver.ioctl(vhost.VHOST_VDPA_GET_CONFIG, argument);
    assert.equal(argument.subarray(8), Uint8Array.of(1, 2, 3, 4));
    // Only a reset changes the generation.
    assert.is(bus.list()[0]?.generation, generation);
    for (const [offset, length] of [
      [0, 0],
      [13, 4],
      [17, 1],
      [16, 1],
      [1, 0xffffffff],
    ] as const)
      await fails(write(offset, length, new Uint8Array(4)), 'EINVAL');
    await fails(write(0, 4, new Uint8Array(3)), 'EFAULT');
  });
});

test('an interrupt before DRIVER_OK is EINVAL, unless the queue is ready and has a call eventfd', async () => {
  const addon = loadAddon();
  const call = addon.eventfd();
  await scene(async ({ device, driver }) => {
    const inject = (index: number) => device.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(index));
    await fails(inject(0), 'EINVAL');
    await driver.ioctl(vhost.VHOST_SET_VRING_CALL, vhost.vhostVringFile.encode({ index: 0, fd: call }));
    await fails(inject(0), 'EINVAL');
    await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
    await inject(0);
    assert.is(addon.eventfdDrain(call), 1);
    await fails(inject(1), 'EINVAL');
    await setStatus(driver, STATUS_DRIVER_OK);
    await inject(1);
    assert.is(addon.eventfdDrain(call), 0);
    // Lost at a reset: the driver has to bind it again.
    await setStatus(driver, 0);
    await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
    await fails(inject(0), 'EINVAL');
    addon.eventfdSignal(await device.callFd(0));
    assert.is(addon.eventfdDrain(call), 0);
  });
  closeSync(call);
});

test('a kickfd is an eventfd; −1 takes it away, another negative number changes nothing', async () => {
  const addon = loadAddon();
  const [kick, own] = [addon.eventfd(), addon.eventfd()];
  const file = openSync('/dev/null', 'r');
  await scene(async ({ device, driver }) => {
    const kickfd = (fd: number) =>
      device.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, vduse.vduseVqEventfd.encode({ index: 0, fd }));
    await driver.ioctl(vhost.VHOST_SET_VRING_KICK, vhost.vhostVringFile.encode({ index: 0, fd: kick }));
    const kickFd = await device.kickFd(0, own);
    const seen = () => {
      addon.eventfdDrain(kickFd);
      addon.eventfdDrain(kick);
      addon.eventfdSignal(kick);
      return addon.eventfdDrain(kickFd);
    };
    await fails(kickfd(file), 'EINVAL');
    await fails(kickfd(9999), 'EBADF');
    assert.is(seen(), 0);
    await kickfd(own);
    assert.is(seen(), 1);
    await kickfd(-2);
    assert.is(seen(), 1);
    await kickfd(-1);
    assert.is(seen(), 0);
  });
  for (const fd of [kick, own, file]) closeSync(fd);
});

test('a kick from before the kickfd is found when it is set up; a reset takes the kickfd away', async () => {
  const addon = loadAddon();
  const [kick, own] = [addon.eventfd(), addon.eventfd()];
  await scene(async ({ device, driver }) => {
    const setupKickfd = () =>
      device.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, vduse.vduseVqEventfd.encode({ index: 0, fd: own }));
    await driver.ioctl(vhost.VHOST_SET_VRING_KICK, vhost.vhostVringFile.encode({ index: 0, fd: kick }));
    addon.eventfdSignal(kick);
    const kickFd = await device.kickFd(0, own);
    assert.is(addon.eventfdDrain(kickFd), 0);
    await setupKickfd();
    assert.is(addon.eventfdDrain(kickFd), 1);
    await setStatus(driver, 0);
    for (const fd of [kickFd, kick]) addon.eventfdDrain(fd);
    addon.eventfdSignal(kick);
    assert.is(addon.eventfdDrain(kickFd), 0);
    await setupKickfd();
    assert.ok(addon.eventfdDrain(kickFd) > 0);
    assert.is(await device.kickFd(0, own), kickFd);
  });
  for (const fd of [kick, own]) closeSync(fd);
});

test('a descriptor given for a region is a fresh one, close-on-exec', async () => {
  const { readFileSync } = await import('node:fs');
  const memory = new SharedMemory(8192);
  await scene(async ({ device, driver }) => {
    const uaddr = memory.address;
    await driver.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, { iova: 4096n, size: 8192n, uaddr }));
    const entry = () => vduse.vduseIotlbEntry.encode({ start: 5000n, last: 5000n });
    const first = await device.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry());
    const second = await device.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry());
    assert.is.not(first, second);
    const flags = /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${first}`, 'utf8'))?.[1];
    assert.ok(Number.parseInt(flags!, 8) & 0o2000000);
    for (const fd of [first, second]) closeSync(fd);
    const reserved = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    const v2 = vduse.vduseIotlbEntryV2.encode({ start: 0n, last: LAST_IOVA, reserved });
    await fails(device.ioctl(vduse.VDUSE_IOTLB_GET_FD2, v2), 'EINVAL');
  });
});

test('a region can be asked for without its file; it is never a bounce buffer', async () => {
  const memory = new SharedMemory(8192);
  await scene(async ({ device, driver }) => {
    const info = vduse.vduseIovaInfo.encode({ start: 0n, last: LAST_IOVA });
    await fails(device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, info), 'EINVAL');
    const uaddr = memory.address;
    await driver.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, { iova: 4096n, size: 8192n, uaddr }));
    await device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, info);
    const { start, last, capability } = vduse.vduseIovaInfo.decode(info);
    assert.equal([start, last, capability], [4096n, 12287n, 0n]);
    const reserved = [0, 0, 0, 0, 1];
    await fails(
      device.ioctl(vduse.VDUSE_IOTLB_GET_INFO, vduse.vduseIovaInfo.encode({ last: LAST_IOVA, reserved })),
      'EINVAL',
    );
  });
});

test('memory for the bounce buffer is refused while there is no bounce buffer', async () => {
  await scene(async ({ device }) => {
    const umem = (reserved = 0) => vduse.vduseIovaUmem.encode({ reserved: [0, 0, 0, 0, reserved] });
    await fails(device.ioctl(vduse.VDUSE_IOTLB_REG_UMEM, umem()), 'EINVAL');
    await fails(device.ioctl(vduse.VDUSE_IOTLB_DEREG_UMEM, umem()), 'ENOENT');
    await fails(device.ioctl(vduse.VDUSE_IOTLB_DEREG_UMEM, umem(1)), 'EINVAL');
    await fails(device.ioctl(vduse.VDUSE_IOTLB_REG_UMEM, new Uint8Array(47)), 'EFAULT');
  });
});

test('a device that needs a reset says so in the status, with a config interrupt, until it is reset', async () => {
  const addon = loadAddon();
  const config = addon.eventfd();
  await scene(async ({ device, driver, responder }) => {
    assert.is(await device.needsReset(), true);
    assert.is(await getStatus(driver), 0);
    await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(config));
    await setStatus(driver, STATUS_FEATURES_OK);
    responder.answer = async () => {
      await device.needsReset();
      return {};
    };
    await setStatus(driver, STATUS_DRIVER_OK);
    assert.is(await getStatus(driver), STATUS_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert.is(addon.eventfdDrain(config), 1);
    responder.answer = () => ({});
    await setStatus(driver, 0);
    assert.is(await getStatus(driver), 0);
  });
  closeSync(config);
});

test('features are those that the driver wrote, whatever they are', async () => {
  await scene(async ({ device, driver }) => {
    await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(LAST_IOVA));
    const features = new Uint8Array(8);
    await device.ioctl(vduse.VDUSE_DEV_GET_FEATURES, features);
    assert.is(u64.decode(features), LAST_IOVA);
  });
});

test('an unknown ioctl is ENOTTY, a short argument EFAULT, a closed file EBADF', async () => {
  await scene(async ({ device }) => {
    await fails(device.ioctl(0x8008_81ff), 'ENOTTY', 'ioctl');
    await fails(device.ioctl(vduse.VDUSE_VQ_GET_INFO, new Uint8Array(47)), 'EFAULT');
    await fails(device.ioctl(vduse.VDUSE_DEV_GET_FEATURES), 'EFAULT');
    await device.close();
    await fails(device.ioctl(vduse.VDUSE_DEV_GET_FEATURES, new Uint8Array(8)), 'EBADF', 'ioctl');
    await fails(device.read(), 'EBADF', 'read');
    await fails(device.write(new Uint8Array(152)), 'EBADF', 'write');
    await fails(device.kickFd(0, -1), 'EBADF');
    await fails(device.callFd(0), 'EBADF');
    await fails(device.needsReset(), 'EBADF');
  });
});

test.run();
