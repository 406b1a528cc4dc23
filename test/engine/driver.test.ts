import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { VIRTIO_BLK_T_IN, VIRTQ_USED_IDX, VIRTQ_USED_RING } from '../../assembly/virtio.js';
import { Ring } from './fixture.js';

/** A ring with three reads in flight that the test answers by hand, as a device might. */
function inFlight(indirect: boolean): Ring {
  const ring = new Ring({ size: 16, indirect });
  for (let i = 0; i < 3; i++)
    ring.submission(i, { type: VIRTIO_BLK_T_IN, sector: i, linear: ring.buffers + i * 512, bytes: 512 });
  ring.engine.blkSubmit(ring.dq, ring.submissions, 3);
  return ring;
}

/** Publishes used entries as the device would. */
function use(ring: Ring, ...entries: [id: number, bytes: number][]): void {
  let index = ring.u16(ring.used + VIRTQ_USED_IDX);
  for (const [id, bytes] of entries) {
    const at = ring.used + VIRTQ_USED_RING + (index % ring.size) * 8;
    ring.data.setUint32(at, id, true);
    ring.data.setUint32(at + 4, bytes, true);
    index++;
  }
  ring.data.setUint16(ring.used + VIRTQ_USED_IDX, index, true);
}

const reap = (ring: Ring) => ring.engine.blkReap(ring.dq, ring.completions, 64, 0, 0);
const verdict = (ring: Ring) => ring.u32(ring.dq + layout.DQ_VERDICT);

for (const indirect of [false, true]) {
  const kind = indirect ? 'indirect' : 'direct';
  const head = (slot: number) => (indirect ? slot : slot * 3);

  test(`used entries in any order complete their own requests (${kind})`, () => {
    const ring = inFlight(indirect);
    use(ring, [head(2), 513], [head(0), 513], [head(1), 1]);
    assert.is(reap(ring), 3);
    assert.equal(
      ring.completed(3).map((done) => [done.tag, done.bytes]),
      [
        [2, 513],
        [0, 513],
        [1, 1],
      ],
    );
    assert.is(verdict(ring), layout.VERDICT_NONE);
  });

  test(`a used id that is no head, or not in flight, breaks the queue after those before it (${kind})`, () => {
    for (const id of [head(3), 16, 0xffffffff, ...(indirect ? [] : [1, 4])]) {
      const ring = inFlight(indirect);
      use(ring, [head(1), 513], [id, 1]);
      assert.is(reap(ring), 1);
      assert.is(verdict(ring), layout.VERDICT_USED_ID, `id ${id}`);
      assert.is(reap(ring), 0);
      assert.is(ring.engine.blkSubmit(ring.dq, ring.submissions, 1), 0, 'a broken queue takes nothing');
    }
  });

  test(`the same used id twice breaks the queue: no request completes twice (${kind})`, () => {
    const ring = inFlight(indirect);
    use(ring, [head(1), 513], [head(1), 513]);
    assert.is(reap(ring), 1);
    assert.is(verdict(ring), layout.VERDICT_USED_ID);
  });
}

test('used.idx beyond what is in flight breaks the queue', () => {
  for (const ahead of [4, 65535]) {
    const ring = inFlight(true);
    ring.data.setUint16(ring.used + VIRTQ_USED_IDX, ahead, true);
    assert.is(reap(ring), 0);
    assert.is(verdict(ring), layout.VERDICT_USED_INDEX);
  }
});

test('a used length beyond the writable bytes breaks the queue', () => {
  const ring = inFlight(true);
  use(ring, [0, 514]);
  assert.is(reap(ring), 0);
  assert.is(verdict(ring), layout.VERDICT_USED_LENGTH);
});

test('a device that scribbles over descriptors, headers and the available ring cannot confuse the driver', () => {
  const ring = inFlight(false);
  ring.u8.fill(0xee, ring.desc, ring.used);
  use(ring, [0, 513], [3, 513], [6, 513]);
  assert.is(reap(ring), 3);
  assert.equal(
    ring.completed(3).map((done) => done.tag),
    [0, 1, 2],
  );
  for (let i = 0; i < 3; i++)
    ring.submission(i, { type: VIRTIO_BLK_T_IN, linear: ring.buffers, bytes: 512, tag: 50 + i });
  ring.data.setUint16(ring.avail + 2, 3, true);
  assert.is(ring.engine.blkSubmit(ring.dq, ring.submissions, 3) & layout.COUNT_MASK, 3);
});

test('a status byte that the device never wrote is not OK', () => {
  const ring = inFlight(true);
  use(ring, [0, 513]);
  reap(ring);
  assert.is(ring.completed(1)[0]?.status, 255);
});

test('a full ring takes what fits, and the rest after completions', () => {
  const ring = new Ring({ size: 16, indirect: false });
  for (let i = 0; i < 10; i++)
    ring.submission(i, { type: VIRTIO_BLK_T_IN, linear: ring.buffers, bytes: 512 });
  assert.is(ring.engine.blkSubmit(ring.dq, ring.submissions, 10) & layout.COUNT_MASK, 5);
  assert.is(ring.engine.blkSubmit(ring.dq, ring.submissions, 10) & layout.COUNT_MASK, 0);
  ring.engine.blkServe(ring.vq, ring.disk);
  assert.is(reap(ring), 5);
  assert.is(ring.engine.blkSubmit(ring.dq, ring.submissions, 10) & layout.COUNT_MASK, 5);
});

test.run();
