import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { VIRTQ_AVAIL_IDX, VIRTQ_AVAIL_RING } from '../../assembly/virtio.js';
import { DRIVER_BYTES, DRIVER_IOVA, DRIVER_LINEAR, Ring } from './fixture.js';

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/** An indirect table at `at` with these descriptors, and a head that refers to it. */
function indirectTable(
  ring: Ring,
  head: number,
  entries: [bigint, number, number, number][],
  at = ring.buffers + 0x2000,
): void {
  for (const [i, [iova, bytes, flags, next]] of entries.entries())
    ring.descriptor(i, iova, bytes, flags, next, at);
  ring.descriptor(head, ring.iova(at), entries.length * 16, INDIRECT);
}

test('descriptors followed by one that is indirect are one chain', () => {
  const ring = new Ring({ indirect: true });
  indirectTable(ring, 1, [
    [ring.iova(ring.buffers + 100), 20, NEXT, 1],
    [ring.iova(ring.buffers + 200), 30, WRITE, 0],
  ]);
  ring.descriptor(0, ring.iova(ring.buffers), 10, NEXT, 1);
  ring.offer(0);
  assert.is(ring.pop(), 1);
  assert.equal(ring.chain(0), {
    head: 0,
    readable: [
      [ring.buffers, 10],
      [ring.buffers + 100, 20],
    ],
    writable: [[ring.buffers + 200, 30]],
  });
});

test('an indirect table across two regions that are apart in linear memory is read as one', () => {
  const ring = new Ring({ indirect: true });
  const [low, high] = [DRIVER_LINEAR + 0x40000, DRIVER_LINEAR + 0x60000];
  ring.map(0x10000n, low, 4096);
  ring.map(0x11000n, high, 4096);
  // Entry 0 ends 8 bytes before the boundary, entry 1 straddles it, entry 2 lies behind it.
  const table = new Uint8Array(48);
  const view = new DataView(table.buffer);
  for (let i = 0; i < 3; i++) {
    view.setBigUint64(i * 16, ring.iova(ring.buffers + i * 64), true);
    view.setUint32(i * 16 + 8, 10 + i, true);
    view.setUint16(i * 16 + 12, i < 2 ? NEXT : WRITE, true);
    view.setUint16(i * 16 + 14, i + 1, true);
  }
  ring.u8.set(table.subarray(0, 24), low + 4096 - 24);
  ring.u8.set(table.subarray(24), high);
  ring.descriptor(0, 0x11000n - 24n, 48, INDIRECT);
  ring.offer(0);
  assert.is(ring.pop(), 1);
  assert.equal(ring.chain(0).readable, [
    [ring.buffers, 10],
    [ring.buffers + 64, 11],
  ]);
  assert.equal(ring.chain(0).writable, [[ring.buffers + 128, 12]]);
});

test('a verdict on an indirect table that crosses regions names its chain', () => {
  const ring = new Ring({ indirect: true });
  ring.map(0x1000n, DRIVER_LINEAR + 0x40000, 4096);
  ring.map(0x2000n, DRIVER_LINEAR + 0x60000, 4096, layout.IOTLB_ACCESS_WRITE);
  ring.descriptor(5, 0x2000n - 8n, 32, INDIRECT);
  ring.offer(5);
  assert.is(ring.pop(), 0);
  assert.is(ring.verdict(), layout.VERDICT_PERMISSION);
  assert.is(ring.u32(ring.vq + layout.VQ_VERDICT_HEAD), 5);
});

test('an address that nothing maps is a miss: not consumed, and served once it is mapped', () => {
  const ring = new Ring();
  for (const [iova, bytes, at] of [
    [0x5000n, 16, 0x5000n],
    [DRIVER_IOVA + BigInt(DRIVER_BYTES) - 8n, 16, DRIVER_IOVA + BigInt(DRIVER_BYTES)],
  ] as const) {
    ring.descriptor(0, iova, bytes, WRITE);
    ring.offer(0);
    assert.is(ring.pop(), 0);
    assert.ok(ring.missed());
    assert.is(ring.data.getBigUint64(ring.vq + layout.VQ_FAULT_IOVA, true), at);
    assert.is(ring.u32(ring.vq + layout.VQ_FAULT_ACCESS), layout.IOTLB_ACCESS_WRITE);
    assert.is(ring.verdict(), layout.VERDICT_NONE);
    assert.is(ring.map(at, DRIVER_LINEAR + 0x50000, 4096), layout.IOTLB_OK);
    ring.set(ring.vq, { [layout.VQ_MISS]: 0 });
    assert.is(ring.pop(), 1);
    ring.engine.devicePush(ring.vq, 1);
  }
});

