import { closeSync, readSync } from 'node:fs';
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { RingbellError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import { s32, u8, u32, u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VIRTIO_CONFIG_S_NEEDS_RESET } from '../../host/uapi/virtio.js';
import {
  createDevice,
  deviceConfig,
  FEATURES,
  fails,
  getStatus,
  iotlbMessage,
  NAME,
  Responder,
  SharedMemory,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  scene,
  setStatus,
  vringState,
  within,
} from './fixture.js';

test('a driver and a device set up a queue with each other, from open to close', async () => {
  const addon = loadAddon();
  const memory = new SharedMemory(65536);
  memory.bytes.fill(0x5a);
  await scene(async ({ device, responder, driver }) => {
    const features = new Uint8Array(8);
    await driver.ioctl(vhost.VHOST_GET_FEATURES, features);
    assert.is(u64.decode(features), FEATURES);
    await setStatus(driver, 3);
    await driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES));
    await setStatus(driver, STATUS_FEATURES_OK);
    assert.is(await getStatus(driver), STATUS_FEATURES_OK);

    const iova = 0x7000_0000_0000n;
    await driver.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, { iova, size: 65536n, uaddr: memory.address }));
    const kick = addon.eventfd();
    const call = addon.eventfd();
    await driver.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(0, 128));
    const addr = { desc_user_addr: iova, avail_user_addr: iova + 4096n, used_user_addr: iova + 8192n };
    await driver.ioctl(vhost.VHOST_SET_VRING_ADDR, vhost.vhostVringAddr.encode({ index: 0, ...addr }));
    await driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(0, 7));
    await driver.ioctl(vhost.VHOST_SET_VRING_KICK, vhost.vhostVringFile.encode({ index: 0, fd: kick }));
    await driver.ioctl(vhost.VHOST_SET_VRING_CALL, vhost.vhostVringFile.encode({ index: 0, fd: call }));
    await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
    await setStatus(driver, STATUS_DRIVER_OK);
    assert.equal(
      responder.of(vduse.VDUSE_SET_STATUS).map((request) => request.s.status),
      [0, 3, STATUS_FEATURES_OK, STATUS_DRIVER_OK],
    );

    // The device's side of it.
    await device.ioctl(vduse.VDUSE_DEV_GET_FEATURES, features);
    assert.is(u64.decode(features), FEATURES);
    const info = vduse.vduseVqInfo.encode({ index: 0 });
    await device.ioctl(vduse.VDUSE_VQ_GET_INFO, info);
    const { num, desc_addr, driver_addr, device_addr, split, ready } = vduse.vduseVqInfo.decode(info);
    assert.equal([num, split.avail_index, ready], [128, 7, 1]);
    assert.equal([desc_addr, driver_addr, device_addr], [iova, iova + 4096n, iova + 8192n]);
    const entry = vduse.vduseIotlbEntry.encode({ start: driver_addr, last: driver_addr });
    const fd = await device.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry);
    const region = vduse.vduseIotlbEntry.decode(entry);
    assert.equal(region, { offset: 0n, start: iova, last: iova + 65535n, perm: vhost.VHOST_ACCESS_RW });
    const byte = new Uint8Array(1);
    assert.is(readSync(fd, byte, 0, 1, 65535), 1);
    assert.is(byte[0], 0x5a);
    closeSync(fd);

    // Notifications go straight from side to side.
    const own = addon.eventfd();
    const setup = vduse.vduseVqEventfd.encode({ index: 0, fd: own });
    await device.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, setup);
    const kickFd = await device.kickFd(0, own);
    addon.eventfdSignal(kick);
    assert.is(addon.eventfdDrain(kickFd), 1);
    addon.eventfdSignal(await device.callFd(0));
    assert.is(addon.eventfdDrain(call), 1);
    await device.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(0));
    assert.is(addon.eventfdDrain(call), 1);

    await driver.close();
    assert.is(responder.requests.at(-1)?.s.status, 0);
    for (const descriptor of [kick, call, own]) closeSync(descriptor);
  });
});

test('a device can only be attached once its queues are set up, and only once', async () => {
  await using bus = new Bus();
  await fails(bus.attach(NAME), 'EINVAL');
  const control = bus.control();
  await control.ioctl(vduse.VDUSE_CREATE_DEV, deviceConfig({ queues: 1 }));
  await fails(bus.attach(NAME), 'EINVAL');
  const file = await control.open(NAME);
  await file.ioctl(vduse.VDUSE_VQ_SETUP, vduse.vduseVqConfig.encode({ index: 0, max_size: 64 }));
  await bus.attach(NAME);
  await fails(bus.attach(NAME), 'EEXIST');
});

