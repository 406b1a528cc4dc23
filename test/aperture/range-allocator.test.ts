import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RangeAllocator } from '../../host/aperture/range-allocator.js';

const code = (expected: string) => (error: unknown) => (error as { code?: string }).code === expected;

test('ranges are handed out from the start, one behind the other', () => {
  const ranges = new RangeAllocator(100, 200, 10);
  assert.is(ranges.allocate(10), 100);
  assert.is(ranges.allocate(20), 110);
  assert.is(ranges.allocate(70), 130);
  assert.throws(() => ranges.allocate(10), code('ERR_APERTURE_FULL'));
});

test('what was freed is handed out again, and neighbours grow together', () => {
  const ranges = new RangeAllocator(0, 100, 10);
  for (let start = 0; start < 100; start += 10) assert.is(ranges.allocate(10), start);
  for (const start of [20, 40, 30]) ranges.free(start, 10);
  assert.throws(() => ranges.allocate(40), code('ERR_APERTURE_FULL'));
  assert.is(ranges.allocate(30), 20);
  ranges.free(20, 30);
  ranges.free(0, 20);
  ranges.free(50, 50);
  assert.is(ranges.allocate(100), 0);
});

test('a length that is no multiple of the unit is refused', () => {
  const ranges = new RangeAllocator(0, 100, 10);
  for (const bytes of [0, -10, 5, 10.5, Number.NaN])
    assert.throws(() => ranges.allocate(bytes), code('ERR_ARGUMENT'));
});

test('any order of allocations and frees never hands the same place out twice', () => {
  const ranges = new RangeAllocator(0, 1000, 1);
  const owner = new Array<number>(1000).fill(0);
  const held: { start: number; bytes: number; id: number }[] = [];
  let seed = 42;
  const random = (limit: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % limit;
  };
  for (let id = 1; id <= 3000; id++) {
    if (random(2) && held.length) {
      const [range] = held.splice(random(held.length), 1);
      const { start, bytes } = range!;
      for (let at = start; at < start + bytes; at++) {
        assert.is(owner[at], range!.id);
        owner[at] = 0;
      }
      ranges.free(start, bytes);
      continue;
    }
    const bytes = 1 + random(60);
    let start: number;
    try {
      start = ranges.allocate(bytes);
    } catch {
      continue;
    }
    for (let at = start; at < start + bytes; at++) {
      assert.is(owner[at], 0);
      owner[at] = id;
    }
    held.push({ start, bytes, id });
  }
  for (const { start, bytes } of held) ranges.free(start, bytes);
  assert.is(ranges.allocate(1000), 0);
});

test.run();
