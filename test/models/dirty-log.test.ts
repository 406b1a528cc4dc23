import { ftruncateSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { Bus } from '../../host/bus/index.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import type { Model } from '../../host/models/model.js';
import { loadAddon } from '../../host/native/addon.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import { VIRTIO_BLK_S_OK, VIRTIO_CONFIG_S_DRIVER_OK } from '../../host/uapi/virtio.js';
import { compare, fetchPages, migrate, USED_PAGE } from './dirty-traffic.js';
import { driverLog } from './driver-log.js';
import { imageFile, nextError, rejects, scene, within } from './fixture.js';
import { DATA, IOVA, MEMORY_BYTES, RawDriver, STATUS_BYTE } from './raw-driver.js';

const CAPACITY = 2 ** 20;

/** A disk whose handlers take their time. */
class Slow extends BlockModel {
  capacity = CAPACITY;
  readonly #bytes = Buffer.alloc(CAPACITY, 'ringbell');
  async read(offset: number, into: Uint8Array) {
    await null;
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }
  override async write(offset: number, data: Uint8Array) {
    this.#bytes.set(data, offset);
  }
  override async flush() {}
  override async discard() {}
}

interface Setting {
  bus: Bus;
  device: ServedDevice;
  driver: RawDriver;
}

/** A device with a driver that writes its ring by hand. */
async function setting(
  model: Model,
  options: Partial<ServeOptions>,
  body: (setting: Setting) => Promise<void>,
): Promise<void> {
  const bus = new Bus();
  const device = await within(serve(model, { name: 'disk0', bus, ...options }), 'serve');
  const driver = await RawDriver.open(bus);
  try {
    await body({ bus, device, driver });
  } finally {
    await driver.close();
    await within(device.close(), 'closing the device');
    await within(bus.close(), 'closing the bus');
  }
}

const image = imageFile(CAPACITY);

const MODELS: [string, () => Model, Partial<ServeOptions>][] = [
  ['a disk in memory on a queue thread', () => new BlockDevice({ memory: CAPACITY }), {}],
  ['a disk in memory, polling', () => new BlockDevice({ memory: CAPACITY }), { mode: 'poll' }],
  ['a disk in memory on the event loop', () => new BlockDevice({ memory: CAPACITY }), { threads: 0 }],
  ['a disk in a file', () => new BlockDevice({ file: image.path }), {}],
  ['a disk in a mapped file', () => new BlockDevice({ file: image.path, mapped: true }), {}],
  ['a disk in JavaScript', () => new Slow(), {}],
];

for (const [name, model, options] of MODELS) {
  test(`what is dirty is what the device has written, compared with the memory itself: ${name}`, async () => {
    await setting(model(), options, async ({ device, driver }) => {
      assert.ok((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
      await device.dirtyLog.start();
      await compare(driver, device.dirtyLog, CAPACITY, 20);
    });
  });

  test(`what is dirty is moved while requests go on, and nothing is lost: ${name}`, async () => {
    await setting(model(), options, async ({ device, driver }) => {
      await driver.start();
      await device.dirtyLog.start();
      await migrate(driver, () => fetchPages(device.dirtyLog), CAPACITY, 100);
    });
  });
}

test('nothing is dirty before the start, after a fetch, or after a start anew', async () => {
  await setting(new BlockDevice({ memory: CAPACITY }), {}, async ({ device, driver }) => {
    const { dirtyLog } = device;
    await driver.start();
    assert.ok(await driver.works());
    await rejects(dirtyLog.fetch(), 'ERR_CLOSED');
    await dirtyLog.start();
    const only = async () => (await fetchPages(dirtyLog)).filter((page) => page !== USED_PAGE);
    assert.equal(await only(), []);
    assert.ok(await driver.works());
    const pages = [STATUS_BYTE / PAGE_SIZE, DATA / PAGE_SIZE].map(Math.floor);
    assert.equal(await only(), pages);
    assert.equal(await only(), []);
    assert.ok(await driver.works());
    await dirtyLog.start();
    assert.equal(await only(), []);
    assert.ok(await driver.works());
    await dirtyLog.stop();
    assert.not.ok(dirtyLog.started);
    await rejects(dirtyLog.fetch(), 'ERR_CLOSED');
    await dirtyLog.start();
    assert.equal(await only(), []);
  });
});

test('what was written to memory that is gone stays dirty, until it is fetched', async () => {
  await setting(new BlockDevice({ memory: CAPACITY }), {}, async ({ device, driver }) => {
    await driver.start();
    await device.dirtyLog.start();
    assert.ok(await driver.works());
    await driver.reset();
    assert.ok((await driver.start()) & VIRTIO_CONFIG_S_DRIVER_OK);
    const read = [Math.floor(STATUS_BYTE / PAGE_SIZE), DATA / PAGE_SIZE];
    assert.equal(await fetchPages(device.dirtyLog), [USED_PAGE, ...read]);
    assert.ok(await driver.works());
    const again = await fetchPages(device.dirtyLog);
    assert.equal(
      again.filter((page) => page !== USED_PAGE),
      read,
      'tracking goes on after a reset',
    );
  });
});

test('each address space has its own pages', async () => {
  const options = { queues: 2, groups: 2 };
  await setting(new BlockDevice({ memory: CAPACITY }), options, async ({ device, driver }) => {
    await device.dirtyLog.start();
    await driver.moveTo(1);
    await driver.start();
    assert.ok(await driver.works());
    const pages = await fetchPages(device.dirtyLog, 1);
    assert.ok(pages.includes(DATA / PAGE_SIZE));
  });
});

test('a device that is closed has no dirty log', async () => {
  const bus = new Bus();
  const device = await serve(new BlockDevice({ memory: CAPACITY }), { name: 'disk0', bus });
  await device.dirtyLog.start();
  const asked = device.dirtyLog.fetch();
  await device.close();
  assert.equal(await asked, []);
  await rejects(device.dirtyLog.fetch(), 'ERR_CLOSED');
  await rejects(device.dirtyLog.start(), 'ERR_CLOSED');
  await bus.close();
});

for (const [name, model, { mode, threads }] of MODELS)
  test(`the log that a driver hands in has the pages that the device’s own has: ${name}`, async () => {
    const log = driverLog();
    const options = { ...(mode && { mode }), ...(threads !== undefined && { threads }) };
    await scene(model(), options, async ({ bus, device, disk }) => {
      const buffer = disk.alloc(64 * 1024);
      await disk.read(0, buffer);
      await bus.setLog('disk0', log.memory);
      await device.dirtyLog.start();
      // The queue may be looking at its ring just now.
      log.fetch();
      await device.dirtyLog.fetch();
      for (let i = 0; i < 20; i++) {
        await disk.read(i * 4096, buffer.subarray(0, 4096 * (1 + (i % 16))));
        await disk.write(0, buffer.subarray(0, 512));
      }
      await bus.setLog('disk0', undefined);
      const marked = log.fetch();
      assert.ok(marked.length >= 16);
      const own = (await device.dirtyLog.fetch()).flatMap(({ iova, pages }) =>
        Array.from({ length: pages }, (_, i) => Number(iova) / PAGE_SIZE + i),
      );
      assert.equal(own, marked);
      await disk.read(0, buffer);
      assert.equal(log.fetch(), [], 'nothing is marked once it is taken back');
    });
    log.close();
  });

test('a log that replaces another one takes over, and a driver’s reset ends neither', async () => {
  const [first, second] = [driverLog(), driverLog()];
  await scene(new BlockDevice({ memory: CAPACITY }), {}, async ({ bus, disk }) => {
    await bus.setLog('disk0', first.memory);
    await disk.read(0, 4096);
    await bus.setLog('disk0', second.memory);
    assert.ok(first.fetch().length > 0);
    await disk.read(0, 4096);
    assert.equal(first.fetch(), []);
    assert.ok(second.fetch().length > 0);
  });
  for (const log of [first, second]) log.close();
});

test('a log that does not reach the driver’s memory is refused, and the device goes on', async () => {
  await setting(new BlockDevice({ memory: CAPACITY }), {}, async ({ bus, driver }) => {
    const log = driverLog();
    await driver.start();
    let code: unknown;
    await bus.setLog('disk0', log.memory).catch((error) => {
      ({ code } = error);
    });
    assert.is(code, 'EFAULT');
    assert.is(await driver.request(0, 0n, 512), VIRTIO_BLK_S_OK);
    assert.ok(IOVA + BigInt(MEMORY_BYTES) > 2n ** 33n);
    log.close();
  });
});

test('a log that its owner cuts short breaks the device, and no more', async () => {
  const fd = loadAddon().memfd('log', 2 ** 18, false);
  await scene(new BlockDevice({ memory: CAPACITY }), {}, async ({ bus, device, disk }) => {
    await bus.setLog('disk0', { fd, offset: 0n, bytes: 2 ** 18 });
    ftruncateSync(fd, 0);
    const error = nextError(device);
    await disk.read(0, 4096).catch(() => {});
    assert.is((await error).code, 'ERR_MEMORY_LOST');
  });
  loadAddon().close(fd);
});

test.after(() => image.remove());
test.run();
