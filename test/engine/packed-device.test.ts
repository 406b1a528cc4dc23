import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import {
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from '../../assembly/virtio.js';
import { encodePackedVringBase } from '../../host/uapi/vring-base.js';
import type { RingOptions } from './fixture.js';
import { PackedRing } from './packed-ring.js';

const NEXT = VIRTQ_DESC_F_NEXT;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = VIRTQ_DESC_F_INDIRECT;

const at = (ring: PackedRing, place = 0) => ring.iova(ring.buffers + place * 4096);

/** A ring whose first chain is sound and whose second is what `write` makes of it: the verdict, and who was harmed. */
function refused(
  name: string,
  verdict: number,
  options: RingOptions,
  write: (ring: PackedRing) => void,
): void {
  test(`${name}: the queue breaks, the chain before it is served, nothing after it`, () => {
    const ring = new PackedRing(options);
    ring.list({ iova: at(ring), bytes: 64, id: 5 });
    write(ring);
    assert.is(ring.pop(), 1, 'chains taken');
    assert.is(ring.verdict(), verdict);
    assert.is(ring.counter(ring.vq, layout.VQ_HOSTILE_CHAINS), 1);
    assert.is(ring.push(0) & layout.COUNT_MASK, 1);
    assert.is(ring.pop(), 0, 'chains taken after the verdict');
    assert.equal(ring.use(1), { id: 5, bytes: 0 });
    assert.is(ring.use(1), undefined);
    ring.start();
    assert.is(ring.verdict(), layout.VERDICT_NONE, 'a reset starts clean');
  });
}

refused('a descriptor of no bytes', layout.VERDICT_ZERO_LENGTH, {}, (ring) =>
  ring.list({ iova: at(ring), bytes: 0 }),
);
refused('a list that is readable behind what is writable', layout.VERDICT_ORDER, {}, (ring) =>
  ring.list({ iova: at(ring), bytes: 16, flags: WRITE | NEXT }, { iova: at(ring), bytes: 16 }),
);
refused('lengths of 2^32 together', layout.VERDICT_TOTAL_LENGTH, {}, (ring) =>
  ring.list({ iova: at(ring), bytes: 0x8000_0000, flags: NEXT }, { iova: at(ring), bytes: 0x8000_0000 }),
);
refused('an address that passes 2^64', layout.VERDICT_ADDRESS_OVERFLOW, {}, (ring) =>
  ring.list({ iova: 2n ** 64n - 8n, bytes: 9 }),
);
refused('an indirect table without the feature', layout.VERDICT_INDIRECT_NOT_NEGOTIATED, {}, (ring) =>
  ring.list({ iova: at(ring), bytes: 16, flags: INDIRECT }),
);
refused(
  'an indirect table that a list goes on behind',
  layout.VERDICT_INDIRECT_NEXT,
  { indirect: true },
  (ring) => ring.list({ iova: at(ring), bytes: 16, flags: INDIRECT | NEXT }, { iova: at(ring), bytes: 16 }),
);
refused('an indirect table at the end of a list', layout.VERDICT_INDIRECT_NEXT, { indirect: true }, (ring) =>
  ring.list({ iova: at(ring), bytes: 16, flags: NEXT }, { iova: at(ring), bytes: 16, flags: INDIRECT }),
);
refused(
  'an indirect table in an indirect table',
  layout.VERDICT_INDIRECT_NESTED,
  { indirect: true },
  (ring) => ring.list(ring.table(ring.buffers, { iova: at(ring, 1), bytes: 16, flags: INDIRECT })),
);
for (const bytes of [0, 8, 24])
  refused(`an indirect table of ${bytes} bytes`, layout.VERDICT_INDIRECT_LENGTH, { indirect: true }, (ring) =>
    ring.list({ iova: at(ring), bytes, flags: INDIRECT }),
  );
refused(
  'an indirect table longer than the queue',
  layout.VERDICT_CHAIN_TOO_LONG,
  { indirect: true },
  (ring) => ring.list({ iova: at(ring), bytes: (ring.size + 1) * 16, flags: INDIRECT }),
);
test('a list without an end breaks the queue, after as many steps as the ring has descriptors', () => {
  for (const size of [1, 2, 3, 8, 255]) {
    const ring = new PackedRing({ size });
    for (let i = 0; i < size; i++) ring.list({ iova: at(ring), bytes: 16, flags: NEXT });
    assert.is(ring.pop(), 0);
    assert.is(ring.verdict(), layout.VERDICT_CHAIN_TOO_LONG);
  }
});

test('what is not available is no error, and not taken: a ring of zeroes, a descriptor of the lap before or the next', () => {
  const ring = new PackedRing();
  assert.is(ring.pop(), 0);
  for (const flags of [VIRTQ_DESC_F_USED, VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED]) {
    ring.place(0, at(ring), 16, 0, flags);
    assert.is(ring.pop(), 0);
    assert.is(ring.engine.devicePending(ring.vq), 0);
  }
  assert.is(ring.verdict(), layout.VERDICT_NONE);
});

test('a list that goes on at the start of the ring is one chain, in every place and of every length', () => {
  const ring = new PackedRing({ size: 7 });
  for (let round = 0; round < 100; round++) {
    const length = 1 + (round % 7);
    ring.list(
      ...Array.from({ length }, (_, i) => ({
        iova: at(ring, i),
        bytes: 100 + i,
        flags: (i + 1 < length ? NEXT : 0) | (i ? WRITE : 0),
        id: 1000 + i,
      })),
    );
    assert.is(ring.pop(), 1, `round ${round}`);
    const { readable, writable } = ring.chain(0);
    assert.equal(
      [...readable, ...writable],
      Array.from({ length }, (_, i) => [ring.buffers + i * 4096, 100 + i]),
    );
    assert.equal(ring.buffer(0), { id: 1000 + length - 1, descriptors: length }, 'the id of the last');
    ring.push(round);
    assert.equal(ring.use(length), { id: 1000 + length - 1, bytes: round });
  }
});

test('once the head is available its list is, whatever the flags of the others say of them', () => {
  const ring = new PackedRing();
  ring.list({ iova: at(ring), bytes: 16, flags: NEXT }, { iova: at(ring), bytes: 16, id: 3 });
  ring.place(1, at(ring), 16, 3, 0);
  assert.is(ring.pop(), 1);
  assert.equal(ring.buffer(0), { id: 3, descriptors: 2 });
});

test('buffer ids are echoed, whatever they are: beyond the ring, the same twice', () => {
  const ring = new PackedRing();
  for (const id of [65535, 65535, 8]) ring.list({ iova: at(ring), bytes: 16, flags: WRITE, id });
  assert.is(ring.pop(), 3);
  ring.push(1, 2, 3);
  assert.equal(
    [ring.use(1), ring.use(1), ring.use(1)],
    [
      { id: 65535, bytes: 1 },
      { id: 65535, bytes: 2 },
      { id: 8, bytes: 3 },
    ],
  );
});

test('an indirect table is a chain of all of its entries: NEXT means nothing there, WRITE nothing on the table', () => {
  for (let length = 1; length <= 5; length++) {
    const ring = new PackedRing({ indirect: true });
    const entries = Array.from({ length }, (_, i) => ({
      iova: at(ring, 2 + i),
      bytes: 10 + i,
      flags: (i % 2 ? NEXT : 0) | (i ? WRITE : 0),
      id: 77,
    }));
    const table = ring.table(ring.buffers + 4, ...entries);
    // The first time by the slow path, then by the fast one.
    for (const id of [9, 10]) ring.list({ ...table, flags: INDIRECT | WRITE, id });
    assert.is(ring.pop(), 2);
    for (const [k, id] of [9, 10].entries()) {
      const { readable, writable } = ring.chain(k);
      assert.equal(
        [...readable, ...writable],
        entries.map((entry, i) => [ring.buffers + (2 + i) * 4096, entry.bytes]),
      );
      assert.equal(ring.buffer(k), { id, descriptors: 1 });
    }
  }
});

test('a driver that offers more than the ring has, while the device holds requests, breaks the queue', () => {
  const ring = new PackedRing({ size: 4 });
  for (let i = 0; i < 4; i++) ring.list({ iova: at(ring), bytes: 16, id: i });
  assert.is(ring.pop(), 4);
  ring.list({ iova: at(ring), bytes: 16 });
  assert.is(ring.pop(), 0);
  assert.is(ring.verdict(), layout.VERDICT_AVAIL_INDEX);
});

test('a position outside the ring, or with more in flight than it holds, breaks the queue at once', () => {
  const place = (
    last_avail_idx: number,
    last_avail_counter: number,
    last_used_idx: number,
    last_used_counter: number,
  ) => encodePackedVringBase({ last_avail_idx, last_avail_counter, last_used_idx, last_used_counter });
  const ring = new PackedRing({ size: 6 });
  for (const base of [
    place(6, 1, 0, 1),
    place(0, 1, 6, 1),
    place(1, 1, 3, 1),
    place(3, 0, 1, 1),
    0xffff_ffff,
  ]) {
    ring.engine.deviceStart(ring.vq, base | 0);
    assert.is(ring.verdict(), layout.VERDICT_AVAIL_INDEX, base.toString(16));
    assert.is(ring.pop(), 0);
  }
  for (const base of [place(5, 1, 5, 1), place(2, 0, 5, 1), place(3, 0, 3, 1), place(0, 0, 0, 0)]) {
    ring.engine.deviceStart(ring.vq, base | 0);
    assert.is(ring.verdict(), layout.VERDICT_NONE, base.toString(16));
  }
});

test('a device that stops and starts again goes on where it was, wrap counters and all', () => {
  const ring = new PackedRing({ size: 5 });
  for (let round = 0; round < 40; round++) {
    for (let i = 0; i < 1 + (round % 4); i++) ring.list({ iova: at(ring), bytes: 16, id: round + i });
    assert.is(ring.pop(), 1 + (round % 4));
    ring.push(...Array(1 + (round % 4)).fill(0));
    for (let i = 0; i < 1 + (round % 4); i++) assert.is(ring.use(1)?.id, round + i);
    const base = ring.u32(ring.vq + layout.VQ_LAST_AVAIL) | (ring.u32(ring.vq + layout.VQ_USED) << 16);
    ring.engine.deviceStart(ring.vq, base);
  }
});

test('chains that a burst has no room for are put back, and come again', () => {
  const ring = new PackedRing({ size: 6 });
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 2; i++)
      ring.list(
        { iova: at(ring), bytes: 16, flags: NEXT },
        { iova: at(ring), bytes: 16, flags: WRITE, id: 10 + i },
      );
    // The header asks for nothing that a disk knows, so each is answered at once; the gate lets none through before.
    ring.data.setInt32(ring.vq + layout.VQ_GATE_CLOSED, 1, true);
    assert.is(ring.engine.blkServe(ring.vq, ring.disk), 0);
    assert.is(ring.u32(ring.vq + layout.VQ_IN_FLIGHT), 0);
    ring.data.setInt32(ring.vq + layout.VQ_GATE_CLOSED, 0, true);
    assert.is(ring.engine.blkServe(ring.vq, ring.disk) & layout.COUNT_MASK, 2);
    assert.equal([ring.use(2)?.id, ring.use(2)?.id], [10, 11]);
  }
});

