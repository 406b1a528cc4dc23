import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import type { Manifest } from '../models/manifest.js';
import { readDeviceState } from '../served/device-state.js';
import { hasBit } from '../uapi/bits.js';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_F_IN_ORDER } from '../uapi/virtio.js';
import type { ContractRequest, ContractScene } from './contract-scene.js';
import { MISBEHAVIOURS, type Misbehaviour } from './misbehaviour.js';
import { readableOf, writableOf } from './mock-queue.js';
import { until, within } from './waiting.js';

/** One case of the contract: the scene is set, the driver has just started. */
export type Case = (scene: ContractScene) => Promise<void>;

/** Lives of drivers that a case goes through. */
const LIVES = 4;
/** Times that the queues are filled. */
const LAPS = 5;
/** Feature bits of device types ("Reserved Feature Bits": the others). */
const isDeviceType = (bit: number) => bit < 24 || bit >= 50;

/** Cases for every ring and every number of threads. */
export const CASES: Record<string, Case> = {
  'it is what its manifest says': async ({ model, device, driver }) => {
    const { manifest, deviceId } = device.model as { manifest?: Manifest; deviceId: number };
    assert.equal(driver.device.deviceId, deviceId);
    const offered = await driver.device.offeredFeatures();
    for (let bit = 0; bit < 64; bit++)
      if (manifest && isDeviceType(bit) && hasBit(offered, bit))
        assert.ok(manifest.features?.includes(bit), `it offers feature ${bit}, which its manifest has not`);
    if (!(model instanceof URL)) assert.equal(device.model, model);
  },

  'its config space has one length, whatever the driver': async (scene) => {
    const { driver } = scene;
    const { configSize = 0 } = driver.device;
    for (let life = 0; life < LIVES; life++) {
      if (configSize > 0) assert.equal((await driver.device.config(configSize)).length, configSize);
      assert.equal(driver.device.configSize, configSize);
      await scene.reset();
      await scene.start(life % 2 ? {} : { features: [] });
    }
  },

  'it answers requests one by one': async (scene) => {
    await scene.works();
    await scene.works();
  },

  'it answers requests however they are cut': async (scene) => {
    for (const round of scene.rounds)
      for (const cut of CUTS)
        for (const indirect of scene.indirect ? [false, true] : [false])
          await scene.ask(round.map((request) => ({ ...cutBy(request, cut), indirect })));
    scene.sound();
  },

  'every chain ends once, many at a time': async (scene) => {
    for (let lap = 0; lap < LAPS; lap++) {
      const answers = scene.fill();
      assert.ok(answers.length > 0, 'the requests fit the queue');
      await within(Promise.all(answers), 'all answers');
    }
    scene.sound();
  },

  'it waits for a driver that does not reap': async (scene) => {
    const { driver } = scene;
    for (const queue of driver.queues) queue.reaping = false;
    const answers = scene.fill();
    const all = within(Promise.all(answers), 'all answers');
    // What the device can do without its driver is done when the driver looks at last.
    await until(() => driver.queues.some(({ interrupts }) => interrupts > 0), 'an interrupt');
    for (const queue of driver.queues) queue.reaping = true;
    await all;
    await scene.works();
  },

  'a reset takes what was in flight with it, and the next driver is served': async (scene) => {
    const { observed } = scene;
    for (let life = 0; life < LIVES; life++) {
      const answers = Promise.allSettled(scene.fill());
      await scene.reset();
      await answers;
      await until(() => (observed?.inHand ?? 0) === 0, 'the model to end its stale chains');
      await scene.start();
      await scene.works();
    }
    if (!observed) return;
    assert.ok(observed.lives.length > LIVES, 'it hears of each life');
    for (const { signal } of observed.lives.slice(0, -1))
      assert.ok(signal.aborted, 'the signal of a life that is over');
    assert.ok(!observed.lives.at(-1)!.signal.aborted, 'the signal of the life that is not');
  },

  'suspended, it stands still until a reset': async (scene) => {
    const { driver, observed } = scene;
    await scene.works();
    await within(driver.device.suspend(), 'the suspension');
    if (observed) await until(() => observed.hooks.at(-1) === 'paused', 'the model to hear of it');
    const used = driver.queues.map((queue) => queue.used);
    const bases = await Promise.all(driver.queues.map(({ index }) => driver.device.vringBase(index)));
    const answers = Promise.allSettled(scene.fill(1));
    await new Promise((resolve) => setImmediate(resolve));
    for (const queue of driver.queues) queue.reap();
    assert.deepEqual(
      driver.queues.map((queue) => queue.used),
      used,
      'nothing is used',
    );
    assert.deepEqual(
      await Promise.all(driver.queues.map(({ index }) => driver.device.vringBase(index))),
      bases,
    );
    await scene.reset();
    await answers;
    await scene.start();
    await scene.works();
  },

  'a driver that misbehaves breaks it until a reset, and nothing worse': async (scene) => {
    const { driver, device } = scene;
    for (const name of Object.keys(MISBEHAVIOURS) as Misbehaviour[]) {
      await scene.works();
      const hostile = device.stats().hostileChains;
      await driver.misbehave(name);
      const { outcome } = MISBEHAVIOURS[name];
      if (outcome === 'broken') await within(driver.needsReset(), `a device that is broken by: ${name}`);
      if (outcome === 'unharmed') await scene.works();
      assert.ok(await driver.device.status(), `it answers after: ${name}`);
      if (outcome === 'broken') assert.ok(device.stats().hostileChains > hostile, name);
      await scene.reset();
      scene.errors.length = 0;
      await scene.start();
    }
    await scene.works();
  },

  'features that it does not offer are refused': async (scene) => {
    const { driver } = scene;
    const offered = await driver.device.offeredFeatures();
    const foreign = Array.from({ length: 64 }, (_, bit) => bit).find(
      (bit) => isDeviceType(bit) && !hasBit(offered, bit),
    )!;
    await scene.reset();
    await assert.rejects(scene.start({ forced: [foreign] }), { code: 'ERR_FEATURES' });
    await until(() => scene.errors.some(({ code }) => code === 'ERR_FEATURES'), 'the device to tell of it');
    await scene.reset();
    scene.errors.length = 0;
    await scene.start();
    await scene.works();
  },

  'its driver hears of a new config space': async (scene) => {
    const model = scene.model as { configChanged?(): Promise<void> };
    // A disk of ours has its own way, `resize`; what runs in threads its own moment; and without a config space there is none.
    if (!model.configChanged || !scene.driver.device.configSize) return scene.works();
    let interrupts = 0;
    await scene.driver.device.watchConfig(() => interrupts++);
    await within(model.configChanged(), 'the change');
    await until(() => interrupts > 0, 'a config-change interrupt');
    await scene.works();
  },

  'what is saved of it is taken up by another one': async (scene) => {
    const { driver } = scene;
    await scene.works();
    const saved = await within(scene.device.save(), 'the state').catch((error) => {
      // What cannot be saved says so.
      assert.equal(error.code, 'ERR_NOT_SUPPORTED');
      return undefined;
    });
    if (!saved) return scene.works();
    const { bases, model } = readDeviceState(saved);
    const positions = driver.queues.map(({ index }) => driver.device.vringBase(index));
    assert.deepEqual(await Promise.all(positions), bases);
    await scene.another(saved, async (name, other) => {
      const again = readDeviceState(await within(other.save(), 'the state'));
      // A state may be long: a difference of it would be of no use.
      assert.ok(
        Buffer.compare(again.model, model) === 0,
        'the state that was restored is what is saved then',
      );
      await scene.moveTo(name, bases);
      await scene.works();
    });
  },

  'closed with requests in flight it leaves nothing, and can be served again': async (scene) => {
    await scene.works();
    const turn = async () => {
      const answers = Promise.allSettled(scene.fill());
      await within(scene.device.close(), 'the device to close');
      await scene.driver.close();
      await answers;
      if (scene.observed) assert.equal(scene.observed.hooks.at(-1), 'closed');
    };
    // The first turn loads what the process keeps.
    await turn();
    const before = descriptors();
    await scene.serve();
    await scene.start();
    await turn();
    await until(() => descriptors().length <= before.length, 'descriptors to be closed').catch((error) => {
      throw new Error(`${error.message}: from ${before.join(' ')} to ${descriptors().join(' ')}`);
    });
    await scene.serve();
    await scene.start();
    await scene.works();
  },
};

