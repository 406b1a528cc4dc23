import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { VirtioDriver } from '../../host/drivers/virtio-driver.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { BlockModel } from '../../host/models/blk/block-model.js';
import type { ServeOptions } from '../../host/serve.js';
import { decodePackedVringBase } from '../../host/uapi/vring-base.js';
import { imageFile, scene, within } from './fixture.js';

const BYTES = 2 ** 20;
const BLOCK = 4096;

/** A disk in an array, whose reads end in any order. */
class Shuffled extends BlockModel {
  override capacity = BYTES;
  readonly #bytes = new Uint8Array(BYTES);

  override async read(offset: number, into: Uint8Array): Promise<void> {
    if ((offset / BLOCK) % 3) await new Promise((resolve) => setImmediate(resolve));
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  override write(offset: number, from: Uint8Array): void {
    this.#bytes.set(from, offset);
  }
}

const MODELS = {
  'a disk in memory': () => new BlockDevice({ memory: BYTES }),
  'a model in JavaScript': () => new Shuffled(),
};

/** What is offered, and what of it a driver takes that wants everything. */
const FORMATS: [Partial<ServeOptions>, packed: boolean, inOrder: boolean][] = [
  [{}, true, false],
  [{ packed: false }, false, false],
  [{ packed: false, inOrder: true }, false, false],
  [{ inOrder: true }, true, true],
  [{ indirect: false }, true, false],
  [{ indirect: false, inOrder: true, threads: 0 }, true, true],
  [{ queueSize: 4 }, true, false],
  [{ queueSize: 4, indirect: false, inOrder: true }, true, true],
  [{ queueSize: 32768, inOrder: true }, true, true],
  [{ queueSize: 32768, packed: false }, false, false],
];

for (const [what, make] of Object.entries(MODELS))
  for (const [options, packed, inOrder] of FORMATS)
    test(`${what}, served with ${JSON.stringify(options)}: what is written is read, over many laps`, async () => {
      const { queueSize = 64 } = options;
      await scene(make(), { ...options, queueSize, open: { queueSize, slotBytes: BLOCK } }, async (it) => {
        assert.is(it.disk.features.includes('VIRTIO_F_RING_PACKED'), packed);
        // A model in JavaScript gives requests back as they end.
        const backed = what === 'a disk in memory';
        assert.is(it.disk.features.includes('VIRTIO_F_IN_ORDER'), inOrder && backed);
        const blocks = BYTES / BLOCK;
        for (let round = 0; round < 4; round++) {
          const data = Array.from({ length: blocks }, (_, i) => new Uint8Array(BLOCK).fill(i * 7 + round));
          await within(Promise.all(data.map((block, i) => it.disk.write(i * BLOCK, block))), 'writes');
          const order = data.map((_, i) => (i * 97 + round) % blocks);
          const read = await within(Promise.all(order.map((i) => it.disk.read(i * BLOCK, BLOCK))), 'reads');
          assert.ok(
            read.every((block, k) => Buffer.compare(block, data[order[k]!]!) === 0),
            `round ${round}`,
          );
        }
        assert.is(it.disk.stats().requests, 8 * blocks);
        assert.equal(it.errors, []);
      });
    });

test('the position of a packed ring is asked for in the form of a vring base, wrap counters and all', async () => {
  const queueSize = 16;
  await scene(new BlockDevice({ memory: BYTES }), { queueSize, open: { queueSize } }, async ({ disk }) => {
    const { device } = (disk as unknown as { driver: VirtioDriver }).driver;
    for (let requests = 0; requests <= 40; requests++) {
      const place = {
        last_avail_idx: requests % queueSize,
        last_avail_counter: 1 - (Math.floor(requests / queueSize) % 2),
      };
      const { last_avail_idx: last_used_idx, last_avail_counter: last_used_counter } = place;
      const position = { ...place, last_used_idx, last_used_counter };
      assert.equal(decodePackedVringBase(await device.vringBase(0)), position, `after ${requests} requests`);
      await within(disk.write(0, new Uint8Array(512)), 'write');
    }
  });
});

test('a driver pins the format', async () => {
  const serveOptions = { inOrder: true };
  for (const [open, packed, inOrder] of [
    [{ packed: false }, false, false],
    [{ inOrder: false }, true, false],
    [{ packed: true }, true, true],
  ] as const)
    await scene(new BlockDevice({ memory: BYTES }), { ...serveOptions, open }, async ({ disk }) => {
      assert.is(disk.features.includes('VIRTIO_F_RING_PACKED'), packed);
      assert.is(disk.features.includes('VIRTIO_F_IN_ORDER'), inOrder);
      await within(disk.write(0, new Uint8Array(512)), 'write');
    });
});

test('with an in-flight log rings are split, unless packed ones are asked for', async () => {
  const image = imageFile(BYTES);
  const inFlightLog = `${image.path}.log`;
  try {
    for (const [options, packed] of [
      [{ inFlightLog }, false],
      [{ inFlightLog, packed: true }, true],
    ] as const)
      await scene(new BlockDevice({ file: image.path }), options, async ({ disk }) => {
        assert.is(disk.features.includes('VIRTIO_F_RING_PACKED'), packed);
        await within(disk.write(0, new Uint8Array(512)), 'write');
      });
  } finally {
    image.remove();
  }
});

test.run();
