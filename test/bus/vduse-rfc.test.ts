/**
 * The messages and ioctls of VDUSE's RFC ("[RFC v3 08/11] vduse: Introduce VDUSE - vDPA Device in Userspace", 19 January 2021),
 * under the names that they had there: what a driver does, and how the device comes to know of it today.
 */
import { closeSync, readdirSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../host/native/addon.js';
import { s32, u32, u64 } from '../../host/uapi/codec.js';
import * as vduse from '../../host/uapi/vduse.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VIRTIO_CONFIG_S_ACKNOWLEDGE } from '../../host/uapi/virtio.js';
import {
  askQueue,
  deviceConfig,
  FEATURES,
  fails,
  get,
  getStatus,
  iotlbMessage,
  LAST_IOVA,
  mask,
  NAME,
  REFUSED,
  type Scene,
  SharedMemory,
  STATUS_DRIVER_OK,
  STATUS_FEATURES_OK,
  scene,
  setStatus,
  vqInfo,
  vringFile,
  vringState,
} from './fixture.js';

const host = fileURLToPath(new URL('../../../host/', import.meta.url));

/** Asserts that `act` sends the device no message. */
async function silently({ responder }: Scene, act: () => Promise<unknown>): Promise<void> {
  const before = responder.requests.length;
  await act();
  assert.is(responder.requests.length, before, 'the device got a message');
}

/** What the driver writes into, or reads from, the first bytes of the config space. */
const configArgument = (bytes: readonly number[]) =>
  vhost.vhostVdpaConfig.encode({ off: 0, len: bytes.length, buf: Uint8Array.from(bytes) });

test('VDUSE_SET_VQ_ADDR: the device asks for the addresses by VDUSE_VQ_GET_INFO', () =>
  scene(async (stage) => {
    const addresses = { desc_user_addr: 0x1000n, avail_user_addr: 0x2000n, used_user_addr: 0x3000n };
    await silently(stage, () =>
      stage.driver.ioctl(vhost.VHOST_SET_VRING_ADDR, vhost.vhostVringAddr.encode({ index: 1, ...addresses })),
    );
    const { desc_addr, driver_addr, device_addr } = await vqInfo(stage.device, 1);
    assert.equal([desc_addr, driver_addr, device_addr], [0x1000n, 0x2000n, 0x3000n]);
    assert.is((await vqInfo(stage.device, 0)).desc_addr, 0n);
  }));

test('VDUSE_SET_VQ_NUM: the device asks for the size by VDUSE_VQ_GET_INFO', () =>
  scene(async (stage) => {
    await silently(stage, () => stage.driver.ioctl(vhost.VHOST_SET_VRING_NUM, vringState(1, 64)));
    assert.is((await vqInfo(stage.device, 1)).num, 64);
  }));

test('VDUSE_SET_VQ_READY: the device asks by VDUSE_VQ_GET_INFO', () =>
  scene(async (stage) => {
    assert.is((await vqInfo(stage.device, 1)).ready, 0);
    await silently(stage, () => stage.driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(1, 1)));
    assert.is((await vqInfo(stage.device, 1)).ready, 1);
  }));

test('VDUSE_SET_VQ_READY: a device that opted in gets a message of that name again', () =>
  scene(
    async ({ driver, responder }) => {
      await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(1, 1));
      assert.equal(
        responder.of(vduse.VDUSE_SET_VQ_READY).map(({ vq_ready }) => vq_ready),
        [{ num: 1, ready: 1 }],
      );
    },
    { vduseFeatures: mask(vduse.VDUSE_F_QUEUE_READY) },
  ));

test('VDUSE_GET_VQ_READY: the device is not asked, whoever wants to know', () =>
  scene(async (stage) => {
    await stage.driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
    await silently(stage, async () => {
      assert.equal([(await vqInfo(stage.device, 0)).ready, (await vqInfo(stage.device, 1)).ready], [1, 0]);
    });
  }));

test('VDUSE_SET_VQ_STATE: the device asks for the index by VDUSE_VQ_GET_INFO', () =>
  scene(async (stage) => {
    await silently(stage, () => stage.driver.ioctl(vhost.VHOST_SET_VRING_BASE, vringState(1, 0x1234)));
    assert.is((await vqInfo(stage.device, 1)).split.avail_index, 0x1234);
  }));

