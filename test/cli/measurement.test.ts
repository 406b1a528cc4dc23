import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type MeasuredBatch, type Mode, measure, type Workload } from '../../host/cli/measurement.js';

const BLOCK_BYTES = 4096;
const CAPACITY = 2 ** 24;
const DEPTH = 16;

/** A batch that completes everything at once, in order; it notes what it was asked for. */
class InstantBatch implements MeasuredBatch {
  readonly offsets = new Set<number>();
  /** Status of every completion. */
  answer = 0;
  /** Completes only what was asked for with this tag or less. */
  answersUpTo = DEPTH;
  reaps = 0;
  deepest = 0;
  #staged: number[] = [];
  #ring: number[] = [];
  #reaped: number[] = [];

  read(offset: number, _data: Uint8Array, tag: number): void {
    this.offsets.add(offset);
    this.#staged.push(tag);
  }

  write(offset: number, data: Uint8Array, tag: number): void {
    this.read(offset, data, tag);
  }

  submit(): number {
    this.#ring.push(...this.#staged.splice(0));
    this.deepest = Math.max(this.deepest, this.#ring.length);
    return this.#ring.length;
  }

  reap(): number {
    this.reaps++;
    this.#reaped = this.#ring.filter((tag) => tag <= this.answersUpTo);
    this.#ring = this.#ring.filter((tag) => tag > this.answersUpTo);
    return this.#reaped.length;
  }

  tag(index: number): number {
    return this.#reaped[index]!;
  }

  status(): number {
    return this.answer;
  }

  async wait(): Promise<void> {
    await new Promise(setImmediate);
  }
}

function workloadOf(batches: InstantBatch[], mode: Mode): Workload {
  let notifications = 0;
  return {
    operation: 'read',
    mode,
    batches,
    buffers: batches.map(() => Array.from({ length: DEPTH }, () => new Uint8Array(BLOCK_BYTES))),
    blockBytes: BLOCK_BYTES,
    capacity: CAPACITY,
    seconds: 0.3,
    counters: () => ({ notifications: notifications++, crossings: batches[0]!.reaps }),
  };
}

const { signal } = new AbortController();

for (const mode of ['poll', 'notify'] as const) {
  test(`in ${mode} mode every queue is kept at its depth, with whole blocks inside the disk`, async () => {
    const batches = [new InstantBatch(), new InstantBatch()];
    const result = await measure(workloadOf(batches, mode), signal, () => {});
    assert.ok(result.requests > 1000, `${result.requests} requests`);
    assert.is(result.mode, mode);
    for (const batch of batches) {
      assert.is(batch.deepest, DEPTH);
      assert.ok(batch.offsets.size > 100, `${batch.offsets.size} places`);
      for (const offset of batch.offsets)
        assert.ok(offset % BLOCK_BYTES === 0 && offset >= 0 && offset + BLOCK_BYTES <= CAPACITY, `${offset}`);
    }
    assert.is(result.iops, result.requests / result.seconds);
    assert.is(result.bytesPerSecond, result.iops * BLOCK_BYTES);
    assert.is(result.notificationsPerRequest, 1 / result.requests);
    assert.ok(result.crossingsPerRequest > 0);
    assert.ok(result.latency.p50 > 0 && result.latency.p50 <= result.latency.max);
  });

  test(`in ${mode} mode an error status of the device ends the measurement`, async () => {
    const batch = new InstantBatch();
    batch.answer = 1;
    let said = '';
    await measure(workloadOf([batch], mode), signal, () => {}).catch((error) => (said = error.message));
    assert.is(said, 'the device answered a read with status 1');
  });

  test(`in ${mode} mode an abort ends the measurement with its reason`, async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    let said: unknown;
    const workload = { ...workloadOf([new InstantBatch()], mode), seconds: 3600 };
    await measure(workload, controller.signal, () => controller.abort(reason)).catch(
      (error) => (said = error),
    );
    assert.is(said, reason);
  });
}

test('the heap is measured in poll mode', async () => {
  // A machine with much else to do may not come to it in a short time.
  for (let seconds = 0.3; ; seconds *= 4) {
    const workload = { ...workloadOf([new InstantBatch()], 'poll'), seconds };
    const { heapBytesPerRequest } = await measure(workload, signal, () => {});
    if (heapBytesPerRequest === null && seconds < 10) continue;
    assert.type(heapBytesPerRequest, 'number');
    break;
  }
});

test.run();