test('attach options of unknown kinds are refused by name', async () => {
  await using bus = new Bus();
  await createDevice(bus);
  for (const options of [{ parent: 'none' }, { doorbell: 'yes' }, { messageTimeout: -1 }]) {
    try {
      await bus.attach(NAME, options as never);
      assert.unreachable('accepted');
    } catch (error) {
      assert.instance(error, RingbellError);
      assert.is((error as RingbellError).code, 'ERR_ARGUMENT');
      assert.match((error as Error).message, Object.keys(options)[0]!);
    }
  }
  assert.is(bus.list()[0]?.attached, false);
});

test('opening for a driver is ENOENT off the bus, EBUSY while driven, and possible again after close', async () => {
  await scene(async ({ bus, driver }) => {
    await fails(bus.openVhostVdpa('nobody'), 'ENOENT', 'open');
    await fails(bus.openVhostVdpa(NAME), 'EBUSY', 'open');
    await driver.close();
    await driver.close();
    await fails(driver.ioctl(vhost.VHOST_SET_OWNER), 'EBADF', 'ioctl');
    await fails(driver.write(iotlbMessage(vhost.VHOST_IOTLB_BATCH_BEGIN)), 'EBADF', 'write');
    const again = await bus.openVhostVdpa(NAME);
    await again.ioctl(vhost.VHOST_SET_OWNER);
  });
  await using bus = new Bus();
  await createDevice(bus);
  await fails(bus.openVhostVdpa(NAME), 'ENOENT', 'open');
});

test('opening is EBUSY while another opening waits for the device', async () => {
  await scene(async ({ bus, driver, responder }) => {
    await driver.close();
    let confirm = () => {};
    responder.answer = () =>
      new Promise((resolve) => {
        confirm = () => resolve({});
      });
    const first = bus.openVhostVdpa(NAME);
    await new Promise(setImmediate);
    await fails(bus.openVhostVdpa(NAME), 'EBUSY');
    responder.answer = () => ({});
    confirm();
    await within(first, 'the first opening');
  });
});

test('opening and closing reset the device; a refused reset makes open EIO', async () => {
  await scene(async ({ bus, driver, responder }) => {
    await setStatus(driver, 1);
    const generation = bus.list()[0]?.generation;
    await driver.close();
    assert.is(bus.list()[0]?.status, 0);
    assert.is(bus.list()[0]?.generation, generation! + 1);
    responder.answer = () => ({ result: vduse.VDUSE_REQ_RESULT_FAILED });
    await fails(bus.openVhostVdpa(NAME), 'EIO');
    responder.answer = () => ({});
    await bus.openVhostVdpa(NAME);
  });
});

test('a driver whose device is detached sees NEEDS_RESET, a config interrupt and ENODEV', async () => {
  const addon = loadAddon();
  await scene(async ({ bus, control, device, driver, responder }) => {
    const config = addon.eventfd();
    await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(config));
    await setStatus(driver, STATUS_FEATURES_OK);
    await fails(control.ioctl(vduse.VDUSE_DESTROY_DEV, vduse.vduseName.encode(NAME)), 'EBUSY');
    await bus.detach(NAME);
    assert.is(addon.eventfdDrain(config), 1);
    assert.is(await getStatus(driver), STATUS_FEATURES_OK | VIRTIO_CONFIG_S_NEEDS_RESET);
    assert.is(responder.requests.at(-1)?.s.status, 0);
    await fails(driver.ioctl(vhost.VHOST_VDPA_SET_STATUS, u8.encode(0)), 'ENODEV', 'ioctl');
    await fails(bus.openVhostVdpa(NAME), 'ENOENT');
    await fails(bus.detach(NAME), 'EINVAL');
    await driver.close();
    await device.close();
    await control.ioctl(vduse.VDUSE_DESTROY_DEV, vduse.vduseName.encode(NAME));
    assert.equal(bus.list(), []);
    closeSync(config);
  });
});

test('detaching a device that nobody serves any more does not wait for the message timeout', async () => {
  await scene(async ({ bus, device, driver }) => {
    await device.close();
    await within(bus.detach(NAME), 'detaching');
    await within(driver.close(), 'closing');
  });
});

test('a device that nobody serves or drives is detached with no message, and can be used again', async () => {
  await using bus = new Bus();
  const { control, file } = await createDevice(bus);
  await bus.attach(NAME);
  await file.close();
  await bus.detach(NAME);
  assert.is(bus.list()[0]?.broken, false);
  const responder = new Responder(await control.open(NAME));
  await bus.attach(NAME);
  await within(bus.openVhostVdpa(NAME), 'opening');
  assert.is(responder.requests.length, 1);
});

