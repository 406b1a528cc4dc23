import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import type { EntropySource } from '../../host/drivers/entropy-source.js';
import type { Chain } from '../../host/models/chain.js';
import { DeviceModel } from '../../host/models/device-model.js';
import { openEntropy } from '../../host/open-entropy.js';
import { serve } from '../../host/serve.js';
import { VIRTIO_ID_CONSOLE, VIRTIO_ID_RNG } from '../../host/uapi/virtio.js';
import { until, within } from '../waiting.js';
import { rejects } from './block-fixture.js';

/** An entropy device that does nothing by itself. */
class Held extends DeviceModel {
  override readonly manifest = { deviceId: VIRTIO_ID_RNG };
  readonly chains: Chain[] = [];

  override handle(chains: readonly Chain[]): void {
    this.chains.push(...chains);
  }

  override reset(): void {
    for (const chain of this.chains.splice(0)) chain.complete();
  }

  /** Gives the oldest buffer back with `bytes` bytes of `value`. */
  give(bytes: number, value: number): void {
    const chain = this.chains.shift() as Chain;
    chain.writable.fill(value, 0, bytes);
    chain.complete(bytes);
  }
}

/** Opens a device that a test answers for. */
async function scene(body: (model: Held, entropy: EntropySource) => Promise<void>): Promise<void> {
  const bus = new Bus();
  const model = new Held();
  const device = await serve(model, { name: 'rng0', bus });
  const entropy = await openEntropy('rng0', { bus, queueSize: 4 });
  try {
    await within(body(model, entropy), 'the scene');
  } finally {
    for (const chain of model.chains.splice(0)) chain.complete();
    await within(entropy.close(), 'closing the source');
    await device.close();
    await bus.close();
  }
}

const asked = (model: Held) => model.chains.map((chain) => chain.writableBytes);

test('asks for what is wanted, page by page, and no more', () =>
  scene(async (model, entropy) => {
    const read = entropy.read(5 * 4096 + 10);
    await until(() => model.chains.length === 4, 'four buffers');
    assert.equal(asked(model), [4096, 4096, 4096, 4096]);
    model.give(4096, 1);
    await until(() => model.chains.length === 4, 'a fifth buffer');
    while (model.chains.length > 0) model.give(model.chains[0]!.writableBytes, 2);
    await until(() => model.chains.length > 0, 'the rest');
    assert.equal(asked(model), [10]);
    model.give(10, 3);
    const bytes = await read;
    assert.equal([bytes[0], bytes[4095], bytes[4096], bytes.at(-10)], [1, 1, 2, 3]);
  }));

test('what a device gives less than it was asked for is asked for again', () =>
  scene(async (model, entropy) => {
    const read = entropy.read(3);
    for (const value of [1, 2, 3]) {
      await until(() => model.chains.length === 1, 'a buffer');
      model.give(1, value);
      await new Promise(setImmediate);
    }
    assert.equal(await read, Uint8Array.of(1, 2, 3));
  }));

test('bytes that somebody has given up go to whoever waits next', () =>
  scene(async (model, entropy) => {
    const end = new AbortController();
    const first = entropy.read(8, { signal: end.signal });
    await until(() => model.chains.length === 1, 'a buffer');
    end.abort();
    await rejects(first, 'ABORT_ERR');
    const second = entropy.read(8);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(asked(model), [8], 'nothing is asked for twice');
    model.give(8, 5);
    assert.equal(await second, new Uint8Array(8).fill(5));
  }));

test('a device that gives nothing fails the read, and not the source', () =>
  scene(async (model, entropy) => {
    const read = entropy.read(8);
    await until(() => model.chains.length === 1, 'a buffer');
    model.give(0, 0);
    await rejects(read, 'ERR_IO', /without a byte/);
    const next = entropy.read(1);
    await until(() => model.chains.length === 1, 'a buffer');
    model.give(1, 9);
    assert.equal(await next, Uint8Array.of(9));
  }));

test('a queue that is reset asks again for what was on its way', () =>
  scene(async (model, entropy) => {
    const read = entropy.read(10);
    await until(() => model.chains.length === 1, 'a buffer');
    await entropy.resetQueue(0, { queueSize: 2 });
    await until(() => model.chains.length === 2, 'the buffer, again');
    for (const chain of model.chains) if (chain.stale) chain.complete();
    model.chains.splice(0, 1);
    model.give(10, 4);
    assert.equal(await read, new Uint8Array(10).fill(4));
    assert.is(entropy.stats().queues[0]?.size, 2);
  }));

test('closing ends those who wait, and later calls', () =>
  scene(async (model, entropy) => {
    const read = entropy.read(1);
    await until(() => model.chains.length === 1, 'a buffer');
    const closing = entropy.close();
    model.give(1, 1);
    await closing;
    assert.equal(await read, Uint8Array.of(1));
    await rejects(entropy.read(1), 'ERR_CLOSED');
  }));

test('tells what cannot be read, or opened', () =>
  scene(async (_, entropy) => {
    for (const bytes of [-1, 1.5, 2 ** 31])
      await rejects(entropy.read(bytes), 'ERR_ARGUMENT', /bytes must be/);
    const bus = new Bus();
    await rejects(
      openEntropy('rng0', { bus, capture: 'x' } as object),
      'ERR_ARGUMENT',
      /no option 'capture'/,
    );
    await rejects(openEntropy('rng0', { bus }), 'ERR_NO_DEVICE');
    const console = Object.assign(new Held(), { manifest: { deviceId: VIRTIO_ID_CONSOLE } });
    const device = await serve(console, { name: 'con0', bus });
    await rejects(openEntropy('con0', { bus }), 'ERR_NOT_SUPPORTED', /device id 3, this driver is for 4/);
    await device.close();
    await bus.close();
  }));

test.run();
