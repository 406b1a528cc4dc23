import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { commonSlope } from '../../host/cli/memory-monitor.js';

const line = (slope: number, level: number, count: number) =>
  Array.from({ length: count }, (_, seconds) => ({ seconds, bytes: level + slope * seconds }));

test('the slope of straight lines is theirs, with no error', () => {
  const { slope, error, samples } = commonSlope([line(100, 5000, 10)]);
  assert.is(slope, 100);
  assert.is(error, 0);
  assert.is(samples, 10);
});

test('a step between two runs is no slope', () => {
  const { slope } = commonSlope([line(0, 1e6, 10), line(0, 9e6, 10)]);
  assert.is(slope, 0);
});

test('noise is told by the error', () => {
  const noisy = line(0, 1e6, 100).map((sample, i) => ({
    ...sample,
    bytes: sample.bytes + (i % 2 ? 4096 : -4096),
  }));
  const { slope, error } = commonSlope([noisy]);
  assert.ok(Math.abs(slope!) < 2 * error!, `${slope} ± ${error}`);
});

test('the saw-teeth of a garbage collector are noise', () => {
  const teeth = line(0, 1e6, 60).map((sample, i) => ({ ...sample, bytes: sample.bytes + (i % 25) * 40_000 }));
  const { slope, error } = commonSlope([teeth]);
  assert.ok(Math.abs(slope!) < 2 * error!, `${slope} ± ${error}`);
});

test('a leak is told from saw-teeth', () => {
  const leak = line(100_000, 1e6, 60).map((sample, i) => ({
    ...sample,
    bytes: sample.bytes + (i % 7) * 40_000,
  }));
  const { slope, error } = commonSlope([leak]);
  assert.ok(slope! > 2 * error!, `${slope} ± ${error}`);
});

test('too few samples have no slope', () => {
  assert.is(commonSlope([]).slope, null);
  assert.is(commonSlope([line(1, 0, 1), line(1, 0, 2)]).slope, null);
});

test.run();
