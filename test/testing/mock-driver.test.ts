/** The mock driver itself: what it writes to rings, what it finds out, and how it misbehaves. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import type { ErrorCode, RingbellError } from '../../host/errors.js';
import type { Chain } from '../../host/models/chain.js';
import { DeviceModel } from '../../host/models/device-model.js';
import { serve } from '../../host/serve.js';
import { MISBEHAVIOURS, type Misbehaviour, MockDriver, modelContract } from '../../host/testing/index.js';
import {
  VIRTIO_F_IN_ORDER,
  VIRTIO_F_RING_PACKED,
  VIRTIO_ID_RNG,
  VIRTIO_RING_F_INDIRECT_DESC,
} from '../../host/uapi/virtio.js';
import { rejects, until, within } from '../models/fixture.js';

/** A device that gives back what it reads, in so far as there is room. */
class Echo extends DeviceModel {
  override readonly manifest = { deviceId: VIRTIO_ID_RNG, features: [3] };
  readonly kept: Chain[] = [];
  keeps = false;

  override handle(chains: readonly Chain[]): void {
    for (const chain of chains) {
      if (this.keeps) this.kept.push(chain);
      else this.echo(chain);
    }
  }

  echo(chain: Chain): void {
    const bytes = chain.read(0, Math.min(chain.readableBytes, chain.writableBytes));
    chain.write(0, bytes);
    chain.complete(bytes.length);
  }

  override reset(): void {
    for (const chain of this.kept.splice(0)) chain.complete();
  }
}

interface Scene {
  model: Echo;
  driver: MockDriver;
  errors: RingbellError[];
}

/** Serves the echo on a bus of its own, to a driver that is open and has not started. */
async function scene(body: (scene: Scene) => Promise<void>): Promise<void> {
  const bus = new Bus();
  const model = new Echo();
  const device = await within(serve(model, { name: 'echo', bus, queueSize: 8 }), 'serve');
  const errors: RingbellError[] = [];
  device.on('error', (error) => errors.push(error));
  const driver = await MockDriver.open('echo', { bus, queueSize: 8 });
  try {
    await body({ model, driver, errors });
  } finally {
    await within(driver.close(), 'closing the driver');
    await within(device.close(), 'closing the device');
    await bus.close();
  }
}

for (const packed of [false, true]) {
  const ring = packed ? 'packed' : 'split';

  test(`${ring}: chains go out in pieces and come back whole, over many laps`, () =>
    scene(async ({ driver }) => {
      await driver.start({ packed });
      assert.is(driver.negotiated(VIRTIO_F_RING_PACKED), packed);
      assert.ok(driver.negotiated(VIRTIO_RING_F_INDIRECT_DESC));
      assert.not.ok(driver.negotiated(VIRTIO_F_IN_ORDER));
      for (let lap = 0; lap < 30; lap++) {
        const readable = [Uint8Array.of(lap, 1), Uint8Array.of(2, 3, 4)];
        const indirect = lap % 3 === 0;
        const { written, writable } = await within(
          driver.request({ readable, writable: [1, 1 + (lap % 5), 9], indirect }),
          'an answer',
        );
        assert.is(written, 5);
        assert.equal([...writable.subarray(0, 6)], [lap, 1, 2, 3, 4, 0]);
      }
      assert.equal(driver.violations, []);
    }));

  test(`${ring}: a full ring takes no more, and a reset rejects what is on its way`, () =>
    scene(async ({ model, driver }) => {
      model.keeps = true;
      await driver.start({ packed });
      const answers = Array.from({ length: 4 }, () =>
        driver.request({ readable: Uint8Array.of(1), writable: 1 }),
      );
      assert.throws(() => driver.request({ writable: 1 }), /ERR_RING_FULL|no free slot/);
      await until(() => model.kept.length === 4, 'the model to have them');
      assert.is(driver.queue().inFlight, 4);
      const rejected = Promise.all(answers.map((answer) => rejects(answer, 'ERR_CLOSED', /reset/)));
      await driver.reset();
      await rejected;
      assert.throws(() => driver.queue(), /no queue 0/);
    }));

  test(`${ring}: chains come back in the order in which the device ends them`, () =>
    scene(async ({ model, driver }) => {
      model.keeps = true;
      await driver.start({ packed });
      const order: number[] = [];
      const answers = [0, 1, 2, 3].map((n) =>
        driver.request({ readable: Uint8Array.of(n), writable: 1 }).then(({ writable }) => {
          assert.is(writable[0], n);
          order.push(n);
        }),
      );
      await until(() => model.kept.length === 4, 'the model to have them');
      for (const n of [2, 0, 3, 1]) model.echo(model.kept[n]!);
      model.kept.length = 0;
      await within(Promise.all(answers), 'all answers');
      assert.equal(order, [2, 0, 3, 1]);
    }));

  for (const [what, code] of Object.entries({
    loop: 'ERR_RING_CHAIN_TOO_LONG',
    'bad address': 'ERR_RING_UNMAPPED',
    'across the end': 'ERR_RING_UNMAPPED',
    'too long': 'ERR_RING_TOTAL_LENGTH',
    'length 0': 'ERR_RING_ZERO_LENGTH',
    'wrong order': 'ERR_RING_ORDER',
    'odd indirect table': 'ERR_RING_INDIRECT_LENGTH',
    'nested indirect table': 'ERR_RING_INDIRECT_NESTED',
    'index too far': packed ? 'ERR_RING_CHAIN_TOO_LONG' : 'ERR_RING_AVAIL_INDEX',
  } satisfies Partial<Record<Misbehaviour, ErrorCode>>))
    test(`${ring}: a driver that misbehaves by "${what}" breaks the device by ${code}`, () =>
      scene(async ({ driver, errors }) => {
        await driver.start({ packed });
        await driver.misbehave(what as Misbehaviour);
        await driver.needsReset();
        await until(() => errors.length > 0, 'an error event');
        assert.is(errors[0]!.code, code);
        await driver.reset();
        await driver.start({ packed });
        assert.is((await driver.request({ readable: Uint8Array.of(5), writable: 1 })).writable[0], 5);
      }));
}

