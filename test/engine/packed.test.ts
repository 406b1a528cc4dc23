import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import {
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from '../../assembly/virtio.js';
import { DISK_LINEAR, Ring, type RingOptions } from './fixture.js';
import { generator } from './random.js';

/** Sizes of a ring: none, most and all of them powers of two, down to the least that a request fits into. */
const SIZES = [3, 4, 5, 7, 8, 16, 100, 255];
const SECTOR = 512;

/** Runs requests of random kinds and numbers through driver and device, and checks every byte of them. */
function roundTrips(options: RingOptions, rounds: number, seed: number): void {
  const random = generator(seed);
  const ring = new Ring({ packed: true, ...options });
  const { engine, dq, vq } = ring;
  const slots = ring.u32(dq + layout.DQ_SLOTS);
  const disk = ring.u8.subarray(DISK_LINEAR, DISK_LINEAR + 64 * SECTOR);
  const expected = new Uint8Array(disk.length);
  let served = 0;
  for (let round = 0; round < rounds; round++) {
    const count = 1 + random(Math.min(slots, 32));
    const requests = Array.from({ length: count }, (_, i) => {
      const type = [VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_FLUSH][random(3)]!;
      const request = { type, sector: i, linear: ring.buffers + i * SECTOR, bytes: SECTOR, tag: served + i };
      ring.submission(i, request);
      const data = ring.u8.subarray(request.linear, request.linear + SECTOR);
      data.fill(random(256));
      if (type === VIRTIO_BLK_T_OUT) expected.set(data, i * SECTOR);
      return request;
    });
    assert.is(engine.blkSubmit(dq, ring.submissions, count) & layout.COUNT_MASK, count);
    for (let done = 0; done < count; ) {
      const burst = engine.blkServe(vq, ring.disk) & layout.COUNT_MASK;
      assert.ok(burst > 0, `round ${round}: ${done} of ${count} served`);
      done += burst;
    }
    // In two parts, so that what is left of a batch is gone on with.
    const first = engine.blkReap(dq, ring.completions, 1 + random(count), 0, 0);
    const completions = ring.completed(first);
    const rest = engine.blkReap(dq, ring.completions, 256, 0, 0);
    completions.push(...ring.completed(rest));
    assert.equal(
      completions.map(({ tag, status }) => [tag, status]),
      requests.map(({ tag }) => [tag, VIRTIO_BLK_S_OK]),
      `round ${round}`,
    );
    for (const [i, { type, linear }] of requests.entries())
      if (type === VIRTIO_BLK_T_IN)
        assert.equal(ring.u8.slice(linear, linear + SECTOR), expected.slice(i * SECTOR, (i + 1) * SECTOR));
    served += count;
  }
  assert.equal(disk.slice(), expected);
  assert.is(ring.verdict(), layout.VERDICT_NONE);
  assert.is(ring.u32(dq + layout.DQ_VERDICT), layout.VERDICT_NONE);
  assert.is(ring.counter(vq, layout.VQ_REQUESTS), served);
}

for (const indirect of [false, true])
  for (const inOrder of [false, true])
    test(`driver and device understand each other over many laps, ${indirect ? 'indirect' : 'direct'}, ${inOrder ? 'in order' : 'in any order'}`, () => {
      for (const size of SIZES)
        for (const eventIdx of [false, true]) roundTrips({ size, indirect, inOrder, eventIdx }, 300, size);
    });

test.run();