// Offsets just below 2^63: a bound that is reached by subtracting length and offset in turn wraps there and looks sound.
for (const [name, served] of [
  ['before any region is current', false],
  ['with a current region', true],
] as const)
  for (const count of [1, 2, 3])
    for (const indirect of [false, true])
      test(`an address 2^63 behind a region, of more bytes than it has, is a miss: descriptor ${count}, ${indirect ? 'indirect' : 'direct'}, ${name}`, () => {
        const ring = new Ring({ indirect });
        if (served) {
          ring.descriptor(7, ring.iova(ring.buffers), 16);
          ring.offer(7);
          assert.is(ring.pop(), 1);
        }
        const base = served ? DRIVER_IOVA : 0n;
        const iova = base + 2n ** 63n - 0x1000n;
        const entries = Array.from({ length: count }, (_, i): [bigint, number, number, number] => [
          i + 1 < count ? ring.iova(ring.buffers) : iova,
          i + 1 < count ? 16 : 0xffff0000,
          i + 1 < count ? NEXT : WRITE,
          i + 1,
        ]);
        if (indirect) indirectTable(ring, 0, entries);
        else for (const [i, entry] of entries.entries()) ring.descriptor(i, ...entry);
        ring.offer(0);
        assert.is(ring.pop(), 0, 'chains taken');
        assert.ok(ring.missed());
      });

test('an indirect table 2^63 behind a region, of more bytes than it has, is a miss', () => {
  const ring = new Ring({ indirect: true });
  // No region is current yet: the bound is 0 bytes, and the address is where its remainder modulo 2^32 is mapped.
  ring.descriptor(0, 2n ** 63n - 16n, 32, INDIRECT);
  ring.offer(0);
  assert.is(ring.pop(), 0, 'chains taken');
  assert.ok(ring.missed());
});

test('avail ring entries beyond the queue size are never read: the same head may come twice in a burst', () => {
  const ring = new Ring();
  ring.descriptor(3, ring.iova(ring.buffers), 16);
  ring.offer(3, 3);
  assert.is(ring.pop(), 2);
  ring.engine.devicePush(ring.vq, 2);
  assert.equal(
    ring.usedEntries().map((entry) => entry.id),
    [3, 3],
  );
});

test('a burst never takes more chains, nor more segments, than its tables hold', () => {
  const ring = new Ring({ size: 16, burst: 4, segments: 12 });
  for (let i = 0; i < 16; i++) ring.descriptor(i, ring.iova(ring.buffers), 16, i % 4 < 3 ? NEXT : 0, i + 1);
  ring.offer(0, 4, 8, 12);
  assert.is(ring.pop(64), 3, 'three chains of four segments fit twelve');
  ring.engine.devicePush(ring.vq, 3);
  assert.is(ring.pop(64), 1);
  ring.start();
  for (let i = 0; i < 16; i++) ring.descriptor(i, ring.iova(ring.buffers), 16);
  ring.offer(0, 1, 2, 3, 4, 5);
  assert.is(ring.pop(64), 4);
});

test('garbage in the whole ring area never takes the device out of mapped memory', () => {
  let seed = 0x2545f491;
  const random = () => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return seed >>> 16;
  };
  let verdicts = 0;
  for (let run = 0; run < 400; run++) {
    const ring = new Ring({ size: 16, indirect: run % 2 === 1, eventIdx: run % 4 > 1 });
    for (let at = ring.desc; at < ring.used; at++) ring.u8[at] = random();
    ring.data.setUint16(ring.avail + VIRTQ_AVAIL_IDX, random() % 20, true);
    const canary = ring.u8.slice(DRIVER_LINEAR + DRIVER_BYTES, DRIVER_LINEAR + DRIVER_BYTES + 65536);
    for (let i = 0; i < 8; i++) ring.engine.blkServe(ring.vq, ring.disk);
    assert.equal(ring.u8.slice(DRIVER_LINEAR + DRIVER_BYTES, DRIVER_LINEAR + DRIVER_BYTES + 65536), canary);
    if (ring.verdict() || ring.missed()) verdicts++;
  }
  assert.ok(verdicts > 350, `${verdicts} of 400 random rings were refused`);
});

test('the used length that is published never exceeds what the chain says is writable', () => {
  const ring = new Ring();
  ring.descriptor(0, ring.iova(ring.buffers), 16, NEXT, 1);
  ring.descriptor(1, ring.iova(ring.buffers + 64), 40, WRITE);
  ring.data.setUint32(ring.buffers, 8, true);
  ring.offer(0);
  ring.engine.blkServe(ring.vq, ring.disk);
  assert.equal(ring.usedEntries(), [{ id: 0, bytes: 21 }]);
  assert.is(ring.u16(ring.avail + VIRTQ_AVAIL_RING), 0);
});

test.run();
