import { randomFillSync } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { VIRTQ_DESC_F_WRITE } from '../../assembly/virtio.js';
import { LOG_LINEAR, Ring } from './fixture.js';

const SIZE = 8;

/** A ring with a log, whose descriptors are chains of one writable byte each. */
function ring(): Ring {
  const made = new Ring({ size: SIZE, log: true });
  for (let head = 0; head < SIZE; head++)
    made.descriptor(head, made.iova(made.buffers + head), 1, VIRTQ_DESC_F_WRITE);
  return made;
}

/** Takes `count` requests: their blocks. */
function take(from: Ring, count: number): number[] {
  return Array.from({ length: count }, () => {
    const block = from.allocate(layout.REQUEST_DESCRIPTORS + (SIZE + 1) * 16);
    assert.is(from.engine.requestTake(from.vq, block), 1);
    return block;
  });
}

/** Gives back and publishes. */
function give(to: Ring, ...blocks: number[]): void {
  for (const block of blocks) to.engine.requestFinish(to.vq, block, 1);
  to.engine.requestPublish(to.vq, blocks.length);
}

const heads = (from: Ring, blocks: number[]) => blocks.map((block) => from.u32(block + layout.REQUEST_HEAD));

test('what was taken and not given back is taken first, in its order, then what else waits', () => {
  const vq = ring();
  vq.offer(3, 1, 4, 5);
  const [three, , four] = take(vq, 3);
  give(vq, three!);
  give(vq, four!);
  vq.offer(3);
  assert.is(vq.engine.deviceResume(vq.vq), 1);
  assert.is(vq.engine.devicePending(vq.vq), 3);
  assert.is(vq.counter(vq.vq, layout.VQ_REPLAYED), 1);
  assert.equal(heads(vq, take(vq, 3)), [1, 5, 3]);
  assert.is(vq.engine.requestTake(vq.vq, vq.request), 0);
});

test('a burst ends where the replay does', () => {
  const vq = ring();
  vq.offer(2, 6, 7);
  const [two] = take(vq, 2);
  give(vq, two!);
  vq.engine.deviceResume(vq.vq);
  assert.is(vq.pop(), 1);
  assert.is(vq.chain(0).head, 6);
  assert.is(vq.engine.devicePush(vq.vq, 1) & layout.COUNT_MASK, 1);
  assert.is(vq.pop(), 1);
  assert.is(vq.chain(0).head, 7);
});

test('an available index that was ahead of the used one stays so', () => {
  const vq = ring();
  for (let i = 0; i < 5; i++) vq.offer(i);
  vq.engine.deviceStart(vq.vq, 3);
  const [three] = take(vq, 2);
  give(vq, three!);
  vq.engine.deviceResume(vq.vq);
  assert.equal(heads(vq, take(vq, 1)), [4]);
  assert.is(vq.engine.devicePending(vq.vq), 0);
});

test('a head that rests while 65,536 others come and go is not in flight', () => {
  const vq = ring();
  const block = vq.allocate(layout.REQUEST_DESCRIPTORS + (SIZE + 1) * 16);
  for (let i = 0; i < 65536; i++) {
    vq.offer(i === 0 ? 7 : 0);
    vq.engine.requestTake(vq.vq, block);
    give(vq, block);
  }
  vq.engine.deviceResume(vq.vq);
  assert.is(vq.verdict(), 0);
  assert.is(vq.counter(vq.vq, layout.VQ_REPLAYED), 0);
  assert.is(vq.engine.devicePending(vq.vq), 0);
});

test('a queue that the driver has not started is not resumed, nor one without a log', () => {
  const vq = ring();
  vq.engine.deviceIdle(vq.vq);
  assert.is(vq.engine.deviceResume(vq.vq), 0);
  assert.is(new Ring().engine.deviceResume(new Ring().vq), 0);
});

test('a start empties the log', () => {
  const vq = ring();
  vq.offer(1);
  take(vq, 1);
  vq.start();
  vq.data.setUint16(vq.avail + 2, 0, true);
  vq.engine.deviceResume(vq.vq);
  assert.is(vq.engine.devicePending(vq.vq), 0);
});

test('more in flight than the driver has offered breaks the queue', () => {
  const vq = ring();
  vq.offer(1, 2);
  take(vq, 2);
  vq.data.setUint16(vq.avail + 2, 1, true);
  assert.is(vq.engine.deviceResume(vq.vq), 1);
  assert.is(vq.verdict(), layout.VERDICT_IN_FLIGHT_LOG);
  assert.is(vq.pop(), 0);
});

test('whatever a log holds: each head is replayed once at most, or the queue is broken', () => {
  let replayed = 0;
  for (let round = 0; round < 500; round++) {
    const vq = ring();
    vq.offer(...Array(SIZE).keys());
    const section = vq.u8.subarray(
      LOG_LINEAR,
      LOG_LINEAR + layout.LOG_ENTRIES + SIZE * layout.LOG_ENTRY_SIZE,
    );
    const plain = new Uint8Array(section.length);
    randomFillSync(plain);
    section.set(plain);
    vq.set(LOG_LINEAR, {
      [layout.LOG_STATE]: layout.LOG_STATE_SPLIT,
      ...(round % 2 && { [layout.LOG_AHEAD]: 0 }),
      // Any other count is below none of the entries.
      [layout.LOG_USED + 4]: round % 4 ? 0x8000_0000 : vq.u32(LOG_LINEAR + layout.LOG_USED + 4),
    });
    assert.is(vq.engine.deviceResume(vq.vq), 1);
    const seen = new Set<number>();
    for (let taken = vq.pop(); taken > 0 && seen.size <= SIZE; taken = vq.pop()) {
      for (let i = 0; i < taken; i++) seen.add(vq.chain(i).head);
      if (vq.u32(vq.vq + layout.VQ_REPLAYING)) replayed += taken;
      vq.engine.devicePush(vq.vq, taken);
    }
    assert.ok([...seen].every((head) => head < SIZE));
  }
  assert.ok(replayed > 500, `${replayed} heads`);
});

test.run();
