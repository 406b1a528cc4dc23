import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type IotlbMap, IotlbTree } from '../../host/bus/iotlb-tree.js';
import type { MapFile } from '../../host/bus/map-file.js';
import { isSystemError } from '../../host/errors.js';
import { LAST_IOVA } from './fixture.js';

function map(start: bigint, last: bigint): IotlbMap {
  return { start, last, perm: 3, file: {} as MapFile, offset: 0n };
}

test('an overlap is EEXIST, an adjacent range is not', () => {
  const tree = new IotlbTree();
  tree.add(map(0x1000n, 0x1fffn));
  for (const [start, last] of [
    [0x1000n, 0x1fffn],
    [0x0n, 0x1000n],
    [0x1fffn, 0x2fffn],
    [0x1800n, 0x1801n],
    [0x0n, LAST_IOVA],
  ] as const)
    assert.throws(
      () => tree.add(map(start, last)),
      (error: unknown) => isSystemError(error, 'EEXIST'),
    );
  tree.add(map(0x0n, 0xfffn));
  tree.add(map(0x2000n, LAST_IOVA));
  assert.is(tree.size, 3);
});

test('the first mapping of a range is the lowest that overlaps it', () => {
  const tree = new IotlbTree();
  for (const start of [0x5000n, 0x1000n, 0x3000n]) tree.add(map(start, start + 0xfffn));
  assert.is(tree.first(0n, LAST_IOVA)?.start, 0x1000n);
  assert.is(tree.first(0x2000n, 0x3000n)?.start, 0x3000n);
  assert.is(tree.first(0x3fffn, 0x9000n)?.start, 0x3000n);
  assert.is(tree.first(0x4000n, 0x4fffn), undefined);
  assert.is(tree.first(0x6000n, LAST_IOVA), undefined);
});

test('removal takes every overlapping mapping whole', () => {
  const tree = new IotlbTree();
  for (const start of [0x1000n, 0x3000n, 0x5000n]) tree.add(map(start, start + 0xfffn));
  const removed = tree.remove(0x1fffn, 0x3000n);
  assert.equal(
    removed.map(({ start }) => start),
    [0x1000n, 0x3000n],
  );
  assert.equal(
    [...tree].map(({ start }) => start),
    [0x5000n],
  );
  assert.is(tree.remove(0x6000n, LAST_IOVA).length, 0);
  assert.is(tree.remove(0n, LAST_IOVA).length, 1);
});

test('random additions and removals agree with a list that is searched in full', () => {
  let seed = 1;
  const random = (limit: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % limit;
  };
  const tree = new IotlbTree();
  let model: IotlbMap[] = [];
  for (let step = 0; step < 20_000; step++) {
    const start = BigInt(random(500));
    const last = start + BigInt(random(20));
    const overlapping = model.filter((other) => other.start <= last && other.last >= start);
    if (random(3) === 0) {
      assert.equal(new Set(tree.remove(start, last)), new Set(overlapping), `removal at step ${step}`);
      model = model.filter((other) => !overlapping.includes(other));
    } else {
      const added = map(start, last);
      if (overlapping.length) assert.throws(() => tree.add(added));
      else {
        tree.add(added);
        model.push(added);
      }
    }
    const lowest = model
      .filter((other) => other.start <= last && other.last >= start)
      .sort((a, b) => Number(a.start - b.start))[0];
    assert.is(tree.first(start, last), lowest);
  }
  assert.is(tree.size, model.length);
});

test.run();