test('VDUSE_GET_VQ_STATE: the device is asked by a message of that name', () =>
  scene(async ({ driver, responder }) => {
    responder.answer = ({ vq_state: { index } }) => ({ vq_state: { index, split: { avail_index: 77 } } });
    assert.is(await askQueue(driver, vhost.VHOST_GET_VRING_BASE, 1), 77);
    assert.equal(
      responder.of(vduse.VDUSE_GET_VQ_STATE).map(({ vq_state }) => vq_state.index),
      [1],
    );
  }));

test('VDUSE_SET_FEATURES: the device asks by VDUSE_DEV_GET_FEATURES and judges at FEATURES_OK', () =>
  scene(async (stage) => {
    const { driver, device, responder } = stage;
    await setStatus(driver, VIRTIO_CONFIG_S_ACKNOWLEDGE);
    await silently(stage, () => driver.ioctl(vhost.VHOST_SET_FEATURES, u64.encode(FEATURES)));
    assert.is(await get(device, vduse.VDUSE_DEV_GET_FEATURES, u64), FEATURES);
    responder.answer = () => REFUSED;
    await setStatus(driver, STATUS_FEATURES_OK);
    assert.is(await getStatus(driver), VIRTIO_CONFIG_S_ACKNOWLEDGE);
  }));

test('VDUSE_GET_FEATURES: the device has said them once, to VDUSE_CREATE_DEV', () =>
  scene(async (stage) => {
    await silently(stage, async () => {
      assert.is(await get(stage.driver, vhost.VHOST_GET_FEATURES, u64), FEATURES);
    });
    // The name is now that of an ioctl of the control device: what the transport can do.
    assert.is(
      await get(stage.control, vduse.VDUSE_GET_FEATURES, u64),
      mask(vduse.VDUSE_F_QUEUE_READY, vduse.VDUSE_F_SUSPEND),
    );
  }));

test('VDUSE_SET_STATUS: the device gets a message of that name, and can refuse', () =>
  scene(async ({ driver, responder }) => {
    const before = responder.of(vduse.VDUSE_SET_STATUS).length;
    await setStatus(driver, STATUS_FEATURES_OK);
    responder.answer = () => REFUSED;
    await setStatus(driver, STATUS_DRIVER_OK);
    assert.equal(
      responder
        .of(vduse.VDUSE_SET_STATUS)
        .slice(before)
        .map(({ s }) => s.status),
      [STATUS_FEATURES_OK, STATUS_DRIVER_OK],
    );
    assert.is(await getStatus(driver), STATUS_FEATURES_OK);
  }));

test('VDUSE_GET_STATUS: the device is not asked', () =>
  scene(async (stage) => {
    await setStatus(stage.driver, STATUS_FEATURES_OK);
    await silently(stage, async () => assert.is(await getStatus(stage.driver), STATUS_FEATURES_OK));
  }));

test('VDUSE_SET_CONFIG: the driver’s write vanishes', () =>
  scene(async (stage) => {
    await silently(stage, () =>
      stage.driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG, configArgument([9, 9, 9, 9])),
    );
    const read = configArgument([7, 7, 7, 7]);
    await stage.driver.ioctl(vhost.VHOST_VDPA_GET_CONFIG, read);
    assert.equal([...vhost.vhostVdpaConfig.get(read, 'buf')], [0, 0, 0, 0]);
  }));

test('VDUSE_GET_CONFIG: the device has written it before, by VDUSE_DEV_SET_CONFIG, and interrupts when it changes', () =>
  scene(async (stage) => {
    const { driver, device } = stage;
    const addon = loadAddon();
    const config = addon.eventfd();
    await driver.ioctl(vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(config));
    await setStatus(driver, STATUS_DRIVER_OK);
    const buffer = Uint8Array.of(1, 2, 3, 4);
    await device.ioctl(
      vduse.VDUSE_DEV_SET_CONFIG,
      vduse.vduseConfigData.encode({ offset: 0, length: 4, buffer }),
    );
    await device.ioctl(vduse.VDUSE_DEV_INJECT_CONFIG_IRQ);
    assert.is(addon.eventfdDrain(config), 1);
    const read = configArgument([0, 0, 0, 0]);
    await silently(stage, () => driver.ioctl(vhost.VHOST_VDPA_GET_CONFIG, read));
    assert.equal(vhost.vhostVdpaConfig.get(read, 'buf'), buffer);
    closeSync(config);
  }));