test('requests finish in any order, each in the place where the next used descriptor goes', () => {
  const ring = new PackedRing({ size: 4 });
  const requests = [0, 1, 2].map(() => ring.allocate(layout.REQUEST_DESCRIPTORS + 5 * 16));
  for (let round = 0; round < 20; round++) {
    ring.list({ iova: at(ring), bytes: 16, flags: WRITE, id: 1 });
    ring.list({ iova: at(ring), bytes: 16, flags: NEXT }, { iova: at(ring), bytes: 16, flags: WRITE, id: 2 });
    ring.list({ iova: at(ring), bytes: 16, flags: WRITE, id: 3 });
    for (const request of requests) assert.is(ring.engine.requestTake(ring.vq, request), 1);
    assert.is(ring.engine.requestTake(ring.vq, requests[0]!), 0);
    ring.engine.requestFinish(ring.vq, requests[1]!, 100);
    ring.engine.requestFinish(ring.vq, requests[2]!, 7);
    assert.is(ring.use(2), undefined, 'not before it is published');
    ring.engine.requestPublish(ring.vq, 2);
    assert.equal(ring.use(2), { id: 2, bytes: 16 }, 'capped to what is writable');
    assert.equal(ring.use(1), { id: 3, bytes: 7 });
    ring.engine.requestFinish(ring.vq, requests[0]!, 5);
    ring.engine.requestPublish(ring.vq, 1);
    assert.equal(ring.use(1), { id: 1, bytes: 5 });
  }
});

