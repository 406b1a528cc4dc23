import { randomFillSync } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE, VIRTQ_DESC_SIZE } from '../../assembly/virtio.js';
import { LOG_LINEAR, type RingOptions } from './fixture.js';
import { PackedRing } from './packed-ring.js';

const SIZE = 8;

const ring = (options: RingOptions = {}) => new PackedRing({ size: SIZE, log: true, ...options });

/** Offers a list of `descriptors` writable bytes. */
function offer(to: PackedRing, id: number, descriptors = 1): void {
  const byte = (isLast: boolean) => ({
    iova: to.iova(to.buffers + id),
    bytes: 1,
    flags: VIRTQ_DESC_F_WRITE | (isLast ? 0 : VIRTQ_DESC_F_NEXT),
    id,
  });
  to.list(...Array.from({ length: descriptors }, (_, i) => byte(i === descriptors - 1)));
}

/** Takes `count` requests: their blocks. */
function take(from: PackedRing, count: number): number[] {
  return Array.from({ length: count }, () => {
    const block = from.allocate(layout.REQUEST_DESCRIPTORS + (SIZE + 1) * 16);
    assert.is(from.engine.requestTake(from.vq, block), 1);
    return block;
  });
}

/** Gives back and publishes. */
function give(to: PackedRing, ...blocks: number[]): void {
  for (const block of blocks) to.engine.requestFinish(to.vq, block, 1);
  to.engine.requestPublish(to.vq, blocks.length);
}

/** Ids and descriptors of requests. */
const ids = (from: PackedRing, blocks: number[]) =>
  blocks.map((block) => [from.u16(block + layout.REQUEST_HEAD), from.u16(block + layout.REQUEST_HEAD + 2)]);

test('what was taken and not given back is taken first, in its order, although the driver has its descriptors back', () => {
  const vq = ring();
  offer(vq, 3, 2);
  offer(vq, 1);
  offer(vq, 4, 3);
  const [three, one, four] = take(vq, 3);
  give(vq, four!);
  // What was used lies over the first request, and the driver overwrites the rest of it.
  assert.equal(vq.use(3), { id: 4, bytes: 1 });
  offer(vq, 5, 2);
  offer(vq, 6, 3);
  assert.is(vq.engine.deviceResume(vq.vq), 1);
  assert.is(vq.counter(vq.vq, layout.VQ_REPLAYED), 2);
  assert.is(vq.engine.devicePending(vq.vq), 1);
  const again = take(vq, 4);
  assert.equal(
    ids(vq, again),
    ids(vq, [three!, one!]).concat([
      [5, 2],
      [6, 3],
    ]),
  );
  assert.is(vq.engine.devicePending(vq.vq), 0);
  give(vq, ...again);
  assert.equal(
    [vq.use(2), vq.use(1), vq.use(2), vq.use(3)].map((used) => used?.id),
    [3, 1, 5, 6],
  );
  assert.is(vq.verdict(), 0);
});

test('an indirect table is one entry of the log, and is read again', () => {
  const vq = ring({ indirect: true });
  const byte = { iova: vq.iova(vq.buffers), bytes: 1, flags: VIRTQ_DESC_F_WRITE };
  vq.list({ ...vq.table(vq.buffers + 64, { ...byte, flags: 0 }, byte, byte), id: 2 });
  take(vq, 1);
  vq.engine.deviceResume(vq.vq);
  const [block] = take(vq, 1);
  assert.equal(ids(vq, [block!]), [[2, 1]]);
  assert.is(vq.u32(block! + layout.REQUEST_COUNT), 3);
  assert.is(vq.u32(block! + layout.REQUEST_READABLE_COUNT), 1);
});

test('a burst ends where the replay does, and what it gives back is in flight no longer', () => {
  const vq = ring();
  offer(vq, 6, 2);
  offer(vq, 7);
  take(vq, 1);
  vq.engine.deviceResume(vq.vq);
  assert.is(vq.pop(), 1);
  assert.equal(vq.buffer(0), { id: 6, descriptors: 2 });
  vq.push(1);
  vq.engine.deviceResume(vq.vq);
  assert.is(vq.pop(), 1);
  assert.equal(vq.buffer(0), { id: 7, descriptors: 1 });
});

test('a device that sleeps at the end of a replay is woken by what the ring has next', () => {
  const vq = ring({ eventIdx: true });
  offer(vq, 1, 2);
  take(vq, 1);
  vq.engine.deviceResume(vq.vq);
  take(vq, 1);
  assert.is(vq.engine.deviceArm(vq.vq), 0);
  assert.is(vq.u16(vq.used), 2 | 0x8000, 'the place that it waits for');
  offer(vq, 2);
  assert.is(vq.engine.devicePending(vq.vq), 1);
});

test('an available position that was ahead of the used one stays so', () => {
  const vq = ring();
  for (let id = 0; id < 5; id++) offer(vq, id);
  vq.engine.deviceStart(vq.vq, (3 | 0x8000 | (0x8000 << 16)) >>> 0);
  const [three] = take(vq, 2);
  give(vq, three!);
  vq.engine.deviceResume(vq.vq);
  assert.equal(ids(vq, take(vq, 1)), [[4, 1]]);
  assert.is(vq.engine.devicePending(vq.vq), 0);
});

