import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import type { RingbellError } from '../../host/errors.js';
import type { Chain } from '../../host/models/chain.js';
import { DeviceModel } from '../../host/models/device-model.js';
import type { Manifest } from '../../host/models/manifest.js';
import type { Life } from '../../host/models/model-host.js';
import type { ModelQueue } from '../../host/models/model-queue.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import { VIRTIO_ID_RNG, VIRTQ_DESC_F_WRITE } from '../../host/uapi/virtio.js';
import { nextError, rejects, until, within } from './fixture.js';
import { DATA, IOVA, RawDriver } from './raw-driver.js';

/** A device that does with its chains what a test tells it. */
class Probe extends DeviceModel {
  override readonly manifest: Manifest = { deviceId: VIRTIO_ID_RNG, queueSize: 1 };
  override readonly errorStatus = 0xee;
  readonly seen: string[] = [];
  lives: Life[] = [];
  answer: (chains: readonly Chain[], queue: ModelQueue) => void | Promise<void> = () => {};

  override handle(chains: readonly Chain[], queue: ModelQueue) {
    this.seen.push(`${chains.length} chain(s)`);
    return this.answer(chains, queue);
  }

  override negotiated(life: Life) {
    this.lives.push(life);
    this.seen.push('negotiated');
  }

  override started() {
    this.seen.push('started');
  }

  override reset() {
    this.seen.push('reset');
  }

  override closed() {
    this.seen.push('closed');
  }
}

interface Scene {
  model: Probe;
  device: ServedDevice;
  driver: RawDriver;
  errors: RingbellError[];
}

/** Serves a model to a driver that runs. */
async function scene(
  model: Probe,
  body: (scene: Scene) => Promise<void>,
  options: Partial<ServeOptions> = {},
): Promise<void> {
  const bus = new Bus();
  const device = await within(serve(model, { name: 'disk0', bus, ...options }), 'serve');
  const errors: RingbellError[] = [];
  device.on('error', (error) => errors.push(error));
  const driver = await RawDriver.open(bus);
  try {
    await driver.start();
    await body({ model, device, driver, errors });
  } finally {
    await driver.close();
    await within(device.close(), 'closing the device');
    await bus.close();
  }
}

/** Offers a chain of `readable` bytes, numbered, and `writable` bytes, all 0x77: how its used entry will be found. */
function offer(driver: RawDriver, readable: number, writable: number, head = 0): () => Promise<number> {
  const { bytes } = driver.memory;
  for (let i = 0; i < readable; i++) bytes[DATA + i] = i;
  bytes.fill(0x77, DATA + readable, DATA + readable + writable);
  const at = IOVA + BigInt(DATA);
  // In pieces, of which the model sees nothing.
  const pieces = [
    { addr: at, len: Math.min(readable, 3) },
    { addr: at + 3n, len: Math.max(readable - 3, 0) },
    { addr: at + BigInt(readable), len: Math.max(writable - 1, 0), flags: VIRTQ_DESC_F_WRITE },
    { addr: at + BigInt(readable + writable - 1), len: Math.min(writable, 1), flags: VIRTQ_DESC_F_WRITE },
  ].filter(({ len }) => len > 0);
  driver.describe(pieces, head);
  const index = driver.used;
  driver.offer(head);
  return async () => {
    await until(() => driver.used === index + 1, 'a used buffer');
    return driver.usedEntry(index).len;
  };
}

/** The writable bytes of the chain that `offer` has made. */
const written = ({ memory }: RawDriver, readable: number, writable: number) =>
  memory.bytes.slice(DATA + readable, DATA + readable + writable);

for (const readable of [10, 5000])
  test(`a chain shows its ${readable} readable bytes in one piece, and what is written goes back`, () =>
    scene(new Probe(), async ({ model, driver, errors }) => {
      model.answer = ([chain]) => {
        assert.equal([chain!.readableBytes, chain!.writableBytes], [readable, 8]);
        assert.equal(
          [...chain!.readable],
          Array.from({ length: readable }, (_, i) => i & 0xff),
        );
        assert.equal([...chain!.read(2, 4)], [2, 3, 4, 5]);
        assert.equal(
          [chain!.getUint8(1), chain!.getUint16(1), chain!.getUint32(1), chain!.getBigUint64(1)],
          [1, 0x0201, 0x04030201, 0x0807060504030201n],
        );
        assert.throws(() => chain!.getUint16(readable - 1), /chain with/);
        assert.throws(() => chain!.read(readable - 1, 2), /chain with/);
        assert.throws(() => chain!.write(7, Uint8Array.of(1, 2)), /room for 8/);
        assert.equal([...chain!.writable], new Array(8).fill(0));
        chain!.writable[0] = 1;
        chain!.write(1, Uint8Array.of(2, 3, 4));
        assert.is(chain!.complete(3, 9), true);
        assert.throws(
          () => chain!.readable,
          (error: RingbellError) => error.code === 'ERR_CHAIN_ENDED',
        );
      };
      const used = offer(driver, readable, 8);
      assert.is(await used(), 4);
      // Three bytes and the status, which is the last one.
      assert.equal([...written(driver, readable, 8)], [1, 2, 3, 0x77, 0x77, 0x77, 0x77, 9]);
      assert.equal(errors, []);
    }));

