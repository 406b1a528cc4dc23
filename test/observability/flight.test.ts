import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { VIRTQ_USED_ENTRY_SIZE, VIRTQ_USED_IDX, VIRTQ_USED_RING } from '../../assembly/virtio.js';
import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import type { RingbellError } from '../../host/errors.js';
import type { Flight } from '../../host/flight.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import type { Model } from '../../host/models/model.js';
import { decodeFlight } from '../../host/observability/flight-file.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import { diskScene } from '../drivers/block-fixture.js';
import { nextError, rejects, scene, within } from '../models/fixture.js';
import { HEADER, IOVA, RawDriver } from '../models/raw-driver.js';

const folder = mkdtempSync(join(tmpdir(), 'ringbell-flight-'));
test.after(() => rmSync(folder, { recursive: true }));

class Zeroes extends BlockModel {
  capacity = 2 ** 20;
  read() {}
}

const MODELS: [string, () => Model, Partial<ServeOptions>][] = [
  ['a disk on a queue thread', () => new BlockDevice({ memory: 2 ** 20 }), {}],
  ['a disk on the event loop', () => new BlockDevice({ memory: 2 ** 20 }), { threads: 0 }],
  ['a model in TypeScript', () => new Zeroes(), {}],
];

/** Serves `model` to a driver that writes its ring by hand. */
async function rawScene(
  model: Model,
  options: Partial<ServeOptions>,
  body: (driver: RawDriver, device: ServedDevice) => Promise<void>,
): Promise<void> {
  const bus = new Bus();
  const device = await within(serve(model, { name: 'disk0', bus, ...options }), 'serve');
  const driver = await RawDriver.open(bus);
  try {
    await driver.start();
    await body(driver, device);
  } finally {
    await driver.close();
    await within(device.close(), 'closing the device');
    await within(bus.close(), 'closing the bus');
  }
}

for (const [name, model, options] of MODELS)
  test(`the error of a hostile chain carries what was before it, ${name}`, () =>
    rawScene(model(), { flightRecorder: true, ...options }, async (driver, device) => {
      assert.ok(await driver.works());
      const error = nextError(device);
      driver.describe(
        [
          { addr: IOVA + BigInt(HEADER), len: 16 },
          { addr: IOVA, len: 0 },
        ],
        4,
      );
      driver.offer(4);
      const { code, flight } = await error;
      assert.is(code, 'ERR_RING_ZERO_LENGTH');
      assert.equal(
        [flight!.device, flight!.side, flight!.deviceId, flight!.error!.code],
        ['disk0', 'device', 2, code],
      );
      const [queue] = flight!.queues;
      const records = queue!.records.map(({ kind, head, written, code }) => ({ kind, head, written, code }));
      assert.equal(records, [
        { kind: 'popped', head: 0, written: undefined, code: undefined },
        { kind: 'pushed', head: 0, written: 513, code: undefined },
        { kind: 'broken', head: 4, written: undefined, code },
      ]);
      assert.equal([queue!.ring, queue!.size, queue!.inFlight, queue!.recorded], ['split', 16, 0, 3]);
      assert.ok(queue!.records.every(({ time }) => time > 0 && time <= flight!.time + 1000));
      // Nobody wants to see all of that with each error.
      assert.not(Object.keys(await error).includes('flight'));
    }));

