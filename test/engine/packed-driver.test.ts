import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  VIRTIO_BLK_T_IN,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../../assembly/virtio.js';
import { Ring, type RingOptions } from './fixture.js';

const USED = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

/** A packed ring with three reads in flight that the test answers by hand, as a device might. */
function inFlight(options: RingOptions): Ring {
  const ring = new Ring({ size: 16, packed: true, ...options });
  for (let i = 0; i < 3; i++)
    ring.submission(i, { type: VIRTIO_BLK_T_IN, sector: i, linear: ring.buffers + i * 512, bytes: 512 });
  ring.engine.blkSubmit(ring.dq, ring.submissions, 3);
  return ring;
}

/** Writes a used descriptor of the first lap in place `index`. */
function use(ring: Ring, index: number, id: number, bytes: number): void {
  const at = ring.desc + index * VIRTQ_DESC_SIZE;
  ring.data.setUint16(at + PVIRTQ_DESC_ID, id, true);
  ring.data.setUint32(at + PVIRTQ_DESC_LEN, bytes, true);
  ring.data.setUint16(at + PVIRTQ_DESC_FLAGS, USED | VIRTQ_DESC_F_WRITE, true);
}

const reap = (ring: Ring, max = 64) => ring.engine.blkReap(ring.dq, ring.completions, max, 0, 0);
const verdict = (ring: Ring) => ring.u32(ring.dq + layout.DQ_VERDICT);
const tags = (ring: Ring, count: number) => ring.completed(count).map((done) => [done.tag, done.bytes]);

for (const indirect of [false, true]) {
  const kind = indirect ? 'indirect' : 'direct';
  /** Descriptors of the ring that a request takes. */
  const step = indirect ? 1 : 3;

  test(`used descriptors in any order complete their own requests (${kind})`, () => {
    const ring = inFlight({ indirect });
    use(ring, 0, 2, 513);
    use(ring, step, 0, 513);
    assert.is(reap(ring), 2);
    assert.equal(tags(ring, 2), [
      [2, 513],
      [0, 513],
    ]);
    use(ring, 2 * step, 1, 1);
    assert.is(ring.engine.driverArm(ring.dq), 1);
    assert.is(reap(ring), 1);
    assert.equal(tags(ring, 1), [[1, 1]]);
    assert.is(verdict(ring), layout.VERDICT_NONE);
  });

  test(`an id that is not in flight breaks the queue after those before it (${kind})`, () => {
    for (const id of [1, 3, 16, 65535]) {
      const ring = inFlight({ indirect });
      use(ring, 0, 1, 513);
      use(ring, step, id, 1);
      assert.is(reap(ring), 1);
      assert.is(verdict(ring), layout.VERDICT_USED_ID, `id ${id}`);
      assert.is(reap(ring), 0);
      assert.is(ring.engine.blkSubmit(ring.dq, ring.submissions, 1), 0, 'a broken queue takes nothing');
    }
  });

  test(`a length beyond the writable bytes breaks the queue (${kind})`, () => {
    const ring = inFlight({ indirect });
    use(ring, 0, 0, 514);
    assert.is(reap(ring), 0);
    assert.is(verdict(ring), layout.VERDICT_USED_LENGTH);
  });

  test(`in order, a used descriptor ends what was offered before it, written completely (${kind})`, () => {
    const ring = inFlight({ indirect, inOrder: true });
    use(ring, 0, 2, 1);
    // In two parts: the batch goes on where the table ended.
    assert.is(reap(ring, 2), 2);
    assert.equal(tags(ring, 2), [
      [0, 513],
      [1, 513],
    ]);
    assert.is(ring.engine.driverArm(ring.dq), 1);
    assert.is(reap(ring, 2), 1);
    assert.equal(tags(ring, 1), [[2, 1]]);
    assert.is(ring.engine.driverArm(ring.dq), 0);
    assert.is(verdict(ring), layout.VERDICT_NONE);
  });

  test(`in order, an id that is not in flight breaks the queue (${kind})`, () => {
    for (const id of [3, 16, 65535]) {
      const ring = inFlight({ indirect, inOrder: true });
      use(ring, 0, id, 1);
      assert.is(reap(ring), 0);
      assert.is(verdict(ring), layout.VERDICT_USED_ID, `id ${id}`);
    }
  });
}

test('what the device marks used when nothing is in flight is not looked at', () => {
  const ring = new Ring({ size: 16, packed: true });
  use(ring, 0, 0, 1);
  assert.is(reap(ring), 0);
  assert.is(ring.engine.driverArm(ring.dq), 0);
  assert.is(verdict(ring), layout.VERDICT_NONE);
});

test('a device that scribbles over the ring cannot confuse the driver: descriptors are written anew', () => {
  const ring = inFlight({ indirect: false });
  ring.u8.fill(0xee, ring.desc + 9 * VIRTQ_DESC_SIZE, ring.desc + 16 * VIRTQ_DESC_SIZE);
  for (const slot of [0, 1, 2]) use(ring, slot * 3, slot, 513);
  assert.is(reap(ring), 3);
  ring.submission(0, { type: VIRTIO_BLK_T_IN, linear: ring.buffers, bytes: 512, tag: 50 });
  assert.is(ring.engine.blkSubmit(ring.dq, ring.submissions, 1) & layout.COUNT_MASK, 1);
  const flags = [9, 10, 11].map((index) => ring.u16(ring.desc + index * VIRTQ_DESC_SIZE + PVIRTQ_DESC_FLAGS));
  const available = VIRTQ_DESC_F_AVAIL;
  assert.equal(
    flags.map((word) => word & (USED | VIRTQ_DESC_F_NEXT)),
    [available | VIRTQ_DESC_F_NEXT, available | VIRTQ_DESC_F_NEXT, available],
  );
});

test.run();