/** Cases for models that do not use requests in order. */
export const OUT_OF_ORDER_CASES: Record<string, Case> = {
  'using requests in order is not offered': async (scene) => {
    assert.ok(!hasBit(await scene.driver.device.offeredFeatures(), VIRTIO_F_IN_ORDER));
    await scene.works();
  },
};

/** Cases for models that are served on the caller's event loop, whatever `threads` says. */
export const EVENT_LOOP_CASES: Record<string, Case> = {
  'queue threads make no difference to it': async (scene) => {
    assert.equal(scene.device.queueThreads.length, 0);
    assert.equal(scene.device.status & VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_DRIVER_OK);
    await scene.works();
  },
};

/** Ways to cut bytes into pieces: lengths of the first ones, and of the last one, as far as there is so much. */
const CUTS: readonly { first: readonly number[]; last: number }[] = [
  { first: [], last: 0 },
  { first: [1], last: 0 },
  { first: [], last: 1 },
  { first: [3, 5, 7], last: 2 },
  { first: [16, 1, 1, 1, 1, 1, 1, 1, 1], last: 9 },
];

function cutBy(request: ContractRequest, cut: (typeof CUTS)[number]): ContractRequest {
  const readable = Buffer.concat(readableOf(request.readable));
  const writable = writableOf(request.writable).reduce((sum, bytes) => sum + bytes, 0);
  let at = 0;
  return {
    ...request,
    readable: lengths(readable.length, cut).map((bytes) => {
      at += bytes;
      return readable.subarray(at - bytes, at);
    }),
    writable: lengths(writable, cut),
  };
}

/** Lengths of the pieces of `bytes`. */
function lengths(bytes: number, { first, last }: (typeof CUTS)[number]): number[] {
  const pieces: number[] = [];
  let rest = bytes;
  for (const length of first)
    if (rest > length + last) {
      pieces.push(length);
      rest -= length;
    }
  if (last > 0 && rest > last) pieces.push(rest - last, last);
  else if (rest > 0) pieces.push(rest);
  return pieces;
}

/** Names of what the descriptors of this process are open on. */
function descriptors(): string[] {
  return readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // That of the listing itself.
      return [];
    }
  });
}
