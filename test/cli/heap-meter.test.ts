import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { HeapMeter } from '../../host/cli/heap-meter.js';

const numbers = new Int32Array(1000);

/** A call that allocates nothing, interpreted neither: there a fraction would be an object. */
function quiet(count: number): void {
  for (let i = 0; i < count; i++) numbers[i % 1000] = i;
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