test('a closed bus lets no control file create or open a device, nor one that was on its way', async () => {
  const bus = new Bus();
  const { control, file } = await createDevice(bus);
  await file.close();
  bus.faults.inject({ point: 'ioctl', device: 'control', request: vduse.VDUSE_CREATE_DEV, delay: 20 });
  bus.faults.inject({ point: 'open', delay: 20 });
  const creating = fails(
    control.ioctl(vduse.VDUSE_CREATE_DEV, deviceConfig({ name: 'b' })),
    'ENODEV',
    'ioctl',
  );
  const opening = fails(control.open(NAME), 'ENOENT', 'open');
  await bus.close();
  await creating;
  await opening;
  await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, deviceConfig({ name: 'c' })), 'ENODEV', 'ioctl');
  assert.equal(bus.list(), []);
});

test('every close of a bus waits until it is closed', async () => {
  await scene(async ({ bus, driver }) => {
    bus.faults.inject({ point: 'ioctl', request: vhost.VHOST_VDPA_GET_STATUS, delay: 30 });
    const status = getStatus(driver);
    void bus.close();
    await bus.close();
    assert.equal(bus.list(), []);
    await status;
  });
});

test('a closed bus opens nothing, and its default is replaced', async () => {
  const bus = Bus.default;
  assert.is(Bus.default, bus);
  const { file } = await createDevice(bus, { name: 'a' });
  assert.is(inspect(bus), 'Bus { a }');
  await bus.close();
  await bus.close();
  assert.is(inspect(bus), 'Bus { closed }');
  assert.throws(
    () => bus.control(),
    (error: unknown) => (error as RingbellError).code === 'ERR_CLOSED',
  );
  await fails(file.read(), 'EIO');
  assert.is.not(Bus.default, bus);
  await Bus.default.close();
});

test('a bus that closes while a device is being opened, or with its files open, ends all of it', async () => {
  const addon = loadAddon();
  const eventfd = addon.eventfd();
  await scene(async ({ bus, device, driver, responder }) => {
    const kick = vhost.vhostVringFile.encode({ index: 0, fd: eventfd });
    await driver.ioctl(vhost.VHOST_SET_VRING_KICK, kick);
    await device.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, vduse.vduseVqEventfd.encode({ index: 0, fd: eventfd }));
    await device.kickFd(0, eventfd);
    await driver.close();
    responder.answer = () => undefined;
    const opening = fails(bus.openVhostVdpa(NAME), 'EIO');
    await new Promise(setImmediate);
    await within(bus.close(), 'closing');
    await opening;
    await fails(device.kickFd(0, eventfd), 'EPERM');
    await fails(device.callFd(0), 'EPERM');
    await fails(device.needsReset(), 'EPERM');
    await device.close();
  });
  closeSync(eventfd);
});

test('the list says who uses each device', async () => {
  await scene(async ({ bus, driver }) => {
    await createDevice(bus, { name: 'b', queues: 1 });
    const [a, b] = bus.list();
    assert.equal(
      [a?.name, a?.queues, a?.deviceId, a?.attached, a?.served, a?.driven, a?.broken],
      [NAME, 2, 2, true, true, true, false],
    );
    assert.equal([b?.name, b?.attached, b?.served, b?.driven], ['b', false, true, false]);
    await driver.close();
    assert.is(bus.list()[0]?.driven, false);
  });
});

test('a bus gives back every descriptor that it opened', async () => {
  const { readdirSync } = await import('node:fs');
  const count = () => readdirSync('/proc/self/fd').length;
  const play = () =>
    scene(
      async ({ bus, device, driver }) => {
        const eventfd = loadAddon().eventfd();
        const file = vhost.vhostVringFile.encode({ index: 1, fd: eventfd });
        for (const request of [
          vhost.VHOST_SET_VRING_KICK,
          vhost.VHOST_SET_VRING_CALL,
          vhost.VHOST_SET_VRING_ERR,
        ])
          for (let time = 0; time < 2; time++) await driver.ioctl(request, file);
        await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(eventfd));
        await device.kickFd(1, eventfd);
        await device.callFd(1);
        closeSync(eventfd);
        // A thread of the device may be using the slots until it closes its file, whatever the bus does.
        await bus.close();
        assert.ok(count() > before, 'the slots are there');
        await device.close();
      },
      { doorbell: 'page-per-vq' },
    );
  let before = 0;
  await play();
  before = count();
  for (let round = 0; round < 5; round++) await play();
  assert.is(count(), before);
});

test.run();