test('a handler that throws fails the chains that it has not ended, with the error status', () =>
  scene(new Probe(), async ({ model, device, driver, errors }) => {
    model.answer = () => {
      throw new Error('no');
    };
    const used = offer(driver, 4, 8);
    assert.is(await used(), 1);
    assert.is(written(driver, 4, 8)[7], 0xee);
    assert.equal(
      errors.map(({ code, message }) => [code, message]),
      [['ERR_MODEL', 'the model of disk0 failed: no']],
    );
    assert.is(device.stats().ioErrors, 1);
    model.answer = async ([chain]) => {
      chain!.complete(8);
    };
    assert.is(await offer(driver, 4, 8)(), 8);
  }));

test('a chain without room for the error status fails empty', () =>
  scene(new Probe(), async ({ model, driver, errors }) => {
    model.answer = async () => {
      throw new Error('later');
    };
    assert.is(await offer(driver, 4, 0)(), 0);
    assert.is(errors[0]!.message, 'the model of disk0 failed: later');
  }));

for (const [what, written, status] of [
  ['more bytes than there is room for', 9, undefined],
  ['more bytes than there is room for beside the status', 8, 1],
  ['a negative number of bytes', -1, undefined],
  ['no number of bytes', Number.NaN, undefined],
] as const)
  test(`a chain that is completed with ${what} fails, and the device goes on`, () =>
    scene(new Probe(), async ({ model, driver, errors }) => {
      model.answer = ([chain]) => {
        assert.is(chain!.complete(written, status), false);
      };
      assert.is(await offer(driver, 4, 8)(), 1);
      assert.equal([errors[0]!.code, errors.length], ['ERR_MODEL', 1]);
      assert.instance(errors[0]!.cause, RangeError);
      model.answer = ([chain]) => void chain!.complete(8);
      assert.is(await offer(driver, 4, 8)(), 8);
    }));

test('a chain that is completed twice is used once', () =>
  scene(new Probe(), async ({ model, device, driver, errors }) => {
    model.answer = ([chain]) => {
      chain!.complete(2);
      assert.is(chain!.complete(3), false);
    };
    assert.is(await offer(driver, 4, 8)(), 2);
    assert.is(device.stats().requests, 1);
    assert.equal(
      errors.map(({ code, cause }) => [code, (cause as RingbellError).code]),
      [['ERR_MODEL', 'ERR_CHAIN_ENDED']],
    );
  }));

test('chains end in any order, whenever the model likes', () =>
  scene(new Probe(), async ({ model, driver }) => {
    const held: Chain[] = [];
    model.answer = (chains, queue) => {
      held.push(...chains);
      assert.is(queue.inHand, held.length);
    };
    for (const head of [0, 4, 8]) offer(driver, 4, 8, head);
    await until(() => held.length === 3, 'three chains');
    for (const chain of held.reverse()) chain.complete(1);
    await until(() => driver.used === 3, 'three used buffers');
    assert.equal(
      [0, 1, 2].map((index) => driver.usedEntry(index).id),
      [8, 4, 0],
    );
  }));

test('as many listeners as there are chains may wait for the reset', async () => {
  const warnings: Error[] = [];
  const warned = (warning: Error) => warnings.push(warning);
  process.on('warning', warned);
  await scene(new Probe(), async ({ model, driver }) => {
    model.answer = ([chain]) => {
      for (let i = 0; i < 20; i++) chain!.signal.addEventListener('abort', () => {});
      chain!.complete();
    };
    await offer(driver, 1, 1)();
  });
  await new Promise(setImmediate);
  process.off('warning', warned);
  assert.equal(warnings, []);
});

test('a refused chain breaks its queue until the reset', () =>
  scene(new Probe(), async ({ model, device, driver }) => {
    model.answer = ([chain]) => chain!.refuse();
    const error = nextError(device);
    offer(driver, 4, 8);
    assert.is((await error).code, 'ERR_RING_REQUEST');
    await driver.reset();
    await driver.start();
    model.answer = ([chain]) => void chain!.complete(8);
    assert.is(await offer(driver, 4, 8)(), 8);
  }));

