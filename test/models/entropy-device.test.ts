import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import type { EntropySource } from '../../host/drivers/entropy-source.js';
import type { OpenOptions } from '../../host/drivers/open-driven.js';
import type { RingbellError } from '../../host/errors.js';
import { EntropyDevice, type EntropyDeviceOptions } from '../../host/models/entropy/entropy-device.js';
import { TokenBucket } from '../../host/models/entropy/token-bucket.js';
import { openEntropy } from '../../host/open-entropy.js';
import { serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import { VIRTQ_DESC_F_WRITE } from '../../host/uapi/virtio.js';
import { rejects } from '../drivers/block-fixture.js';
import { until, within } from './fixture.js';
import { DATA, IOVA, MEMORY_BYTES, RawDriver } from './raw-driver.js';

interface Scene {
  device: ServedDevice;
  entropy: EntropySource;
  errors: RingbellError[];
  bus: Bus;
}

/** Serves an entropy device, opens it, and leaves nothing behind. */
async function scene(
  options: EntropyDeviceOptions,
  body: (scene: Scene) => Promise<void>,
  open: OpenOptions = {},
): Promise<void> {
  const bus = new Bus();
  const device = await within(serve(new EntropyDevice(options), { name: 'rng0', bus }), 'serve');
  const errors: RingbellError[] = [];
  device.on('error', (error) => errors.push(error));
  try {
    const entropy = await within(openEntropy('rng0', { bus, ...open }), 'openEntropy');
    try {
      await within(body({ device, entropy, errors, bus }), 'the scene');
    } finally {
      await within(entropy.close(), 'closing the source');
    }
  } finally {
    await within(device.close(), 'closing the device');
    await within(bus.close(), 'closing the bus');
  }
}

/** A source that counts: what a driver gets can be compared. */
function counter(): (into: Uint8Array) => void {
  let given = 0;
  return (into) => {
    for (let at = 0; at < into.length; at++) into[at] = given++;
  };
}

/** The bytes that a counting source gives from `first` on. */
const counted = (bytes: number, first = 0) => Uint8Array.from({ length: bytes }, (_, at) => first + at);

for (const packed of [false, true])
  for (const bounce of [false, true])
    for (const mode of ['notify', 'poll'] as const)
      test(`reads of every length are filled from the source: packed ${packed}, bounce ${bounce}, ${mode}`, () =>
        scene(
          { source: counter() },
          async ({ entropy, device, errors }) => {
            let first = 0;
            for (const bytes of [0, 1, 4096, 4097, 100_000]) {
              assert.equal(await entropy.read(bytes), counted(bytes, first), `${bytes} bytes`);
              first += bytes;
            }
            assert.is(entropy.stats().bytesRead, first);
            assert.is(device.stats().bytesRead, first);
            assert.equal(errors, []);
          },
          { packed, bounce, mode, queueSize: 8 },
        ));

test('the kernel gives bytes that are not the same twice, and nothing of it stays open', () =>
  scene({}, async ({ entropy }) => {
    const [one, other] = await Promise.all([entropy.read(5000), entropy.read(5000)]);
    assert.is.not(Buffer.compare(one!, other!), 0);
    for (const bytes of [one!, other!]) assert.ok(new Set(bytes).size > 200, 'nearly every byte occurs');
  }));

test('a source may take its time, and what it throws fails one buffer', () => {
  let calls = 0;
  const source = async (into: Uint8Array) => {
    await new Promise(setImmediate);
    if (++calls === 1) throw new Error('no noise');
    into.fill(7);
  };
  return scene({ source }, async ({ entropy, errors }) => {
    await rejects(entropy.read(16), 'ERR_IO', /without a byte/);
    assert.is((errors[0]!.cause as Error).message, 'no noise');
    assert.equal(await entropy.read(16), new Uint8Array(16).fill(7));
  });
});

test('a source that never answers holds up the driver that waits for it, and not the next', () => {
  let answers = false;
  const source = (into: Uint8Array) => (answers ? void into.fill(1) : new Promise<void>(() => {}));
  return scene({ source }, async ({ entropy, bus }) => {
    const end = new AbortController();
    const stuck = entropy.read(1, { signal: end.signal });
    await new Promise((resolve) => setTimeout(resolve, 20));
    end.abort();
    await rejects(stuck, 'ABORT_ERR');
    await entropy.close();
    answers = true;
    const next = await openEntropy('rng0', { bus });
    assert.equal(await next.read(2), Uint8Array.of(1, 1));
    await next.close();
  });
});

test('a device gives no more a second than it is told to', () =>
  scene({ bytesPerSecond: 200 }, async ({ entropy }) => {
    await entropy.read(200);
    const start = performance.now();
    await entropy.read(40);
    // A fifth of a second: never less, however fast the machine.
    assert.ok(performance.now() - start > 195, `${performance.now() - start} ms`);
    assert.is((await entropy.read(250)).length, 250);
  }));

test('a bucket gives what has been earned, and no more than it holds', () => {
  let now = 1000;
  const bucket = new TokenBucket(1000, 50, () => now);
  assert.is(bucket.take(50), 0);
  assert.is(bucket.take(10), 10);
  now += 4;
  assert.is(bucket.take(10), 6);
  now += 6;
  assert.is(bucket.take(10), 0);
  now += 10_000;
  assert.is(bucket.take(50), 0);
  assert.is(bucket.take(1), 1);
});

test('a driver that asks for a huge buffer gets a part of it, and one that gives bytes to read is refused', async () => {
  const bus = new Bus();
  const device = await serve(new EntropyDevice({ bytesPerSecond: 100_000 }), { name: 'disk0', bus });
  const errors: string[] = [];
  device.on('error', ({ code }) => errors.push(code));
  const driver = await RawDriver.open(bus);
  await driver.start();
  const bytes = MEMORY_BYTES - DATA;
  driver.describe([{ addr: IOVA + BigInt(DATA), len: bytes, flags: VIRTQ_DESC_F_WRITE }]);
  driver.offer(0);
  await until(() => driver.used === 1, 'a used buffer');
  assert.is(driver.usedLength, 65_536);
  driver.describe([{ addr: IOVA + BigInt(DATA), len: 16 }]);
  driver.offer(0);
  await until(() => errors.length > 0, 'an error');
  assert.equal(errors, ['ERR_RING_REQUEST']);
  await driver.close();
  await device.close();
  await bus.close();
});

test('refuses options that make no sense', () => {
  for (const [options, message] of [
    [{ bytesPerSecond: 0 }, /bytesPerSecond must be an integer from 1/],
    [{ bytesPerSecond: 1.5 }, /bytesPerSecond/],
    [{ source: 'noise' }, /source must be a function/],
    [{ bytes: 1 }, /no option 'bytes'/],
  ] as const)
    assert.throws(() => new EntropyDevice(options as unknown as EntropyDeviceOptions), message);
});

test.run();
