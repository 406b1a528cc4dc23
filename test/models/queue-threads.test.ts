import { once } from 'node:events';
import { threadId } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import type { RingbellError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import * as vhost from '../../host/uapi/vhost.js';
import { VIRTQ_DESC_F_WRITE } from '../../host/uapi/virtio.js';
import { rejects, until, within } from './fixture.js';
import { DATA, IOVA, RawDriver } from './raw-driver.js';
import { ANSWER, CONFIG, CRASH, REJECT, THROW, UNSENDABLE } from './threaded-model.js';

const MODEL = new URL('threaded-model.js', import.meta.url);

interface Scene {
  device: ServedDevice;
  driver: RawDriver;
  errors: RingbellError[];
}

/** Serves the threaded model to a driver that runs. */
async function scene(options: Partial<ServeOptions>, body: (scene: Scene) => Promise<void>): Promise<void> {
  const bus = new Bus();
  const modelOptions = { greeting: 'hello' };
  const device = await within(serve(MODEL, { name: 'disk0', bus, modelOptions, ...options }), 'serve');
  const errors: RingbellError[] = [];
  device.on('error', (error) => errors.push(error));
  const driver = await RawDriver.open(bus);
  try {
    await driver.start();
    await body({ device, driver, errors });
  } finally {
    await driver.close();
    await within(device.close(), 'closing the device');
    await bus.close();
  }
}

/** Asks something of the model: what it writes. */
async function ask(driver: RawDriver, what: number): Promise<string> {
  driver.memory.bytes[DATA] = what;
  driver.describe([
    { addr: IOVA + BigInt(DATA), len: 1 },
    { addr: IOVA + BigInt(DATA + 1), len: 256, flags: VIRTQ_DESC_F_WRITE },
  ]);
  const index = driver.used;
  driver.offer(0);
  await until(() => driver.used === index + 1, 'a used buffer');
  const { len } = driver.usedEntry(index);
  return Buffer.from(driver.memory.bytes.slice(DATA + 1, DATA + 1 + len)).toString();
}

for (const threads of [0, 1, 2])
  test(`a model that is given by URL serves on ${threads} threads, driver after driver`, () =>
    scene({ threads, queues: 4 }, async ({ device, driver, errors }) => {
      const where = threads === 0 ? threadId : device.queueThreads[0]!.threadId;
      assert.is(device.queueThreads.length, threads);
      assert.is(await ask(driver, ANSWER), `hello from ${where} in life 1`);
      await driver.reset();
      await driver.start();
      assert.is(await ask(driver, ANSWER), `hello from ${where} in life 2`);
      assert.equal(errors, []);
    }));

test('queues that belong together share a thread', () =>
  scene({ threads: 8, queues: 4 }, async ({ device }) => {
    assert.is(device.queueThreads.length, 2);
  }));

for (const [what, message] of [
  [THROW, 'thrown in a thread'],
  [REJECT, 'rejected in a thread'],
  [UNSENDABLE, "() => 'no structured clone'"],
] as const)
  test(`an error in a queue thread is the device's: ${message}`, () =>
    scene({ threads: 1 }, async ({ device, driver, errors }) => {
      assert.is(await ask(driver, what), '');
      await until(() => errors.length > 0, 'an error event');
      assert.equal(
        [errors[0]!.code, errors[0]!.message],
        ['ERR_MODEL', `the model of disk0 failed: ${message}`],
      );
      assert.is(device.stats().ioErrors, 1);
      assert.match(await ask(driver, ANSWER), /^hello/);
    }));

test('a model that takes its thread down costs its own device a reset, and the next driver gets a new thread', () =>
  scene({ threads: 1 }, async ({ device, driver, errors }) => {
    const lost = once(device, 'error');
    void ask(driver, CRASH).catch(() => {});
    const [error] = await within(lost, 'an error event');
    assert.equal([error.code, error.cause.message], ['ERR_THREAD_LOST', 'the thread is done for']);
    await driver.reset();
    await driver.start();
    assert.match(await ask(driver, ANSWER), /^hello from \d+ in life 1$/);
    assert.is(errors.length, 1);
  }));

test('a model in a queue thread changes the config space, and its driver is told', () =>
  scene({ threads: 1 }, async ({ driver }) => {
    const read = async () => {
      const config = vhost.vhostVdpaConfig.encode({ off: 0, len: 1, buf: new Uint8Array(1) });
      await driver.file.ioctl(vhost.VHOST_VDPA_GET_CONFIG, config);
      return config.at(-1);
    };
    assert.is(await read(), 1);
    await ask(driver, CONFIG);
    assert.is(await read(), 2);
  }));

test('queue threads run on the CPUs that they are given', async () => {
  const allowed = loadAddon().affinity();
  const cpu = allowed.at(-1)!;
  await scene({ threads: 1, cpus: [cpu] }, async ({ driver }) => {
    assert.match(await ask(driver, ANSWER), /^hello/);
  });
  assert.equal(loadAddon().affinity(), allowed, 'this thread stays where it was');
  const bus = new Bus();
  for (const cpus of [[], [-1], [1023], 'x'])
    await rejects(serve(MODEL, { name: 'disk0', bus, cpus: cpus as number[] }), 'ERR_ARGUMENT', /CPU/);
});

test('what is no class of device models, or cannot be had, is refused', async () => {
  const bus = new Bus();
  const load = (name: string) => serve(new URL(name, import.meta.url), { name: 'disk0', bus, threads: 1 });
  await load('length-datapath.js').then(
    () => assert.unreachable(),
    (error) => assert.match(error.message, /default export/),
  );
  await load('no-such-model.js').then(
    () => assert.unreachable(),
    (error) => assert.is(error.code, 'ERR_MODULE_NOT_FOUND'),
  );
  assert.equal(await bus.list(), []);
});

test.run();
