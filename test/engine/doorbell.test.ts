import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { VIRTIO_BLK_T_FLUSH } from '../../assembly/virtio.js';
import { Ring, type RingOptions } from './fixture.js';

const { DOORBELL_UNRUNG, VQ_BLOCK_SIZE, VQ_DOORBELL, VQ_DOORBELL_COUNT, VQ_DOORBELL_RINGS } = layout;

/** Queues with doorbells: `words[i]` says which of the doorbell words queue i has, −1 for none. */
class Doorbells {
  readonly ring = new Ring();
  readonly vqs: number[];
  readonly list: number;
  readonly words: number[];

  constructor(words: readonly number[]) {
    const { ring } = this;
    const pages = words.map(() => ring.allocate(layout.PAGE_SIZE));
    this.words = words.map((word) => pages[word] ?? 0);
    this.vqs = words.map(() => ring.allocate(VQ_BLOCK_SIZE));
    this.list = ring.allocate(4 * words.length);
    for (const page of pages) ring.data.setUint16(page, DOORBELL_UNRUNG, true);
    for (const [index, vq] of this.vqs.entries()) {
      const counter = this.vqs[words.indexOf(words[index]!)]! + VQ_DOORBELL_COUNT;
      ring.set(vq, { [VQ_DOORBELL]: this.words[index]!, [VQ_DOORBELL_RINGS]: counter });
      ring.data.setUint32(this.list + 4 * index, vq, true);
    }
  }

  /** A driver rings queue `index`. */
  store(index: number): void {
    this.ring.data.setUint16(this.words[index]!, index, true);
  }

  /** Bits of the queues that have rung. */
  look(mask = 2 ** this.vqs.length - 1, spins = 0): number {
    return this.ring.engine.doorbellWatch(this.list, mask, spins);
  }
}

test('a ring is seen once, on the queue whose doorbell it was', () => {
  const doorbells = new Doorbells([0, 1, 2]);
  assert.is(doorbells.look(), 0);
  for (const index of [0, 1, 2]) {
    doorbells.store(index);
    assert.is(doorbells.look(), 1 << index);
    assert.is(doorbells.look(), 0);
  }
  doorbells.store(0);
  doorbells.store(2);
  assert.is(doorbells.look(), 0b101);
});

test('rings that were not looked at between are one', () => {
  const doorbells = new Doorbells([0]);
  for (let time = 0; time < 3; time++) doorbells.store(0);
  assert.is(doorbells.look(), 1);
  assert.is(doorbells.look(), 0);
});

test('a ring that nobody looks for is kept', () => {
  const doorbells = new Doorbells([0, 1]);
  doorbells.store(1);
  assert.is(doorbells.look(0b01), 0);
  assert.is(doorbells.look(0b01, 100), 0);
  assert.is(doorbells.look(0b10), 0b10);
});

test('a shared doorbell rings for all of its queues, whoever is first to see it', () => {
  const doorbells = new Doorbells([0, 0, 0, 1]);
  doorbells.store(1);
  assert.is(doorbells.look(), 0b0111);
  // As if each had a thread of its own.
  doorbells.store(2);
  assert.is(doorbells.look(0b0001), 0b0001);
  assert.is(doorbells.look(0b0100), 0b0100);
  assert.is(doorbells.look(0b0011), 0b0010);
  assert.is(doorbells.look(), 0);
});

test('a queue without a doorbell never rings', () => {
  const doorbells = new Doorbells([-1, 1]);
  assert.is(doorbells.look(0b11, 10), 0);
  doorbells.store(1);
  assert.is(doorbells.look(), 0b10);
});

test('queue 31 of a list is a bit like any other', () => {
  const doorbells = new Doorbells(Array.from({ length: 32 }, (_, index) => index));
  doorbells.store(31);
  assert.is(doorbells.look(-1) >>> 0, 2 ** 31);
});

test('the first queue’s index rings as any other, and a word of zeroes once', () => {
  const doorbells = new Doorbells([0]);
  doorbells.ring.data.setUint16(doorbells.words[0]!, 0, true);
  assert.is(doorbells.look(), 1);
  assert.is(doorbells.ring.data.getUint16(doorbells.words[0]!, true), DOORBELL_UNRUNG);
});

test('of notification data the index counts and nothing else', () => {
  const doorbells = new Doorbells([0, 1]);
  for (const data of [0, 1, 0x7fff, 0x8000, DOORBELL_UNRUNG]) {
    doorbells.ring.data.setUint32(doorbells.words[1]!, (1 | (data << 16)) >>> 0, true);
    assert.is(doorbells.look(), 0b10, `data 0x${data.toString(16)}`);
    assert.is(doorbells.look(), 0, 'what is left of it rings no more');
  }
});

/** What a driver stores to its doorbell for each of `requests` requests, one at a time, as queue 5. */
function stores(options: RingOptions, flags: number, requests: number): number[] {
  const ring = new Ring({ size: 8, indirect: true, ...options });
  const { dq, engine } = ring;
  const page = ring.allocate(layout.PAGE_SIZE);
  const negotiated = ring.u32(dq + layout.DQ_FLAGS);
  ring.set(dq, { [layout.DQ_FLAGS]: negotiated | flags, [layout.DQ_DOORBELL]: page, [layout.DQ_INDEX]: 5 });
  ring.submission(0, { type: VIRTIO_BLK_T_FLUSH });
  return Array.from({ length: requests }, () => {
    ring.data.setUint32(page, 0xffff_ffff, true);
    assert.is(engine.blkSubmit(dq, ring.submissions, 1), 1, 'no eventfd');
    engine.blkServe(ring.vq, ring.disk);
    engine.blkReap(dq, ring.completions, 8, 0, 0);
    return ring.u32(page);
  });
}

test('without VIRTIO_F_NOTIFICATION_DATA a doorbell store has 16 bits, the index', () => {
  for (const packed of [false, true])
    assert.equal(stores({ packed }, 0, 2), [0xffff_0005, 0xffff_0005], `packed: ${packed}`);
});

test('notification data of a split ring is the available index', () => {
  const written = stores({}, layout.VQ_F_NOTIFICATION_DATA, 0x10001);
  const expected = written.map((_, index) => (5 | ((index + 1) << 16)) >>> 0);
  assert.equal(written, expected);
});

test('notification data of a packed ring is the offset of the next descriptor, with the wrap counter there', () => {
  const written = stores({ packed: true }, layout.VQ_F_NOTIFICATION_DATA, 17);
  const expected = written.map((_, index) => {
    const next = index + 1;
    const wrap = Math.floor(next / 8) % 2 === 0 ? 0x8000 : 0;
    return (5 | (((next % 8) | wrap) << 16)) >>> 0;
  });
  assert.equal(written, expected);
});

test.run();