test('WRITE of a used descriptor says whether anything was written, in every place of a burst', () => {
  for (const inOrder of [false, true]) {
    const ring = new PackedRing({ size: 7, inOrder });
    for (let round = 0; round < 20; round++) {
      const lengths = Array.from({ length: 1 + (round % 7) }, (_, i) => ((round >> (i % 5)) & 1) * (i + 1));
      for (const id of lengths.keys()) ring.list({ iova: at(ring), bytes: 16, flags: WRITE, id });
      assert.is(ring.pop(), lengths.length);
      // None is written completely, so that in order each ends a batch, too.
      ring.push(...lengths);
      assert.equal(
        lengths.map(() => ring.use(1)),
        lengths.map((bytes, id) => ({ id, bytes })),
      );
    }
  }
});

test('in order, a batch is one used descriptor, with the id and the length of its last chain', () => {
  const ring = new PackedRing({ inOrder: true });
  for (let round = 0; round < 20; round++) {
    for (const id of [1, 2]) ring.list({ iova: at(ring), bytes: 16, flags: WRITE, id });
    ring.list({ iova: at(ring), bytes: 16, flags: NEXT }, { iova: at(ring), bytes: 16, id: 3 });
    assert.is(ring.pop(), 3);
    ring.push(16, 16, 0);
    assert.equal(ring.use(4), { id: 3, bytes: 0 });
    assert.is(ring.use(1), undefined);
  }
});

