import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { commonSlope, HeapMeter } from '../../host/cli/memory-monitor.js';

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

const numbers = new Float64Array(1000);

/** A call that allocates nothing. */
function quiet(count: number): void {
  for (let i = 0; i < count; i++) numbers[i % 1000] = i * 0.5;
}

let kept: unknown;

/** A call that allocates an object a time. */
function wasteful(count: number): void {
  for (let i = 0; i < count; i++) kept = { i };
}

test('the heap meter tells code that allocates from code that does not', () => {
  const measure = (code: (count: number) => void) => {
    for (let warmUp = 0; warmUp < 200; warmUp++) code(1000);
    const meter = new HeapMeter();
    for (let stretch = 0; stretch < 50; stretch++) {
      meter.begin();
      code(1000);
      meter.end(1000);
    }
    return meter.bytesPerRequest()!;
  };
  assert.ok(measure(quiet) < 0.5, 'nothing allocated');
  assert.ok(measure(wasteful) >= 16, 'an object a request');
  assert.ok(kept);
});

test('a heap meter that measured nothing says so', () => {
  assert.is(new HeapMeter().bytesPerRequest(), null);
});

test.run();
