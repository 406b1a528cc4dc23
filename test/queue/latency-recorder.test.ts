import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  LATENCY_BLOCK_SIZE,
  LATENCY_BUCKET_BITS,
  LATENCY_BUCKETS,
  LATENCY_COUNTS,
} from '../../assembly/layout.js';
import { bucketCount, bucketOf, bucketTop } from '../../host/queue/latency-buckets.js';
import { LatencyRecorder } from '../../host/queue/latency-recorder.js';
import { threadId } from '../../host/queue/thread-id.js';

test('the block has room for the buckets', () => {
  assert.is(LATENCY_BUCKETS, bucketCount(LATENCY_BUCKET_BITS));
  assert.is(LATENCY_BLOCK_SIZE, LATENCY_COUNTS + 4 * LATENCY_BUCKETS);
});

test('a value is told within 1/16 of itself, and no bucket is left out', () => {
  for (const ns of [0, 1, 15, 16, 17, 31, 32, 33, 1000, 1024, 65_535, 1e6, 1e9, 2 ** 31 - 1]) {
    const top = bucketTop(bucketOf(ns, LATENCY_BUCKET_BITS), LATENCY_BUCKET_BITS);
    assert.ok(top >= ns && top <= ns * (1 + 1 / 16), `${ns}: ${top}`);
  }
  for (let bucket = 0; bucket < LATENCY_BUCKETS; bucket++)
    assert.is(bucketOf(bucketTop(bucket, LATENCY_BUCKET_BITS), LATENCY_BUCKET_BITS), bucket);
  assert.is(bucketOf(1e12, LATENCY_BUCKET_BITS), LATENCY_BUCKETS - 1);
});

test('nothing is due until it is switched on, and then one in nine', () => {
  const recorder = LatencyRecorder.create();
  assert.is(recorder.due(), false);
  recorder.on = true;
  const due: boolean[] = [];
  for (let call = 0; call < 27; call++) {
    due.push(recorder.due());
    if (due.at(-1)) recorder.begin();
  }
  assert.equal(
    due.flatMap((each, call) => (each ? [call] : [])),
    [0, 9, 18],
  );
  recorder.on = false;
  for (let call = 0; call < 9; call++) assert.is(recorder.due(), false);
});

test('what is due stays due until it begins', () => {
  const recorder = LatencyRecorder.create();
  recorder.on = true;
  assert.equal([recorder.due(), recorder.due(), recorder.due()], [true, true, true]);
});

test('counts what was recorded, by the request', () => {
  const recorder = LatencyRecorder.create();
  assert.is(recorder.snapshot(), undefined);
  recorder.record(0.001, 1);
  recorder.record(1, 3);
  assert.equal(recorder.snapshot(), {
    samples: 4,
    sum: 1000 + 3_000_000,
    buckets: [
      [1023, 1],
      [1_015_807, 3],
    ],
  });
});

test('a thread knows its number in the kernel', () => {
  assert.is(threadId(), process.pid, 'of the main thread');
});

test.run();