test('the error of a hostile device carries what its driver had done', () =>
  diskScene(
    async ({ device, disk }) => {
      const broken = once(disk, 'error') as Promise<[RingbellError]>;
      const call = disk.read(1024, 512);
      await new Promise(setImmediate);
      const ring = device.ring(0);
      ring.setUint32(VIRTQ_USED_RING, 5, true);
      ring.setUint32(VIRTQ_USED_RING + VIRTQ_USED_ENTRY_SIZE / 2, 513, true);
      ring.setUint16(VIRTQ_USED_IDX, 1, true);
      device.interrupt(0);
      const [{ code, flight }] = await within(broken, 'an error event');
      await rejects(call, 'ERR_DEVICE_BROKEN');
      assert.is(flight!.side, 'driver');
      const [queue] = flight!.queues;
      const records = queue!.records.map(({ kind, head, header, writable }) => ({
        kind,
        head,
        header,
        writable,
      }));
      assert.equal(records, [
        { kind: 'published', head: 0, header: '00000000000000000200000000000000', writable: 513 },
        { kind: 'broken', head: 5, header: undefined, writable: undefined },
      ]);
      assert.equal(
        [code, queue!.records[1]!.code, queue!.inFlight],
        ['ERR_RING_USED_ID', 'ERR_RING_USED_ID', 1],
      );
    },
    { hold: true },
    { flightRecorder: true },
  ));

test('a device that breaks leaves a file, for its owner alone to read', async () => {
  const place = mkdtempSync(join(folder, 'broken-'));
  let flight: Flight | undefined;
  await rawScene(
    new BlockDevice({ memory: 2 ** 20 }),
    { flightRecorder: { folder: place } },
    async (driver, device) => {
      const error = nextError(device);
      driver.offer(77);
      ({ flight } = await error);
    },
  );
  const [file, ...others] = readdirSync(place);
  assert.equal(others, []);
  assert.match(file!, /^disk0-device-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z\.flight$/);
  assert.is(statSync(join(place, file!)).mode & 0o777, 0o600);
  assert.equal(decodeFlight(readFileSync(join(place, file!), 'utf8')), JSON.parse(JSON.stringify(flight)));
});

test('both sides can be asked at any time, and into a file', () =>
  scene(
    new BlockDevice({ memory: 2 ** 20 }),
    { queues: 2, flightRecorder: { chains: 256 }, open: { flightRecorder: true } },
    async ({ device, disk }) => {
      for (let sector = 0; sector < 5; sector++) await disk.write(sector * 512, new Uint8Array(512));
      assert.equal(
        [device, disk].map((side) => side.flight().queues.map(({ recorded }) => recorded)),
        [[10, 0], [10]],
      );
      for (const side of [device, disk] as const) {
        const path = join(folder, `${side.flight().side}.flight`);
        await side.dumpFlight(path);
        const read = decodeFlight(readFileSync(path, 'utf8'));
        assert.equal({ ...read, time: 0 }, { ...side.flight(), time: 0 });
      }
      const [pushed, reaped] = [device, disk].map((side) => side.flight().queues[0]!.records.at(-1)!);
      assert.equal([pushed!.kind, reaped!.kind], ['pushed', 'reaped']);
      assert.is(pushed!.head, reaped!.head);
      const error = await disk.dumpFlight(join(folder, 'none', 'there')).catch((error) => error);
      assert.is(error.code, 'ENOENT');
    },
  ));

test('without a flight recorder nothing is recorded', () =>
  scene(
    new BlockDevice({ memory: 2 ** 20 }),
    { open: { flightRecorder: false } },
    async ({ device, disk }) => {
      await disk.write(0, new Uint8Array(512));
      for (const side of [device, disk])
        assert.throws(
          () => side.flight(),
          (error: RingbellError) => error.code === 'ERR_NOT_SUPPORTED',
        );
      await rejects(
        device.dumpFlight(join(folder, 'off')),
        'ERR_NOT_SUPPORTED',
        /disk0 has no flight recorder/,
      );
    },
  ));

test('options that make no sense are refused', async () => {
  const model = new BlockDevice({ memory: 2 ** 20 });
  const bus = new Bus();
  for (const flightRecorder of [
    1,
    null,
    { chains: 64 },
    { chains: 200 },
    { chains: 65536 },
    { folder: '' },
    { path: 'x' },
  ]) {
    const options = { flightRecorder: flightRecorder as never, bus };
    await rejects(serve(model, { name: 'disk0', ...options }), 'ERR_ARGUMENT', /flightRecorder/);
    await rejects(openBlock('disk0', options), 'ERR_ARGUMENT', /flightRecorder/);
  }
  await bus.close();
});

test.run();
