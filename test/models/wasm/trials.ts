import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../../host/bus/index.js';
import type { ErrorCode } from '../../../host/errors.js';
import { BlockDevice } from '../../../host/models/blk/block-device.js';
import { WasmModel } from '../../../host/models/wasm/wasm-model.js';
import { type ServeOptions, serve } from '../../../host/serve.js';
import type { ServedDevice } from '../../../host/served/served-device.js';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_ID_FS,
  VIRTQ_DESC_F_WRITE,
} from '../../../host/uapi/virtio.js';
import { nextError, rejects, until, within } from '../fixture.js';
import { DATA, FEATURES, IOVA, RawDriver } from '../raw-driver.js';
import { compileModel } from './fixture.js';

const module = await compileModel('trials');
const CONFIG = Uint8Array.of(77, 1, 2);
/** Offset of what the device may write, in the driver's memory. */
export const ANSWER = DATA + 0x1000;

/** Trials of test/models/wasm/assembly/trials.ts. */
export const Trial = {
  Knowledge: 0,
  Shape: 1,
  TransferAll: 2,
  Transfer: 3,
  Fill: 4,
  Numbers: 5,
  Copies: 6,
  Refuse: 7,
  TooMuch: 8,
  WriteBeyond: 9,
  Trap: 10,
  WildCopy: 11,
  NoSegment: 12,
  Endless: 13,
};

/** Serves the trials beside a neighbour, drives both, and leaves nothing behind. */
export async function trial(
  options: Partial<ServeOptions>,
  body: (
    driver: RawDriver,
    device: ServedDevice,
    change: (config: Uint8Array) => Promise<void>,
  ) => Promise<void>,
): Promise<void> {
  const bus = new Bus();
  let config: Uint8Array = CONFIG;
  const manifest = { deviceId: VIRTIO_ID_FS, features: [3] };
  const model = new WasmModel({ module, manifest, config: () => config });
  const change = async (bytes: Uint8Array) => {
    config = bytes;
    await within(model.configChanged(), 'telling of the config space');
  };
  const device = await within(serve(model, { name: 'trials', bus, ...options }), 'serve');
  const other = await within(serve(new BlockDevice({ memory: 65536 }), { name: 'other', bus }), 'serve');
  const driver = await RawDriver.open(bus, 'trials');
  const neighbour = await RawDriver.open(bus, 'other');
  try {
    assert.ok((await driver.start({ features: [...FEATURES, 3] })) & VIRTIO_CONFIG_S_DRIVER_OK);
    await neighbour.start();
    await body(driver, device, change);
    assert.ok(await neighbour.works(), 'the neighbour goes on');
  } finally {
    await driver.close();
    await neighbour.close();
    await within(Promise.all([device.close(), other.close()]), 'closing the devices');
    await within(bus.close(), 'closing the bus');
  }
}

/** Makes a request of `payload` behind the number of a trial, cut into buffers of these lengths, available. */
export function offer(
  driver: RawDriver,
  number: number,
  payload: Uint8Array,
  readable: number[],
  writable: number[],
): void {
  const bytes = new Uint8Array(4 + payload.length);
  new DataView(bytes.buffer).setUint32(0, number, true);
  bytes.set(payload, 4);
  driver.memory.bytes.fill(0, DATA, ANSWER + 0x1000);
  const buffers: [number, number][] = [];
  const rest = readable.reduce((left, length) => left - length, bytes.length);
  let at = 0;
  for (const length of [...readable, rest].filter((length) => length > 0)) {
    // Apart from each other, so that they are segments of their own.
    const place = DATA + buffers.length * 0x100;
    driver.memory.bytes.set(bytes.subarray(at, at + length), place);
    buffers.push([place, length]);
    at += length;
  }
  driver.describe([
    ...buffers.map(([place, len]) => ({ addr: IOVA + BigInt(place), len })),
    ...writable.map((len, n) => ({
      addr: IOVA + BigInt(ANSWER + n * 0x100),
      len,
      flags: VIRTQ_DESC_F_WRITE,
    })),
  ]);
  driver.offer(0);
}

