/** One queue that is reset, and started again, while the device runs: what its driver sees of it, and what a hostile one does. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LOG_HEADER_SIZE, LOG_STATE, LOG_STATE_IDLE, LOG_STATE_SPLIT } from '../../assembly/layout.js';
import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_F_RING_RESET } from '../../assembly/virtio.js';
import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import type { Model } from '../../host/models/model.js';
import { type ServeOptions, serve } from '../../host/serve.js';
import type { ServedDevice } from '../../host/served/served-device.js';
import { VDUSE_SET_VQ_READY } from '../../host/uapi/vduse.js';
import { VHOST_VDPA_RESET_VRING } from '../../host/vhost-vdpa/reset-extension.js';
import { fails } from '../bus/fixture.js';
import { nextError, rejects, scene, until, within } from './fixture.js';
import { DATA, FEATURES, HEADER, IOVA, MEMORY_BYTES, RawDriver, STATUS_BYTE } from './raw-driver.js';

const BYTES = 2 ** 20;
const BLOCK = 4096;
const memoryDisk = () => new BlockDevice({ memory: BYTES });

/** A disk whose requests wait until they are let go, each for itself. */
class Held extends BlockModel {
  override capacity = BYTES;
  hold = true;
  readonly waiting: (() => void)[] = [];
  readonly #bytes = new Uint8Array(BYTES);

