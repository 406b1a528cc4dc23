import { ftruncateSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import type { Model } from '../../host/models/model.js';
import { serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import { VHOST_ACCESS_RW } from '../../host/uapi/vhost.js';
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_OUT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from '../../host/uapi/virtio.js';
import { imageFile, nextError, until, within } from './fixture.js';
import { DATA, HEADER, IOVA, QUEUE_SIZE, RawDriver, STATUS_BYTE } from './raw-driver.js';

/** A disk of ones whose reads wait until they are let go. */
class Held extends BlockModel {
  capacity = 2 ** 20;
  hold = true;
  readonly waiting: (() => void)[] = [];

  async read(_offset: number, into: Uint8Array): Promise<void> {
    into.fill(1);
    if (this.hold) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  /** Lets everything go, now and from now on. */
  release(): void {
    this.hold = false;
    for (const resolve of this.waiting.splice(0)) resolve();
  }
}

async function drive<M extends Model>(
  model: M,
  body: (driver: RawDriver, device: ServedDevice, model: M) => Promise<void>,
  sealed = true,
): Promise<void> {
  const bus = new Bus();
  const device = await within(serve(model, { name: 'disk0', bus }), 'serve');
  const driver = await RawDriver.open(bus, 'disk0', sealed);
  try {
    await driver.start();
    await body(driver, device, model);
  } finally {
    await driver.close();
    await within(device.close(), 'closing the device');
    await within(bus.close(), 'closing the bus');
  }
}

/** Offers a read of 512 bytes at sector 0, without waiting. */
function offerRead(driver: RawDriver): void {
  driver.describe([
    { addr: IOVA + BigInt(HEADER), len: 16 },
    { addr: IOVA + BigInt(DATA), len: 512, flags: VIRTQ_DESC_F_WRITE },
    { addr: IOVA + BigInt(STATUS_BYTE), len: 1, flags: VIRTQ_DESC_F_WRITE },
  ]);
  driver.offer(0);
}

test('a request that ends after a reset is dropped, even if the ring is in use again', async () => {
  await drive(new Held(), async (driver, device, model) => {
    offerRead(driver);
    await until(() => model.waiting.length === 1, 'the request');
    await driver.reset();
    await driver.start();
    model.release();
    // The next request goes through the same ring: what is dropped would show before it.
    assert.is(await driver.request(0, 1n, 512), VIRTIO_BLK_S_OK);
    assert.is(driver.used, 1);
    assert.is(device.stats().requests, 1);
  });
});

test('resets do not pile requests up on a model that is slow to end them', async () => {
  class Stuck extends BlockModel {
    capacity = 2 ** 20;
    readonly waiting: (() => void)[] = [];
    read() {}
    override write() {}
    override flush() {
      return new Promise<void>((resolve) => this.waiting.push(resolve));
    }
  }
  await drive(new Stuck(), async (driver, _device, model) => {
    // The device's largest queue has 256 entries, so that is what a sound driver can have in flight.
    const limit = 256;
    const heads = QUEUE_SIZE - 1;
    for (let round = 1; round <= 20; round++) {
      driver.data.setUint32(HEADER, VIRTIO_BLK_T_FLUSH, true);
      driver.describe(
        [{ addr: IOVA + BigInt(STATUS_BYTE), len: 1, flags: VIRTQ_DESC_F_WRITE }],
        QUEUE_SIZE - 1,
      );
      for (let head = 0; head < heads; head++) {
        const header = {
          addr: IOVA + BigInt(HEADER),
          len: 16,
          flags: VIRTQ_DESC_F_NEXT,
          next: QUEUE_SIZE - 1,
        };
        driver.describe([header], head);
        driver.offer(head);
      }
      await until(() => model.waiting.length >= Math.min(limit, round * heads), 'the flushes');
      await driver.reset();
      await driver.start();
    }
    assert.is(model.waiting.length, limit);
    const request = driver.request(0, 1n, 512);
    for (const resolve of model.waiting) resolve();
    assert.is(await request, VIRTIO_BLK_S_OK);
  });
});

test('a driver that did not accept FLUSH has what it writes flushed before its request ends', async () => {
  class Recorder extends BlockModel {
    capacity = 2 ** 20;
    readonly calls: string[] = [];
    read() {}
    override write() {
      this.calls.push('write');
    }
    override flush() {
      this.calls.push('flush');
    }
  }
  await drive(new Recorder(), async (driver, _device, model) => {
    assert.is(await driver.request(VIRTIO_BLK_T_OUT, 0n, 512), VIRTIO_BLK_S_OK);
    assert.equal(model.calls, ['write', 'flush']);
  });
});

test('a head that is made available again while in flight breaks the queue', async () => {
  await drive(new Held(), async (driver, device, model) => {
    offerRead(driver);
    await until(() => model.waiting.length === 1, 'the request');
    const error = nextError(device);
    driver.offer(0);
    assert.is((await error).code, 'ERR_RING_HEAD_IN_FLIGHT');
    model.release();
    await driver.reset();
    await driver.start();
    assert.is(await driver.request(0, 1n, 512), VIRTIO_BLK_S_OK);
  });
});

test('a request in flight over a change of mappings finds its memory again', async () => {
  await drive(new Held(), async (driver, _device, model) => {
    offerRead(driver);
    await until(() => model.waiting.length === 1, 'the request');
    await driver.map(VHOST_ACCESS_RW, 0x1000_0000n);
    model.release();
    await until(() => driver.used === 1, 'the request');
    assert.is(driver.data.getUint8(STATUS_BYTE), VIRTIO_BLK_S_OK);
    assert.equal(driver.memory.bytes.slice(DATA, DATA + 512), new Uint8Array(512).fill(1));
  });
});

test('a request whose memory is taken away breaks the device, and its end is no fault', async () => {
  await drive(new Held(), async (driver, device, model) => {
    offerRead(driver);
    await until(() => model.waiting.length === 1, 'the request');
    const error = nextError(device);
    await driver.unmap();
    assert.is((await error).code, 'ERR_RING_UNMAPPED');
    model.release();
    await driver.reset();
    await driver.start();
    assert.is(await driver.request(0, 1n, 512), VIRTIO_BLK_S_OK);
  });
});

test('memory that the driver truncates breaks a device that copies, until the reset', async () => {
  await drive(
    new BlockDevice({ memory: 2 ** 20 }),
    async (driver, device) => {
      assert.is(await driver.request(0, 1n, 512), VIRTIO_BLK_S_OK);
      const error = nextError(device);
      ftruncateSync(driver.memory.fd, DATA);
      offerRead(driver);
      assert.is((await error).code, 'ERR_MEMORY_LOST');
      ftruncateSync(driver.memory.fd, driver.memory.bytes.length);
      await driver.reset();
      await driver.start();
      assert.is(await driver.request(0, 1n, 512), VIRTIO_BLK_S_OK);
    },
    false,
  );
});

test('memory that the driver truncates is an I/O error where the kernel copies', async () => {
  const image = imageFile(65536);
  try {
    await drive(
      new BlockDevice({ file: image.path }),
      async (driver, device) => {
        const error = nextError(device);
        ftruncateSync(driver.memory.fd, DATA);
        assert.is(await driver.request(0, 0n, 512), VIRTIO_BLK_S_IOERR);
        assert.is((await error).code, 'ERR_IO');
      },
      false,
    );
  } finally {
    image.remove();
  }
});

test('types that nobody knows are UNSUPP, what lies outside is IOERR, on every model', async () => {
  for (const make of [
    () => new BlockDevice({ memory: 2 ** 20 }),
    () => Object.assign(new Held(), { hold: false }),
  ])
    await drive(make(), async (driver) => {
      assert.is(await driver.request(99, 0n, 512), 2);
      assert.is(await driver.request(0, 2048n, 512), VIRTIO_BLK_S_IOERR);
      assert.is(await driver.request(0, 2n ** 63n, 512), VIRTIO_BLK_S_IOERR);
      assert.is(await driver.request(0, 2047n, 1024), VIRTIO_BLK_S_IOERR);
      assert.is(await driver.request(0, 2047n, 512), VIRTIO_BLK_S_OK);
      assert.is(await driver.request(0, 0n, 100), VIRTIO_BLK_S_IOERR);
    });
});

test.run();