test('more than the driver has been given back has no entry, and breaks the queue', () => {
  const vq = ring();
  for (let id = 0; id < SIZE; id++) offer(vq, id);
  const blocks = take(vq, SIZE);
  for (const block of blocks) vq.engine.requestFinish(vq.vq, block, 1);
  // Nothing is published yet.
  offer(vq, 0);
  assert.is(vq.engine.requestTake(vq.vq, vq.request), 0);
  assert.is(vq.verdict(), layout.VERDICT_AVAIL_INDEX);
});

test('a log of a ring of the other format is none', () => {
  const vq = ring();
  vq.set(LOG_LINEAR, { [layout.LOG_STATE]: layout.LOG_STATE_SPLIT });
  assert.is(vq.engine.deviceResume(vq.vq), 1);
  assert.is(vq.verdict(), layout.VERDICT_IN_FLIGHT_LOG);
});

test('a start empties the log', () => {
  const vq = ring();
  offer(vq, 1);
  take(vq, 1);
  vq.u8.fill(0, vq.desc, vq.desc + SIZE * VIRTQ_DESC_SIZE);
  vq.start();
  vq.engine.deviceResume(vq.vq);
  assert.is(vq.engine.devicePending(vq.vq), 0);
  assert.is(vq.counter(vq.vq, layout.VQ_REPLAYED), 0);
});

/** Sets entry `entry` of a log that says that everything is in flight. */
function entry(vq: PackedRing, index: number, head: number, next = 0): void {
  const at = LOG_LINEAR + layout.LOG_ENTRIES + index * layout.PACKED_LOG_ENTRY_SIZE;
  vq.data.setBigUint64(at + layout.LOG_ENTRY_USED, 2n ** 64n - 1n, true);
  vq.set(at, { [layout.LOG_ENTRY_HEAD]: head, [layout.LOG_ENTRY_NEXT]: next });
}

test('a log that contradicts itself breaks the queue', () => {
  const contradictions: [string, (vq: PackedRing) => void][] = [
    ['a chain without descriptors', (vq) => entry(vq, 0, 0)],
    ['a chain that is longer than the ring', (vq) => entry(vq, 0, (SIZE + 1) << 16)],
    ['an entry that the log does not have', (vq) => entry(vq, 0, 2 << 16, SIZE)],
    ['a chain that is its own next', (vq) => entry(vq, 0, 2 << 16, 0)],
    [
      'an entry of two chains',
      (vq) => {
        entry(vq, 0, 2 << 16, 2);
        entry(vq, 1, 2 << 16, 2);
      },
    ],
    [
      'more in flight than a ring holds',
      (vq) => {
        entry(vq, 0, 1 << 16);
        vq.set(LOG_LINEAR, { [layout.LOG_AHEAD]: SIZE });
      },
    ],
  ];
  for (const [what, contradict] of contradictions) {
    const vq = ring();
    contradict(vq);
    assert.is(vq.engine.deviceResume(vq.vq), 1);
    assert.is(vq.verdict(), layout.VERDICT_IN_FLIGHT_LOG, what);
    assert.is(vq.pop(), 0);
  }
});

test('whatever a log holds: what it replays is judged, or the queue is broken, and nothing else is touched', () => {
  let replayed = 0;
  for (let round = 0; round < 500; round++) {
    const vq = ring({ fence: true, indirect: round % 2 === 0 });
    const section = new Uint8Array(layout.LOG_ENTRIES + SIZE * layout.LOG_BYTES_PER_ENTRY);
    randomFillSync(section);
    vq.u8.set(section, LOG_LINEAR);
    vq.set(LOG_LINEAR, {
      [layout.LOG_STATE]: layout.LOG_STATE_PACKED,
      [layout.LOG_AHEAD]: 0,
      [layout.LOG_SAVED_COUNT]: round,
    });
    for (const word of [layout.LOG_USED, layout.LOG_SAVED_AT])
      vq.data.setBigUint64(LOG_LINEAR + word, BigInt(64 + (round % 16)), true);
    for (let index = 0; index < SIZE; index++) {
      const at = LOG_LINEAR + layout.LOG_ENTRIES + index * layout.PACKED_LOG_ENTRY_SIZE;
      if ((round >> 4) & (1 << (index % 5))) vq.data.setBigUint64(at + layout.LOG_ENTRY_USED, 0n, true);
      // Some are chains, of memory that the driver has.
      else if (round % 5) {
        vq.set(at, { [layout.LOG_ENTRY_HEAD]: (1 << 16) | index });
        vq.set(at, { [layout.LOG_ENTRY_USED + 4]: 0x8000_0000 });
        vq.data.setBigUint64(at + layout.LOG_ENTRY_DESCRIPTOR, vq.iova(vq.buffers), true);
        vq.set(at, { [layout.LOG_ENTRY_DESCRIPTOR + 8]: 64, [layout.LOG_ENTRY_DESCRIPTOR + 12]: 0 });
      }
    }
    const driver = vq.u8.slice(vq.buffers, vq.buffers + 4096);
    assert.is(vq.engine.deviceResume(vq.vq), 1);
    for (let left = 2 * SIZE, taken = vq.pop(); taken > 0 && left > 0; left--, taken = vq.pop()) {
      if (vq.u32(vq.vq + layout.VQ_REPLAYING)) replayed += taken;
      vq.engine.devicePush(vq.vq, taken);
    }
    assert.equal(vq.u8.slice(vq.buffers, vq.buffers + 4096), driver);
  }
  assert.ok(replayed > 200, `${replayed} chains`);
});

test.run();
