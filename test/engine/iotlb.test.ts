import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { Ring } from './fixture.js';

const { IOTLB_OK, IOTLB_EXISTS, IOTLB_FULL, IOTLB_INVALID } = layout;
const RW = layout.IOTLB_ACCESS_READ | layout.IOTLB_ACCESS_WRITE;

/** A table of its own with room for `capacity` regions. */
function table(capacity = 64) {
  const ring = new Ring();
  const iotlb = ring.allocate(layout.IOTLB_ENTRIES + capacity * layout.IOTLB_ENTRY_SIZE);
  ring.engine.iotlbInit(iotlb, capacity);
  return {
    map: (iova: bigint, bytes: bigint, linear: number, access = RW) =>
      ring.engine.iotlbMap(iotlb, iova, bytes, linear, access),
    unmap: (first: bigint, last: bigint) => ring.engine.iotlbUnmap(iotlb, first, last),
    translate: (iova: bigint, bytes: number, access = RW) =>
      ring.engine.iotlbTranslate(iotlb, iova, bytes, access) >>> 0,
    generation: () => ring.u32(iotlb + layout.IOTLB_GENERATION),
    count: () => ring.u32(iotlb + layout.IOTLB_COUNT),
  };
}

test('a region translates from its first to its last byte, and not beyond', () => {
  const { map, translate } = table();
  assert.is(map(0x1_0000_0000n, 4096n, 0x10000), IOTLB_OK);
  assert.is(translate(0x1_0000_0000n, 1), 0x10000);
  assert.is(translate(0x1_0000_0fffn, 1), 0x10fff);
  assert.is(translate(0x1_0000_0fffn, 2), 0);
  assert.is(translate(0xffff_ffffn, 1), 0);
  assert.is(translate(0n, 1), 0, 'a truncated IOVA would hit');
});

test('a region that overlaps another is refused, an adjacent one is not', () => {
  const { map, count } = table();
  assert.is(map(0x2000n, 0x1000n, 0x10000), IOTLB_OK);
  for (const [iova, bytes] of [
    [0x2000n, 1n],
    [0x2fffn, 1n],
    [0x1000n, 0x1001n],
    [0x1000n, 0x4000n],
    [0n, 2n ** 32n - 0x10000n],
  ] as const)
    assert.is(map(iova, bytes, 0x10000), IOTLB_EXISTS, `${iova}+${bytes}`);
  assert.is(map(0x1000n, 0x1000n, 0x20000), IOTLB_OK);
  assert.is(map(0x3000n, 0x1000n, 0x30000), IOTLB_OK);
  assert.is(count(), 3);
});

test('regions of no bytes, past 2^64, or past the aperture are refused', () => {
  const { map } = table();
  assert.is(map(0n, 0n, 0x10000), IOTLB_INVALID);
  assert.is(map(2n ** 64n - 4096n, 4097n, 0x10000), IOTLB_INVALID);
  assert.is(map(0n, 4096n, 0), IOTLB_INVALID);
  assert.is(map(0n, 4097n, 0xffff_f000 | 0), IOTLB_INVALID);
  assert.is(map(0n, 4096n, 0xffff_f000 | 0), IOTLB_OK);
  assert.is(map(2n ** 64n - 4096n, 4096n, 0x10000), IOTLB_OK, 'the last page of the IOVA space');
});

test('a full table says so and stays as it is', () => {
  const { map, translate, count } = table(2);
  map(0x1000n, 0x1000n, 0x10000);
  map(0x5000n, 0x1000n, 0x20000);
  assert.is(map(0x3000n, 0x1000n, 0x30000), IOTLB_FULL);
  assert.is(count(), 2);
  assert.is(translate(0x5000n, 1), 0x20000);
});

test('neighbours that touch in linear memory too translate as one piece, others do not', () => {
  const { map, translate } = table();
  map(0x1000n, 0x1000n, 0x10000);
  map(0x2000n, 0x1000n, 0x11000);
  map(0x3000n, 0x1000n, 0x20000);
  assert.is(translate(0x1ff0n, 32), 0x10ff0);
  assert.is(translate(0x2ff0n, 32), 0);
});

test('every piece must permit the access', () => {
  const { map, translate } = table();
  map(0x1000n, 0x1000n, 0x10000, layout.IOTLB_ACCESS_READ);
  map(0x2000n, 0x1000n, 0x11000);
  assert.is(translate(0x1ff0n, 32, layout.IOTLB_ACCESS_READ), 0x10ff0);
  assert.is(translate(0x1ff0n, 32, layout.IOTLB_ACCESS_WRITE), 0);
  assert.is(translate(0x2000n, 32, layout.IOTLB_ACCESS_WRITE), 0x11000);
});

test('unmapping removes every region that overlaps, whole, and changes the generation', () => {
  const { map, unmap, translate, generation, count } = table();
  for (let i = 0n; i < 5n; i++) map(i * 0x1000n, 0x1000n, 0x10000 + Number(i) * 0x2000);
  const before = generation();
  assert.is(unmap(0x1fffn, 0x3000n), 3);
  assert.is(generation(), before + 1);
  assert.is(count(), 2);
  assert.is(translate(0x1000n, 1), 0);
  assert.is(translate(0x3fffn, 1), 0);
  assert.is(translate(0x4000n, 1), 0x18000);
  assert.is(unmap(0x1000n, 0x3fffn), 0);
  assert.is(unmap(0n, 2n ** 64n - 1n), 2);
});

test('random maps and unmaps agree with a list that is searched from end to end', () => {
  const { map, unmap, translate } = table(32);
  const model: { iova: bigint; bytes: bigint; linear: number }[] = [];
  let seed = 1;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % n;
  };
  for (let step = 0; step < 20000; step++) {
    const iova = BigInt(random(64)) * 0x1000n + (step % 3 ? 0n : 0xffff_ffff_ffc0_0000n);
    const bytes = BigInt(1 + random(4)) * 0x1000n;
    const last = iova + bytes - 1n;
    const overlapping = model.filter((r) => r.iova <= last && iova <= r.iova + r.bytes - 1n);
    if (random(3)) {
      const linear = 0x10000 + random(256) * 0x1000;
      const expected = overlapping.length ? IOTLB_EXISTS : model.length === 32 ? IOTLB_FULL : IOTLB_OK;
      assert.is(map(iova, bytes, linear), expected);
      if (expected === IOTLB_OK) model.push({ iova, bytes, linear });
    } else {
      assert.is(unmap(iova, last), overlapping.length);
      for (const region of overlapping) model.splice(model.indexOf(region), 1);
    }
    const probe = BigInt(random(64)) * 0x1000n + BigInt(random(4096));
    const hit = model.find((r) => r.iova <= probe && probe < r.iova + r.bytes);
    assert.is(translate(probe, 1), hit ? hit.linear + Number(probe - hit.iova) : 0);
  }
});

test.run();