/** The same, waited for: the bytes of the writable buffers, and the used length. */
export async function ask(
  driver: RawDriver,
  number: number,
  payload: Uint8Array = new Uint8Array(0),
  readable: number[] = [],
  writable: number[] = [64],
): Promise<{ answer: Uint8Array; view: DataView; used: number }> {
  const before = driver.used;
  offer(driver, number, payload, readable, writable);
  await until(() => driver.used !== before, 'a used buffer');
  const parts = writable.map((len, n) => [
    ...driver.memory.bytes.subarray(ANSWER + n * 0x100, ANSWER + n * 0x100 + len),
  ]);
  const answer = Uint8Array.from(parts.flat());
  return { answer, view: new DataView(answer.buffer), used: driver.usedLength };
}

/** Defines the tests of models whose queues run on so many threads. */
export function defineTrials(threads: number): void {
  const on = `${threads} threads`;

  test(`${on}: a model knows its states, its queue, its config space and what was negotiated`, async () => {
    await trial({ threads }, async (driver) => {
      const epochs = new Set<number>();
      for (let request = 1; request <= 3; request++) {
        const { view, answer, used } = await ask(driver, Trial.Knowledge);
        assert.is(used, 24);
        assert.is(view.getUint32(0, true), request, 'state of the device');
        assert.is(view.getUint32(4, true), request, 'state of the queue');
        assert.is(view.getUint32(8, true), 0, 'index');
        assert.is(view.getUint32(12, true), CONFIG.length);
        assert.equal([...answer.subarray(16, 20)], [CONFIG[0], 1, 1, 0], 'config and features');
        epochs.add(view.getUint32(20, true));
      }
      assert.is(epochs.size, 1);
      await driver.reset();
      await driver.start({ features: FEATURES });
      const { view, answer } = await ask(driver, Trial.Knowledge);
      assert.is(view.getUint32(0, true), 4, 'a reset keeps the state');
      assert.is(answer[18], 0, 'not negotiated this time');
      assert.not.ok(epochs.has(view.getUint32(20, true)), 'another start, another epoch');
    });
  });

  test(`${on}: a config space that changes is the module's, too`, async () => {
    await trial({ threads }, async (driver, device, change) => {
      assert.is((await ask(driver, Trial.Knowledge)).answer[16], CONFIG[0]);
      await change(Uint8Array.of(99, 1, 2));
      assert.is((await ask(driver, Trial.Knowledge)).answer[16], 99);
      await rejects(change(Uint8Array.of(99, 1)), 'ERR_ARGUMENT', /has 3 bytes, not 2/);
      assert.is((await ask(driver, Trial.Knowledge)).answer[16], 99);
      await device.close();
      await rejects(change(CONFIG), 'ERR_CLOSED');
    });
  });

  test(`${on}: a model sees a chain by segments`, async () => {
    await trial({ threads }, async (driver) => {
      const { view, used } = await ask(driver, Trial.Shape, new Uint8Array(20), [6, 7], [20, 5, 4]);
      assert.equal(
        [0, 4, 8, 12, 16, 25].map((at) => view.getUint32(at, true)),
        [3, 3, 24, 29, 20, 6],
      );
      assert.is(used, 29);
    });
  });

  test(`${on}: bytes are transferred whatever the segments, up to the shorter end`, async () => {
    await trial({ threads }, async (driver) => {
      const payload = Uint8Array.from({ length: 60 }, (_, n) => n + 1);
      for (const [readable, writable] of [
        [[], [60]],
        [
          [4, 1, 2, 3],
          [7, 1, 30, 22],
        ],
        [[5, 50], [40]],
        [[10], [10, 10, 50]],
      ]) {
        const room = writable!.reduce((sum, length) => sum + length, 0);
        const { answer, used } = await ask(driver, Trial.TransferAll, payload, readable, writable);
        const bytes = Math.min(room, payload.length);
        assert.is(used, bytes);
        assert.equal(answer.subarray(0, bytes), payload.subarray(0, bytes));
        assert.ok(answer.subarray(bytes).every((byte) => byte === 0));
      }
      const { answer, used } = await ask(
        driver,
        Trial.Transfer,
        Uint8Array.of(9, 2, 4, 0, 0, 11, 12, 13, 14, 15),
        [6, 4],
        [3, 8],
      );
      assert.is(used, 4);
      assert.equal([...answer], [0, 0, 11, 12, 13, 14, 0, 0, 0, 0, 0]);
    });
  });

  test(`${on}: bytes are filled and copied through the model's memory, across segments`, async () => {
    await trial({ threads }, async (driver) => {
      const filled = await ask(driver, Trial.Fill, Uint8Array.of(40, 0, 0, 0), [], [10, 20, 30]);
      assert.is(filled.used, 40);
      assert.equal(
        [...filled.answer].map((byte) => byte === 0xab),
        Array.from({ length: 60 }, (_, n) => n >= 3 && n < 43),
      );
      const short = await ask(driver, Trial.Fill, Uint8Array.of(40, 0, 0, 0), [], [10, 20]);
      assert.is(short.used, 27);
      const payload = Uint8Array.of(8, 7, 6, 5, 4, 3, 2, 1);
      const copied = await ask(driver, Trial.Copies, payload, [5, 3, 2], [1, 6, 9]);
      assert.is(copied.used, 8);
      assert.equal(copied.answer.subarray(0, 8), payload);
      assert.is((await ask(driver, Trial.Copies, payload.subarray(0, 3), [], [9])).used, 3);
    });
  });

  test(`${on}: numbers are read and written across segments`, async () => {
    await trial({ threads }, async (driver) => {
      const payload = new Uint8Array(23);
      const numbers = new DataView(payload.buffer);
      numbers.setFloat32(0, 1.5, true);
      numbers.setFloat64(4, -2.25, true);
      numbers.setInt8(12, 100);
      numbers.setInt16(13, -3000, true);
      numbers.setBigInt64(15, 2n ** 60n + 1n, true);
      const cuts: [number[], number[]][] = [[[], [23]]];
      for (let cut = 1; cut < 23; cut++) cuts.push([[4 + cut], [cut, 23 - cut]]);
      for (const [readable, writable] of cuts) {
        const { view } = await ask(driver, Trial.Numbers, payload, readable, writable);
        assert.is(view.getFloat32(0, true), 3);
        assert.is(view.getFloat64(4, true), -4.5);
        assert.is(view.getInt8(12), -100);
        assert.is(view.getInt16(13, true), 3000);
        assert.is(view.getBigInt64(15, true), -(2n ** 60n + 1n));
      }
    });
  });

  test(`${on}: a used length is never above what the driver has room for`, async () => {
    await trial({ threads }, async (driver) => {
      assert.is((await ask(driver, Trial.TooMuch, undefined, [], [5, 6])).used, 11);
      assert.is((await ask(driver, Trial.TooMuch, undefined, [], [])).used, 0);
    });
  });

  const ENDS: [string, number, Partial<Record<'readable' | 'writable', number[]>>, ErrorCode, RegExp][] = [
    ['that it refuses', Trial.Refuse, {}, 'ERR_RING_REQUEST', /./],
    ['that is too short to be read', Trial.Numbers, {}, 'ERR_RING_REQUEST', /./],
    ['that is too short for an answer', Trial.WriteBeyond, { writable: [4] }, 'ERR_RING_REQUEST', /./],
    ['at which it touches what is not accessible', Trial.Trap, {}, 'ERR_TRAP', /./],
    ['at which it copies to what is not its own', Trial.WildCopy, {}, 'ERR_TRAP', /./],
    ['at which it asks for a segment that is not there', Trial.NoSegment, {}, 'ERR_TRAP', /./],
    ['at which it reaches what cannot be', 99, {}, 'ERR_TRAP', /./],
  ];
  for (const [what, number, { readable, writable }, code] of ENDS)
    test(`${on}: a request ${what} breaks its device alone, until the reset`, async () => {
      await trial({ threads }, async (driver, device) => {
        assert.is((await ask(driver, Trial.Knowledge)).used, 24);
        const error = nextError(device);
        const before = driver.used;
        offer(driver, number, new Uint8Array(2), readable ?? [], writable ?? [64]);
        assert.is((await error).code, code);
        await until(() => (device.status & VIRTIO_CONFIG_S_NEEDS_RESET) !== 0, 'NEEDS_RESET');
        assert.is(driver.used, before, 'it is not answered');
        await driver.reset();
        assert.ok((await driver.start({ features: [...FEATURES, 3] })) & VIRTIO_CONFIG_S_DRIVER_OK);
        assert.is((await ask(driver, Trial.Knowledge)).used, 24, 'works after the reset');
      });
    });
}
