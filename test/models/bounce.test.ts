/** What a device notices of a driver that bounces: its memory grows while requests are in flight. */
import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { FaultInjection } from '../../host/bus/index.js';
import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import { serve } from '../../host/serve.js';
import { VHOST_IOTLB_UPDATE } from '../../host/uapi/vhost.js';
import { scene, until, within } from './fixture.js';

const BYTES = 2 ** 22;
const LENGTH = 65536;
/** Requests of LENGTH bytes that the first bounce buffers hold. */
const FIRST = 16;

/** Lets all IOTLB updates pass, and counts them. */
function countUpdates(faults: FaultInjection): () => number {
  const counted = faults.inject({
    point: 'write',
    request: VHOST_IOTLB_UPDATE,
    delay: 0,
    times: Number.MAX_SAFE_INTEGER,
  });
  return () => counted.hits;
}

/** A disk that answers when it is told to, from its own memory. */
class HeldModel extends BlockModel {
  readonly capacity = BYTES;
  readonly contents = randomBytes(BYTES);
  held = 0;
  #release!: () => void;
  readonly #released = new Promise<void>((resolve) => {
    this.#release = resolve;
  });

  override async read(offset: number, into: Uint8Array): Promise<void> {
    this.held++;
    await this.#released;
    into.set(this.contents.subarray(offset, offset + into.length));
  }

  override async write(offset: number, data: Uint8Array): Promise<void> {
    this.held++;
    await this.#released;
    this.contents.set(data, offset);
  }

  release(): void {
    this.#release();
  }
}

for (const parent of ['set_map', 'dma_map'] as const) {
  test(`the device is told of more buffers while it has requests, and loses none: ${parent}`, async () => {
    const model = new HeldModel();
    const before = Buffer.from(model.contents);
    const written = randomBytes(BYTES / 2);
    await scene(model, { parent, open: { bounce: true } }, async ({ bus, disk, errors }) => {
      const updates = countUpdates(bus.faults);
      const count = 2 * FIRST;
      const reads = Array.from({ length: count }, (_, index) => disk.read(index * LENGTH, LENGTH));
      const writes = Array.from({ length: count }, (_, index) =>
        disk.write(BYTES / 2 + index * LENGTH, written.subarray(index * LENGTH, (index + 1) * LENGTH)),
      );
      // All of them reach the model at once, four times as many as there were buffers for.
      await until(() => model.held === 4 * FIRST, 'the last request');
      assert.is(updates(), 2);
      model.release();
      const bytes = Buffer.concat(await Promise.all(reads));
      await Promise.all(writes);
      assert.ok(bytes.equals(before.subarray(0, BYTES / 2)));
      assert.ok(model.contents.subarray(BYTES / 2).equals(written));
      assert.equal(errors, []);
    });
  });

  test(`no byte is lost while memory comes under load: ${parent}`, () =>
    scene(
      new BlockDevice({ memory: BYTES }),
      { parent, queues: 2, open: { bounce: true, queues: 2 } },
      async ({ bus, disk, errors }) => {
        const updates = countUpdates(bus.faults);
        const contents = randomBytes(BYTES);
        const pieces = Array.from({ length: BYTES / LENGTH }, (_, index) => index * LENGTH);
        await Promise.all(
          pieces.map(async (offset) => {
            await disk.write(offset, contents.subarray(offset, offset + LENGTH));
            const back = (await disk.read(offset, LENGTH)) as Buffer;
            assert.is(Buffer.compare(back, contents.subarray(offset, offset + LENGTH)), 0);
          }),
        );
        assert.ok(updates() >= 1, 'the device was told of more');
        assert.is(Buffer.compare(await disk.read(0, BYTES), contents), 0);
        assert.equal(errors, []);
      },
    ));
}

for (const format of [
  { packed: false },
  { packed: false, indirect: false },
  { packed: true },
  { packed: true, inOrder: true },
])
  test(`every format of the ring bounces: ${JSON.stringify(format)}`, () =>
    scene(
      new BlockDevice({ memory: BYTES }),
      { ...format, open: { bounce: true } },
      async ({ disk, errors }) => {
        assert.is(disk.features.includes('VIRTIO_F_RING_PACKED'), format.packed);
        assert.is(disk.features.includes('VIRTIO_F_IN_ORDER'), format.inOrder ?? false);
        const contents = randomBytes(BYTES);
        await disk.write(0, contents);
        assert.is(Buffer.compare(await disk.read(0, BYTES), contents), 0);
        await disk.discard(0, LENGTH);
        assert.ok((await disk.read(0, LENGTH)).every((byte) => byte === 0));
        assert.equal(errors, []);
      },
    ));

test('where the device takes no more buffers, requests wait for one another', async () => {
  await using bus = new Bus();
  await using device = await serve(new BlockDevice({ memory: BYTES }), { name: 'disk0', bus });
  const refused = bus.faults.inject({
    point: 'write',
    request: VHOST_IOTLB_UPDATE,
    errno: 'ENOMEM',
    skip: 1,
    times: Number.MAX_SAFE_INTEGER,
  });
  await using disk = await openBlock('disk0', { bus, bounce: true });
  const contents = randomBytes(BYTES);
  await within(disk.write(0, contents), 'writing');
  assert.is(Buffer.compare(await within(disk.read(0, BYTES), 'reading'), contents), 0);
  assert.is(refused.hits, 1, 'asked once');
  assert.is(device.status & 0x40, 0);
});

test('requests that wait for a buffer can be aborted, and leave their place', async () => {
  const model = new HeldModel();
  await scene(model, { open: { bounce: true, bounceBytes: 2 ** 20 } }, async ({ disk }) => {
    const first = Array.from({ length: FIRST }, (_, index) => disk.read(index * LENGTH, LENGTH));
    await until(() => model.held === FIRST, 'the buffers to be taken');
    const controller = new AbortController();
    const aborted = disk.read(0, LENGTH, { signal: controller.signal });
    const last = disk.read(LENGTH, LENGTH);
    await new Promise(setImmediate);
    controller.abort();
    let error: Error | undefined;
    await aborted.catch((caught) => {
      error = caught;
    });
    assert.is(error?.name, 'AbortError');
    model.release();
    await Promise.all(first);
    assert.is(Buffer.compare(await last, model.contents.subarray(LENGTH, 2 * LENGTH)), 0);
    assert.is(model.held, FIRST + 1, 'the aborted one never reached the device');
  });
});

test('closing with requests that wait for a buffer waits for them', async () => {
  await scene(
    new BlockDevice({ memory: BYTES }),
    { open: { bounce: true, bounceBytes: 2 ** 20 } },
    async ({ disk }) => {
      const contents = randomBytes(BYTES / 2);
      const write = disk.write(0, contents);
      await Promise.all([write, within(disk.close(), 'closing')]);
    },
  );
});

test.run();
