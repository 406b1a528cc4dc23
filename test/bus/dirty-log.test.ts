import { fstatSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { loadAddon } from '../../host/native/addon.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VDUSE_GET_LOG_FD, VDUSE_SET_LOG, vduseLog } from '../../host/vduse/log-extension.js';
import { fails, iotlbMessage, NAME, REFUSED, type Scene, SharedMemory, scene } from './fixture.js';

/** Plays `act` with a memory file of one page. */
async function withLog(act: (scene: Scene, fd: number) => Promise<void>): Promise<void> {
  const fd = loadAddon().memfd('log', 2 * PAGE_SIZE, true);
  try {
    await scene((scene) => act(scene, fd));
  } finally {
    loadAddon().close(fd);
  }
}

async function log({ device }: Scene): Promise<{ ino: number } & ReturnType<typeof vduseLog.decode>> {
  const argument = new Uint8Array(vduseLog.size);
  const fd = await device.ioctl(VDUSE_GET_LOG_FD, argument);
  const { ino } = fstatSync(fd);
  loadAddon().close(fd);
  return { ino, ...vduseLog.decode(argument) };
}

test('a device is told of a log, and gets its file, until it is told that there is none', async () => {
  await withLog(async (scene, fd) => {
    const { bus, device, responder } = scene;
    await fails(device.ioctl(VDUSE_GET_LOG_FD, new Uint8Array(vduseLog.size)), 'ENOENT');
    await bus.setLog(NAME, { fd, offset: BigInt(PAGE_SIZE), bytes: 100 });
    assert.is(responder.of(VDUSE_SET_LOG).length, 1);
    const { ino } = fstatSync(fd);
    assert.equal(await log(scene), { ino, offset: BigInt(PAGE_SIZE), bytes: 100n, asid: 0 });
    await bus.setLog(NAME, undefined);
    assert.is(responder.of(VDUSE_SET_LOG).length, 2);
    await fails(device.ioctl(VDUSE_GET_LOG_FD, new Uint8Array(vduseLog.size)), 'ENOENT');
  });
});

test('a log that the device refuses is not there, and the one before it is', async () => {
  await withLog(async (scene, fd) => {
    const { bus, responder } = scene;
    await bus.setLog(NAME, { fd, offset: 0n, bytes: 100 });
    responder.answer = () => REFUSED;
    await fails(bus.setLog(NAME, { fd, offset: 0n, bytes: 200 }), 'EIO');
    assert.is((await log(scene)).bytes, 100n);
  });
});

test('a log that cannot be one is refused before the device hears of it', async () => {
  await withLog(async ({ bus, responder }, fd) => {
    await fails(bus.setLog(NAME, { fd, offset: 0n, bytes: 0 }), 'EINVAL');
    await fails(bus.setLog(NAME, { fd, offset: 8n, bytes: 100 }), 'EINVAL');
    await fails(bus.setLog(NAME, { fd, offset: 0n, bytes: 100, asid: 1 }), 'EINVAL');
    await fails(bus.setLog('nobody', { fd, offset: 0n, bytes: 100 }), 'EINVAL');
    assert.equal(responder.of(VDUSE_SET_LOG), []);
  });
});

test('a log has a bit for every mapping: EFAULT', async () => {
  await withLog(async ({ bus, driver }, fd) => {
    const memory = new SharedMemory(PAGE_SIZE);
    // Page 16, whose bit is the first of byte 2.
    const update = { iova: 0x10000n, size: BigInt(PAGE_SIZE), uaddr: memory.address };
    await driver.write(iotlbMessage(vhost.VHOST_IOTLB_UPDATE, update));
    await fails(bus.setLog(NAME, { fd, offset: 0n, bytes: 2 }), 'EFAULT');
    await bus.setLog(NAME, { fd, offset: 0n, bytes: 3 });
    loadAddon().close(memory.fd);
  });
});

test.run();