test('VDUSE_UPDATE_IOTLB: the device gets a message of that name, with the new mapping in place', () => {
  const memory = new SharedMemory(4096);
  return scene(async ({ driver, device, responder }) => {
    const found: bigint[] = [];
    responder.answer = async ({ type, iova }) => {
      if (type !== vduse.VDUSE_UPDATE_IOTLB) return {};
      assert.equal(iova, { start: 0n, last: LAST_IOVA });
      const entry = vduse.vduseIotlbEntry.encode({ start: 0n, last: LAST_IOVA });
      closeSync(await device.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry));
      found.push(vduse.vduseIotlbEntry.decode(entry).start);
      return {};
    };
    const region = { iova: 0x5000n, size: 4096n, uaddr: memory.address };
    await driver.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, region));
    assert.equal(found, [0x5000n]);
  });
});

test('VDUSE_IOTLB_GET_FD: the file of a region, with its offset and its permission', () => {
  const memory = new SharedMemory(8192);
  memory.bytes.fill(5, 4096);
  return scene(async ({ driver, device }) => {
    const uaddr = memory.address + 4096n;
    const region = { iova: 0x5000n, size: 4096n, uaddr, perm: vhost.VHOST_ACCESS_RO };
    await driver.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, region));
    const entry = vduse.vduseIotlbEntry.encode({ start: 0x5000n, last: 0x5000n });
    const fd = await device.ioctl(vduse.VDUSE_IOTLB_GET_FD, entry);
    const { offset, start, last, perm } = vduse.vduseIotlbEntry.decode(entry);
    assert.equal([offset, start, last, perm], [4096n, 0x5000n, 0x5fffn, vduse.VDUSE_ACCESS_RO]);
    const byte = new Uint8Array(1);
    readSync(fd, byte, 0, 1, Number(offset));
    assert.is(byte[0], 5);
    closeSync(fd);
  });
});

test('VDUSE_VQ_SETUP_KICKFD: the driver’s kicks reach the device', async () => {
  const addon = loadAddon();
  const [kick, own] = [addon.eventfd(), addon.eventfd()];
  await scene(async ({ driver, device }) => {
    await driver.ioctl(vhost.VHOST_SET_VRING_KICK, vringFile(0, kick));
    await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
    await device.ioctl(vduse.VDUSE_VQ_SETUP_KICKFD, vduse.vduseVqEventfd.encode({ index: 0, fd: own }));
    const shown = await device.kickFd(0, own);
    addon.eventfdSignal(kick);
    assert.is(addon.eventfdDrain(shown), 1);
  });
  for (const fd of [kick, own]) closeSync(fd);
});

test('VDUSE_VQ_SETUP_IRQFD: an ioctl interrupts, VDUSE_VQ_INJECT_IRQ; on the bus an eventfd does, too', async () => {
  const addon = loadAddon();
  const call = addon.eventfd();
  await scene(async ({ driver, device }) => {
    await driver.ioctl(vhost.VHOST_SET_VRING_CALL, vringFile(0, call));
    await driver.ioctl(vhost.VHOST_VDPA_SET_VRING_ENABLE, vringState(0, 1));
    await setStatus(driver, STATUS_DRIVER_OK);
    addon.eventfdDrain(call);
    await device.ioctl(vduse.VDUSE_VQ_INJECT_IRQ, u32.encode(0));
    assert.is(addon.eventfdDrain(call), 1);
    addon.eventfdSignal(await device.callFd(0));
    assert.is(addon.eventfdDrain(call), 1);
  });
  closeSync(call);
});

test('VDUSE_CREATE_DEV: no descriptor, but a device to be opened by its name, by one at a time', () =>
  scene(async ({ control }) => {
    const other = 'other';
    assert.is(await control.ioctl(vduse.VDUSE_CREATE_DEV, deviceConfig({ name: other })), 0);
    const file = await control.open(other);
    await fails(control.open(other), 'EBUSY', 'open');
    await fails(control.ioctl(vduse.VDUSE_CREATE_DEV, deviceConfig({ name: NAME })), 'EEXIST');
    await file.close();
  }));

test('both names stand where the code does what the RFC proposed', () => {
  const bus = readdirSync(join(host, 'bus'))
    .map((file) => readFileSync(join(host, 'bus', file), 'utf8'))
    .join('\n');
  const names =
    'SET_VQ_ADDR SET_VQ_NUM SET_VQ_READY GET_VQ_READY SET_VQ_STATE GET_VQ_STATE SET_FEATURES GET_FEATURES SET_STATUS ' +
    'GET_STATUS SET_CONFIG GET_CONFIG UPDATE_IOTLB IOTLB_GET_FD VQ_SETUP_KICKFD VQ_SETUP_IRQFD CREATE_DEV';
  for (const name of names.split(' ')) assert.match(bus, new RegExp(`\\* .*VDUSE_${name}\\b`), name);
});

test.run();
