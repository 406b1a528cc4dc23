import { once } from 'node:events';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import type { AttachedModel, Model } from '../../host/models/model.js';
import { serve } from '../../host/serve.js';
import { mask } from '../../host/uapi/bits.js';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1, VIRTIO_ID_FS } from '../../host/uapi/virtio.js';
import { until, within } from './fixture.js';
import { DATA, IOVA, RawDriver } from './raw-driver.js';

/** A model whose data path is the module `name` beside this test, run by queue threads. */
function modelOf(name: string, data: unknown): Model {
  const attached: AttachedModel = {
    features: mask(VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM),
    memoryLossIsFinal: false,
    volatile: true,
    usesInOrder: true,
    countsIoErrors: false,
    queueGroup: 1,
    config: () => new Uint8Array(8),
    threadDatapath: () => ({ module: new URL(name, import.meta.url).href, data }),
    loopDatapath: () => {
      throw new Error('the threads run it');
    },
    close() {},
  };
  return { deviceId: VIRTIO_ID_FS, attach: () => attached };
}

test('a queue thread runs the data path of the module that a model names, with its data', async () => {
  const bus = new Bus();
  const model = modelOf('length-datapath.js', { length: 7 });
  const device = await within(serve(model, { name: 'disk0', bus, threads: 1 }), 'serve');
  const driver = await RawDriver.open(bus);
  try {
    await driver.start();
    driver.describe([{ addr: IOVA + BigInt(DATA), len: 64, flags: 2 }]);
    driver.offer(0);
    await until(() => driver.used === 1, 'a used buffer');
    assert.equal(driver.usedEntry(0), { id: 0, len: 7 });
    assert.is(device.queueThreads.length, 1);
    assert.is(device.stats().requests, 1);
  } finally {
    await driver.close();
    await within(device.close(), 'closing the device');
    await bus.close();
  }
});

test('a data path that cannot be made costs its thread, and the device says why', async () => {
  const bus = new Bus();
  const model = modelOf('no-such-datapath.js', {});
  const device = await within(serve(model, { name: 'disk0', bus, threads: 1 }), 'serve').catch(
    (error) => error,
  );
  const error = device.code ? device : (await within(once(device, 'error'), 'an error'))[0];
  assert.is(error.code, 'ERR_THREAD_LOST');
  assert.match(error.cause.message, /no-such-datapath/);
  if (!device.code) await within(device.close(), 'closing the device');
  await bus.close();
});

test.run();