test('a split ring names the head that is out of range', () =>
  scene(async ({ driver, errors }) => {
    await driver.start();
    await driver.misbehave('head out of range');
    await until(() => errors.length > 0, 'an error event');
    assert.is(errors[0]!.code, 'ERR_RING_HEAD');
  }));

test('a storm of kicks is nothing to a device', () =>
  scene(async ({ driver, errors }) => {
    await driver.start();
    await driver.misbehave('kick storm');
    assert.is((await driver.request({ readable: Uint8Array.of(5), writable: 1 })).writable[0], 5);
    assert.equal(errors, []);
    assert.is(MISBEHAVIOURS['kick storm'].outcome, 'unharmed');
  }));

test('features that are not offered can be forced, and are refused', () =>
  scene(async ({ driver, errors }) => {
    await rejects(driver.start({ forced: [5] }), 'ERR_FEATURES', /refused/);
    await until(() => errors.length > 0, 'an error event');
    assert.is(errors[0]!.code, 'ERR_FEATURES');
  }));

/** Plays the contract of an echo with something wrong, over one ring: names of the cases that failed. */
async function failures(change: (model: Echo) => void): Promise<string[]> {
  const failed: string[] = [];
  const cases: [string, () => Promise<void>][] = [];
  modelContract('echo', {
    test: (name, act) => cases.push([name, act]),
    model: () => {
      const model = new Echo();
      change(model);
      return model;
    },
    threads: [0],
    requests: [
      {
        readable: Uint8Array.of(1, 2, 3),
        writable: 3,
        check: ({ written }) => assert.is(written, 3),
      },
    ],
  });
  for (const [name, act] of cases.filter(([each]) => each.startsWith('echo, split, 0')))
    await act().catch(() => failed.push(name.split(': ')[1]!));
  return failed;
}

test('the contract finds nothing wrong with a model that keeps it', async () => {
  assert.equal(await failures(() => {}), []);
});

test('the contract finds out a model that throws in a hook', async () => {
  const failed = await failures((model) => {
    model.started = () => {
      throw new Error('clumsy');
    };
  });
  assert.ok(failed.includes('it answers requests one by one'), failed.join('\n'));
});

test('the contract finds out a model that ends chains twice', async () => {
  const failed = await failures((model) => {
    const { echo } = model;
    model.echo = (chain) => {
      echo.call(model, chain);
      chain.complete();
    };
  });
  assert.ok(failed.includes('every chain ends once, many at a time'), failed.join('\n'));
});

test('the contract finds out a model whose answers depend on how requests are cut', async () => {
  const failed = await failures((model) => {
    model.echo = (chain) => void chain.complete(chain.writableBytes - 1);
  });
  assert.ok(failed.includes('it answers requests however they are cut'), failed.join('\n'));
});

test.run();
