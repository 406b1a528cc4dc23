import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LatencyHistogram } from '../../host/cli/latency-histogram.js';

/** Relative width of a bucket. */
const PRECISION = 1 / 128;

test('an empty histogram has no latencies', () => {
  assert.equal(new LatencyHistogram().latency(), { p50: 0, p90: 0, p99: 0, p999: 0, max: 0 });
});

test('one latency is every percentile', () => {
  const histogram = new LatencyHistogram();
  histogram.record(0.25);
  const { p50, p999, max } = histogram.latency();
  assert.is(max, 250);
  assert.is(p50, 250);
  assert.is(p999, 250);
});

test('percentiles are those of the sorted values, within the width of a bucket', () => {
  const histogram = new LatencyHistogram();
  const values: number[] = [];
  let state = 1;
  for (let i = 0; i < 20_000; i++) {
    state = (state * 48_271) % 2_147_483_647;
    // From 100 ns to 100 ms, evenly over the logarithm.
    const milliseconds = 1e-4 * 10 ** ((state / 2_147_483_647) * 6);
    values.push(milliseconds * 1000);
    histogram.record(milliseconds);
  }
  values.sort((a, b) => a - b);
  for (const fraction of [0.001, 0.5, 0.9, 0.99, 0.999]) {
    const exact = values[Math.ceil(fraction * values.length) - 1]!;
    const told = histogram.percentile(fraction);
    assert.ok(
      told >= exact * (1 - 2 * PRECISION) && told <= exact * (1 + 2 * PRECISION),
      `${told} for ${exact}`,
    );
  }
  assert.is(histogram.latency().max, values.at(-1));
});

test('a latency beyond the range counts, and the maximum tells it', () => {
  const histogram = new LatencyHistogram();
  histogram.record(1);
  histogram.record(60_000);
  assert.is(histogram.count, 2);
  assert.is(histogram.latency().max, 60_000_000);
  assert.ok(histogram.percentile(1) > 2_000_000);
});

test('recording a clock that went backwards does no harm', () => {
  const histogram = new LatencyHistogram();
  histogram.record(-1);
  assert.is(histogram.count, 1);
  assert.is(histogram.percentile(0.5), 0);
});

test.run();