test('in order, a chain that was not written completely ends its batch: what is skipped counts as complete', () => {
  const ring = new PackedRing({ inOrder: true });
  for (const id of [1, 2, 3, 4]) ring.list({ iova: at(ring), bytes: 16, flags: WRITE, id });
  assert.is(ring.pop(), 4);
  ring.push(16, 15, 16, 3);
  assert.equal(
    [ring.use(2), ring.use(2), ring.use(1)],
    [{ id: 2, bytes: 15 }, { id: 4, bytes: 3 }, undefined],
  );
});

for (const [name, suppression, eventIdx, wanted] of [
  ['enabled', RING_EVENT_FLAGS_ENABLE << 16, false, true],
  ['disabled', RING_EVENT_FLAGS_DISABLE << 16, true, false],
  ['the reserved value', 3 << 16, true, true],
  ['a place, without the feature', (RING_EVENT_FLAGS_DESC << 16) | 0x8005, false, true],
  ['the place of the next used descriptor', (RING_EVENT_FLAGS_DESC << 16) | 0x8000, true, true],
  ['the place of the last one', (RING_EVENT_FLAGS_DESC << 16) | 0x8001, true, true],
  ['the place behind it', (RING_EVENT_FLAGS_DESC << 16) | 0x8002, true, false],
  ['the first place, a lap later', RING_EVENT_FLAGS_DESC << 16, true, false],
  ['the last place, a lap before', (RING_EVENT_FLAGS_DESC << 16) | 7, true, false],
  ['a place beyond the ring', (RING_EVENT_FLAGS_DESC << 16) | 0x8008, true, true],
] as const)
  test(`interrupts: ${name}, two chains used: ${wanted ? 'one' : 'none'}`, () => {
    const ring = new PackedRing({ size: 8, eventIdx });
    for (const id of [1, 2]) ring.list({ iova: at(ring), bytes: 16, id });
    ring.data.setUint32(ring.avail, suppression, true);
    assert.is(ring.pop(), 2);
    assert.is((ring.push(0, 0) & layout.NOTIFY_DUE) !== 0, wanted);
  });

for (const eventIdx of [false, true])
  test(`arming asks for the next descriptor and sees one that is there already (${eventIdx ? 'place' : 'flags'})`, () => {
    const ring = new PackedRing({ size: 3, eventIdx });
    for (let round = 0; round < 9; round++) {
      ring.engine.deviceDisarm(ring.vq);
      assert.is(ring.u32(ring.used), RING_EVENT_FLAGS_DISABLE << 16);
      assert.is(ring.engine.deviceArm(ring.vq), 0);
      const place = ring.available.index | (ring.available.wrap << 15);
      assert.is(ring.u32(ring.used), eventIdx ? (RING_EVENT_FLAGS_DESC << 16) | place : 0);
      ring.list({ iova: at(ring), bytes: 16 });
      assert.is(ring.engine.deviceArm(ring.vq), 1);
      assert.is(ring.pop(), 1);
      ring.push(0);
      ring.use(1);
    }
  });

test.run();