test('the model hears of each driver before its chains, and of the reset', () =>
  scene(new Probe(), async ({ model, driver }) => {
    const held: Chain[] = [];
    model.answer = (chains) => void held.push(...chains);
    offer(driver, 4, 8);
    await until(() => held.length === 1, 'a chain');
    const [life] = model.lives;
    assert.equal([life!.negotiated(32), life!.negotiated(34), life!.signal.aborted], [true, false, false]);
    await driver.reset();
    await until(() => life!.signal.aborted, 'the end of the life');
    assert.is(held[0]!.stale, true);
    assert.is(held[0]!.signal.aborted, true);
    await driver.start();
    model.answer = ([chain]) => void chain!.complete(2);
    assert.is(held[0]!.complete(8), false, 'nobody sees it');
    assert.is(await offer(driver, 4, 8)(), 2);
    assert.equal(model.seen, [
      'negotiated',
      'started',
      '1 chain(s)',
      'reset',
      'negotiated',
      'started',
      '1 chain(s)',
    ]);
  }));

test('a handler that fails because its driver has gone is no error', () =>
  scene(new Probe(), async ({ model, driver, errors }) => {
    model.answer = ([chain]) =>
      new Promise((_, reject) => {
        chain!.signal.addEventListener('abort', () => reject(new Error('aborted')));
      });
    offer(driver, 4, 8);
    await until(() => model.seen.includes('1 chain(s)'), 'the chain');
    await driver.reset();
    await until(() => model.seen.includes('reset'), 'the reset');
    await driver.start();
    model.answer = ([chain]) => void chain!.complete(8);
    assert.is(await offer(driver, 4, 8)(), 8);
    assert.equal(errors, []);
  }));

test('a queue on hold leaves chains on the ring until it is released', () =>
  scene(new Probe(), async ({ model, driver }) => {
    let queue: ModelQueue;
    model.answer = ([chain], of) => {
      queue = of;
      of.hold();
      chain!.complete(1);
    };
    assert.is(await offer(driver, 4, 8)(), 1);
    model.answer = ([chain]) => void chain!.complete(2);
    const used = offer(driver, 4, 8);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.is(model.seen.filter((what) => what === '1 chain(s)').length, 1);
    queue!.release();
    assert.is(await used(), 2);
  }));

test('a chain beyond the limit fails without the model', () => {
  class Small extends Probe {
    override readonly manifest = { deviceId: VIRTIO_ID_RNG, limits: { chainBytes: 6000 } };
  }
  return scene(new Small(), async ({ model, driver, errors }) => {
    assert.is(await offer(driver, 6000, 8)(), 1);
    assert.is(written(driver, 6000, 8)[7], 0xee);
    assert.equal(model.seen, ['negotiated', 'started']);
    assert.equal(errors, []);
  });
});

test('hooks that throw or reject are events, and the device goes on', async () => {
  class Clumsy extends Probe {
    override started() {
      throw new Error('clumsy');
    }
    override negotiated() {
      return Promise.reject(new Error('late')) as unknown as undefined;
    }
  }
  await scene(new Clumsy(), async ({ model, driver, errors }) => {
    model.answer = ([chain]) => void chain!.complete(8);
    assert.is(await offer(driver, 4, 8)(), 8);
    await until(() => errors.length === 2, 'both errors');
    assert.equal(errors.map(({ message }) => message.split(': ')[1]).toSorted(), ['clumsy', 'late']);
  });
});

test('what does not go with the manifest is refused', async () => {
  const bad = async (manifest: object, options: object, message: RegExp) => {
    const model = Object.assign(new Probe(), { manifest: { deviceId: VIRTIO_ID_RNG, ...manifest } });
    await rejects(serve(model, { name: 'disk0', bus: new Bus(), ...options }), 'ERR_ARGUMENT', message);
  };
  await bad({}, { queues: 2 }, /has 1 queue\(s\), not 2/);
  await bad({ queues: { minimum: 2, maximum: 3 } }, { queues: 4 }, /2 to 3 queues, not 4/);
  await bad({ queueSize: 64 }, { queueSize: 32 }, /queues of 64 entries, not 32/);
  await bad({ features: [28] }, {}, /bits of the device type/);
  await bad({ deviceId: 0 }, {}, /deviceId of the manifest/);
  await bad({ limits: { inHand: 0 } }, {}, /inHand of the manifest/);
  const model = Object.assign(new Probe(), { features: () => [3] });
  await rejects(serve(model, { name: 'disk0', bus: new Bus() }), 'ERR_ARGUMENT', /feature 3, which/);
});

test('a model that was closed hears of it, and can be served again', async () => {
  const model = new Probe();
  for (const _ of [1, 2]) await scene(model, async () => {});
  assert.is(model.seen.filter((what) => what === 'closed').length, 2);
  await rejects(model.configChanged(), 'ERR_CLOSED');
});

test.run();