  override async read(offset: number, into: Uint8Array): Promise<void> {
    await this.#turn();
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  override async write(offset: number, from: Uint8Array): Promise<void> {
    await this.#turn();
    this.#bytes.set(from, offset);
  }

  /** Lets everything go, now and from now on. */
  release(): void {
    this.hold = false;
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  async #turn(): Promise<void> {
    if (this.hold) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }
}

// The driver's side.

const WAYS: [Partial<ServeOptions>, object][] = [
  [{}, {}],
  [{ packed: false }, {}],
  [{ packed: false, indirect: false }, {}],
  [{ indirect: false, inOrder: true }, {}],
  [{ threads: 0 }, {}],
  [{ mode: 'poll' }, { mode: 'poll' }],
  [{ doorbell: 'shared' }, {}],
  [{ doorbell: 'page-per-vq', packed: false }, {}],
  [{}, { bounce: true, bounceBytes: BYTES }],
  [{ packed: false }, { bounce: true, bounceBytes: BYTES }],
];

for (const [options, open] of WAYS)
  test(`queues are given other sizes under load, served with ${inspect(options)}, driven with ${inspect(open)}: nothing is lost`, () =>
    scene(
      memoryDisk(),
      {
        queues: 2,
        queueSize: 128,
        ...options,
        open: { queues: 2, queueSize: 32, maxQueueSize: 128, slotBytes: BLOCK, ...open },
      },
      async ({ disk, errors }) => {
        assert.ok(disk.features.includes('VIRTIO_F_RING_RESET'));
        let round = 0;
        const sizes = [4, 128, 8, 64, 16, 128, 32, 4];
        const resize = async () => {
          for (const queueSize of sizes) {
            await disk.resetQueue(0, { queueSize });
            assert.is(disk.stats().queues[0]?.size, queueSize);
            assert.is(disk.stats().queues[1]?.size, 32, 'the other one is as it was');
            await new Promise((resolve) => setImmediate(resolve));
          }
        };
        const load = async () => {
          for (; round < 12; round++) {
            const blocks = Array.from({ length: 64 }, (_, i) => new Uint8Array(BLOCK).fill(i * 7 + round));
            await Promise.all(blocks.map((block, i) => disk.write(i * BLOCK, block)));
            const read = await Promise.all(blocks.map((_, i) => disk.read(i * BLOCK, BLOCK)));
            assert.equal(read, blocks);
          }
        };
        await within(Promise.all([load(), resize(), disk.resetQueue(1)]), 'load and resets');
        assert.equal(
          disk.stats().queues.map(({ inFlight }) => inFlight),
          [0, 0],
        );
        assert.equal(errors, []);
      },
    ));

for (const packed of [false, true])
  test(`requests that a model holds are put on the new ring, and end there (packed: ${packed})`, async () => {
    const model = new Held();
    await scene(
      model,
      { packed, open: { queueSize: 8, indirect: false } },
      async ({ device, disk, errors }) => {
        const block = new Uint8Array(BLOCK).fill(7);
        const calls = Promise.all([
          disk.write(0, block),
          disk.read(BLOCK, BLOCK),
          disk.write(2 * BLOCK, block),
        ]);
        await until(() => model.waiting.length === 2, 'what the ring has room for');
        const held = model.waiting.splice(0);
        await disk.resetQueue(0);
        await until(() => model.waiting.length === 2, 'the same requests again');
        for (const resolve of held) resolve();
        await new Promise((resolve) => setTimeout(resolve, 20));
        assert.is(device.stats().requests, 0, 'what ends late is dropped');
        model.release();
        await within(calls, 'the calls');
        assert.is(device.stats().requests, 3);
        assert.equal(await disk.read(2 * BLOCK, BLOCK), block);
        assert.equal(errors, []);
      },
    );
  });

test('requests of a batch come back with an I/O error, and the batch goes on', async () => {
  const model = new Held();
  await scene(model, { open: { queueSize: 8, maxQueueSize: 16 } }, async ({ disk }) => {
    const batch = disk.batch();
    const memory = disk.alloc(BLOCK);
    for (let tag = 0; tag < 8; tag++) batch.read(tag * BLOCK, memory, tag);
    assert.is(batch.submit(), 8);
    await until(() => model.waiting.length === 8, 'the requests');
    const waiting = batch.wait();
    const reset = disk.resetQueue(0, { queueSize: 4 });
    assert.is(batch.submit(), 0);
    assert.is(batch.reap(), 0);
    await reset;
    await within(waiting, 'the batch');
    assert.is(batch.free, 0, 'nothing is filled in before they are collected');
    assert.is(batch.reap(), 8);
    const ended = Array.from({ length: 8 }, (_, index) => [batch.tag(index), batch.status(index)]);
    assert.equal(
      ended.sort((a, b) => a[0]! - b[0]!),
      Array.from({ length: 8 }, (_, tag) => [tag, VIRTIO_BLK_S_IOERR]),
    );
    model.release();
    assert.is(batch.free, 4);
    batch.read(0, memory, 9);
    batch.submit();
    await batch.wait();
    assert.is(batch.reap(), 1);
    assert.equal([batch.tag(0), batch.status(0)], [9, VIRTIO_BLK_S_OK]);
  });
});

test('sizes that cannot be, queues that there are not and devices that cannot are refused, and nothing happens', async () => {
  await scene(memoryDisk(), { open: { queueSize: 16 } }, async ({ disk }) => {
    for (const queueSize of [0, 2, 12, 32, 1.5, Number.NaN])
      await rejects(disk.resetQueue(0, { queueSize }), 'ERR_ARGUMENT', /queueSize/);
    await rejects(disk.resetQueue(1), 'ERR_ARGUMENT', /queue 1/);
    await rejects(disk.resetQueue(0, { size: 8 } as object), 'ERR_ARGUMENT', /size/);
    assert.is(disk.stats().queues[0]?.size, 16);
    await disk.close();
    await rejects(disk.resetQueue(0), 'ERR_CLOSED');
  });
  await scene(memoryDisk(), { attach: 'mdev' }, async ({ device, disk }) => {
    assert.not(device.features.includes('VIRTIO_F_RING_RESET'));
    await rejects(disk.resetQueue(0), 'ERR_NOT_SUPPORTED', /VIRTIO_F_RING_RESET/);
  });
  const bus = new Bus();
  await using device = await serve(memoryDisk(), { name: 'disk0', bus });
  await rejects(openBlock('disk0', { bus, queueSize: 8, maxQueueSize: 4 }), 'ERR_ARGUMENT', /queueSize/);
  await rejects(openBlock('disk0', { bus, maxQueueSize: 512 }), 'ERR_NOT_SUPPORTED', /maxQueueSize/);
  const disk = await openBlock('disk0', { bus, maxQueueSize: 8 });
  assert.is(disk.stats().queues[0]?.size, 8);
  await disk.close();
  assert.ok(device.features.includes('VIRTIO_F_RING_RESET'));
});

test('a reset that fails breaks the disk, because nobody knows whether its queue runs', async () => {
  for (const fault of [
    { point: 'ioctl', request: VHOST_VDPA_RESET_VRING, errno: 'EIO' },
    { point: 'message', request: VDUSE_SET_VQ_READY, errno: 'EIO' },
  ] as const) {
    const bus = new Bus();
    const device = await serve(memoryDisk(), { name: 'disk0', bus });
    const disk = await openBlock('disk0', { bus });
    const reported = new Promise<Error>((resolve) => disk.on('error', resolve));
    bus.faults.inject(fault);
    await rejects(disk.resetQueue(0), 'ERR_DEVICE_BROKEN', /RESET_VRING/);
    await reported;
    await rejects(disk.read(0, 512), 'ERR_DEVICE_BROKEN');
    await disk.close();
    await device.close();
    await bus.close();
  }
});

test('a disk that is closed while a queue is reset closes, and the reset says so', () =>
  scene(memoryDisk(), { queues: 2, open: { queues: 2 } }, async ({ bus, disk }) => {
    bus.faults.inject({ point: 'message', request: VDUSE_SET_VQ_READY, delay: 50 });
    const reset = disk.resetQueue(1);
    await disk.write(0, new Uint8Array(512));
    const closing = disk.close();
    await Promise.all([closing, reset.catch((error) => assert.is(error.code, 'ERR_CLOSED'))]);
  }));

// A driver that writes its ring by hand.

const NEGOTIATED = { features: [...FEATURES, VIRTIO_F_RING_RESET] };
const RING_BYTES = 0x4000;
/** Where a ring can lie besides, in the driver's memory. */
const ELSEWHERE = 0x3000;

async function drive(
  model: Model,
  options: Partial<ServeOptions>,
  body: (driver: RawDriver, device: ServedDevice) => Promise<void>,
): Promise<void> {
  const bus = new Bus();
  const device = await within(serve(model, { name: 'disk0', bus, packed: false, ...options }), 'serve');
  const driver = await RawDriver.open(bus);
  try {
    await driver.start(NEGOTIATED);
    await body(driver, device);
  } finally {
    await driver.close();
    await within(device.close(), 'closing the device');
    await within(bus.close(), 'closing the bus');
  }
}

/** Offers a read of a sector, without waiting. */
function offerRead(driver: RawDriver): void {
  driver.describe([
    { addr: IOVA + BigInt(HEADER), len: 16 },
    { addr: IOVA + BigInt(DATA), len: 512, flags: 2 },
    { addr: IOVA + BigInt(STATUS_BYTE), len: 1, flags: 2 },
  ]);
  driver.offer(0);
}

const ERASED = new Uint8Array(MEMORY_BYTES).fill(0xee);

/** Writes over all that a device could read or write of a queue, and sees that it stays so for a while. */
async function untouched(driver: RawDriver, during: () => void): Promise<void> {
  const { bytes } = driver.memory;
  bytes.set(ERASED);
  driver.interrupted();
  during();
  for (let look = 0; look < 10; look++) {
    driver.kick();
    await new Promise((resolve) => setTimeout(resolve, 2));
    assert.is(Buffer.compare(bytes, ERASED), 0, 'written to');
  }
  assert.not(driver.interrupted(), 'interrupted');
  bytes.fill(0);
}

test('a queue that is reset while a model holds a request is not touched again, and begins anew elsewhere', async () => {
  const model = new Held();
  await drive(model, {}, async (driver, device) => {
    offerRead(driver);
    await until(() => model.waiting.length === 1, 'the request');
    await driver.resetQueue();
    await untouched(driver, () => model.release());
    assert.is(device.stats().requests, 0);
    await driver.place({ desc: IOVA + BigInt(ELSEWHERE), size: 8 });
    await driver.enable();
    // The first three descriptors of the table, where the queue has it now.
    const request = driver.request(0, 0n, 512);
    driver.memory.bytes.copyWithin(ELSEWHERE, 0, 48);
    driver.kick();
    assert.is(await request, VIRTIO_BLK_S_OK);
    assert.is(driver.used, 1);
  });
});

for (const threads of [0, 1])
  test(`a queue that is reset in the middle of bursts is not touched again (threads: ${threads})`, () =>
    drive(memoryDisk(), { threads }, async (driver, device) => {
      for (let round = 0; round < 5; round++) {
        driver.describe([
          { addr: IOVA + BigInt(HEADER), len: 16 },
          { addr: IOVA + BigInt(DATA), len: 512, flags: 2 },
          { addr: IOVA + BigInt(STATUS_BYTE), len: 1, flags: 2 },
        ]);
        for (let chain = 0; chain < 16; chain++) driver.offer(0);
        await driver.resetQueue();
        const { requests } = device.stats();
        await untouched(driver, () => driver.kick());
        assert.is(device.stats().requests, requests);
        await driver.place();
        await driver.enable();
        assert.ok(await driver.works());
      }
    }));

test('a queue that is started again where nothing is mapped is not run, until it is reset once more', () =>
  drive(memoryDisk(), {}, async (driver, device) => {
    await driver.resetQueue();
    await driver.place({ desc: 0x1000n });
    const error = nextError(device);
    await driver.enable();
    assert.is((await error).code, 'ERR_CONTROL_PLANE');
    await untouched(driver, () => driver.kick());
    await driver.resetQueue();
    await driver.place();
    await driver.enable();
    assert.ok(await driver.works());
    assert.is(await driver.status(), 15, 'no reset of the device was asked for');
  }));

test('a reset needs VIRTIO_F_RING_RESET, a driver that runs and a queue that is ready', () =>
  drive(memoryDisk(), {}, async (driver) => {
    await driver.resetQueue();
    await fails(driver.resetQueue(), 'EINVAL');
    await driver.place();
    await driver.enable();
    await fails(driver.place(), 'EINVAL');
    await driver.reset();
    await fails(driver.resetQueue(), 'EOPNOTSUPP');
    await driver.start({ ...NEGOTIATED, late: true });
    await fails(driver.resetQueue(), 'EINVAL');
    await driver.reset();
    await driver.start();
    await fails(driver.resetQueue(), 'EOPNOTSUPP');
  }));

test('the in-flight log is told: nothing of a queue that was reset is replayed', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-'));
  const inFlightLog = join(folder, 'log');
  const state = () => readFileSync(inFlightLog).readUInt32LE(LOG_HEADER_SIZE + LOG_STATE);
  try {
    const model = new Held();
    await drive(model, { inFlightLog }, async (driver) => {
      offerRead(driver);
      await until(() => model.waiting.length === 1, 'the request');
      assert.is(state(), LOG_STATE_SPLIT);
      await driver.resetQueue();
      assert.is(state(), LOG_STATE_IDLE);
      model.release();
      driver.memory.bytes.fill(0, 0, RING_BYTES);
      await driver.place();
      await driver.enable();
      assert.ok(await driver.works());
      assert.is(state(), LOG_STATE_SPLIT);
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test.run();
