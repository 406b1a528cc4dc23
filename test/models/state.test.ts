/** State of devices: saved, refused, and taken up by another device, with the rings of the same driver. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import type { Chain } from '../../host/models/chain.js';
import { DeviceModel } from '../../host/models/device-model.js';
import type { Model } from '../../host/models/model.js';
import { WasmModel } from '../../host/models/wasm/wasm-model.js';
import { serve } from '../../host/serve.js';
import { readDeviceState } from '../../host/served/device-state.js';
import { MockDriver } from '../../host/testing/index.js';
import { VIRTIO_ID_FS, VIRTIO_ID_RNG } from '../../host/uapi/virtio.js';
import { rejects, until, within } from './fixture.js';
import { compileModel } from './wasm/fixture.js';

/** Counts its chains. */
class Counter extends DeviceModel {
  override readonly manifest = { deviceId: VIRTIO_ID_RNG, queues: { minimum: 1, maximum: 2 } };
  count = 0;
  keeps = false;
  readonly kept: Chain[] = [];

  override handle(chains: readonly Chain[]): void {
    if (this.keeps) this.kept.push(...chains);
    else for (const chain of chains) this.end(chain);
  }

  end(chain: Chain): void {
    chain.write(0, Uint8Array.of(++this.count));
    chain.complete(1);
  }

  override async save(): Promise<Uint8Array> {
    return Uint8Array.of(this.count);
  }

  override restore(state: Uint8Array): void {
    if (state.length !== 1) throw new RangeError('no state of a counter');
    this.count = state[0]!;
  }
}

const serveOn = (bus: Bus, model: Model, name: string, options = {}) =>
  within(serve(model, { name, bus, threads: 0, ...options }), 'serve');

for (const packed of [false, true])
  test(`${packed ? 'packed' : 'split'}: another device goes on with state, rings and requests of one that has gone`, async () => {
    await using bus = new Bus();
    const first = await serveOn(bus, new Counter(), 'first');
    const driver = await MockDriver.open('first', { bus });
    const count = async () => (await within(driver.request({ writable: 8 }), 'an answer')).writable[0];
    await driver.start({ packed });
    // Past the end of the ring: another wrap counter.
    for (let turn = 1; turn <= 70; turn++) assert.is(await count(), turn);
    const state = await first.save();
    assert.is(await count(), 71, 'it goes on after it was saved');
    const again = await first.save();
    const { bases, deviceId, model } = readDeviceState(again);
    assert.is(bases[0], await driver.device.vringBase(0));
    assert.is(deviceId, VIRTIO_ID_RNG);
    assert.equal([...model], [71]);
    assert.equal([...readDeviceState(state).model], [70]);
    const second = await serveOn(bus, new Counter(), 'second', { state: again });
    await driver.move('second', { bus });
    await first.close();
    await driver.start({ packed, bases });
    assert.is(await count(), 72);
    for (let turn = 73; turn <= 140; turn++) assert.is(await count(), turn);
    assert.equal(driver.violations, []);
    await driver.close();
    await second.close();
  });

test('what is in flight keeps a device from being saved', async () => {
  await using bus = new Bus();
  const model = new Counter();
  const device = await serveOn(bus, model, 'counter');
  const driver = await MockDriver.open('counter', { bus });
  await driver.start();
  model.keeps = true;
  const answer = driver.request({ writable: 8 });
  await until(() => model.kept.length === 1, 'the model to have it');
  await rejects(device.save(), 'ERR_IN_FLIGHT', /queue 0/);
  model.end(model.kept[0]!);
  await within(answer, 'the answer');
  assert.equal([...readDeviceState(await device.save()).model], [1]);
  await driver.close();
  await device.close();
});

test('the states of a module in AssemblyScript go with it', async () => {
  await using bus = new Bus();
  const module = await compileModel('trials');
  const make = () =>
    new WasmModel({
      module,
      manifest: { deviceId: VIRTIO_ID_FS, features: [3] },
      config: () => Uint8Array.of(1),
    });
  /** Trial 0 answers with a counter in the state of the device, and one in that of the queue. */
  const ask = async (driver: MockDriver) => {
    const { writable } = await within(
      driver.request({ readable: new Uint8Array(4), writable: 64 }),
      'an answer',
    );
    return [writable[0], writable[4]];
  };
  const first = await serveOn(bus, make(), 'first');
  const driver = await MockDriver.open('first', { bus });
  await driver.start();
  assert.equal(await ask(driver), [1, 1]);
  assert.equal(await ask(driver), [2, 2]);
  const state = await first.save();
  await driver.close();
  await first.close();
  const second = await serveOn(bus, make(), 'second', { state, threads: 1 });
  const next = await MockDriver.open('second', { bus });
  await next.start();
  assert.equal(await ask(next), [3, 3]);
  await next.close();
  await second.close();
});

test('what is no state, or not of such a device, is refused, and nothing is left', async () => {
  await using bus = new Bus();
  const device = await serveOn(bus, new Counter(), 'counter');
  const state = await device.save();
  const refused = async (bytes: Uint8Array, why: RegExp, model: Model = new Counter(), options = {}) =>
    rejects(serveOn(bus, model, 'other', { state: bytes, ...options }), 'ERR_STATE', why);
  const changed = (at: number) => Uint8Array.from(state, (byte, index) => (index === at ? byte ^ 1 : byte));
  await refused(new Uint8Array(100), /no state/);
  await refused(state.subarray(0, 20), /no state/);
  await refused(changed(16), /version/);
  for (const at of [20, 32, state.length - 6, state.length - 1]) await refused(changed(at), /damaged/);
  await refused(state.subarray(0, -1), /damaged/);
  await refused(state, /2 queue|1 queue/, new Counter(), { queues: 2 });
  await refused(state, /device id/, new BlockDevice({ memory: 65_536 }));
  await refused(state, /VIRTIO_F_RING_PACKED/, new Counter(), { packed: false });
  assert.equal(
    bus.list().map(({ name }) => name),
    ['counter'],
  );
  await device.close();
});

test('a model without a state, and one that fails at it, say so', async () => {
  await using bus = new Bus();
  const disk = await serveOn(bus, new BlockDevice({ memory: 65_536 }), 'disk');
  await rejects(disk.save(), 'ERR_NOT_SUPPORTED', /cannot be saved/);
  await disk.close();
  const broken = Object.assign(new Counter(), { save: () => Promise.reject(new Error('no')) });
  const device = await serveOn(bus, broken, 'broken');
  await rejects(device.save(), 'ERR_MODEL', /be saved: no/);
  await device.close();
  await rejects(device.save(), 'ERR_CLOSED');
});

test.run();
