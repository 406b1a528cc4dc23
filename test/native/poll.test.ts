import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon, messageOf, startWorker, thrown } from './fixture.js';

const ready = new Uint32Array(1);

/** Eventfds for `body`, closed afterwards. */
async function withEventfds(count: number, body: (fds: Int32Array) => unknown): Promise<void> {
  const fds = Int32Array.from({ length: count }, () => addon.eventfd());
  try {
    await body(fds);
  } finally {
    for (const fd of fds) addon.close(fd);
  }
}

test('poll says how many descriptors are readable, and which', () =>
  withEventfds(4, (fds) => {
    addon.eventfdSignal(fds[1]!);
    addon.eventfdSignal(fds[3]!);
    assert.is(addon.poll(fds, ready, -1), 2);
    assert.is(ready[0], 0b1010);
    addon.eventfdDrain(fds[1]!);
    assert.is(addon.poll(fds, ready, 0), 1);
    assert.is(ready[0], 0b1000);
  }));

test('poll takes 32 descriptors and no more', () =>
  withEventfds(33, (fds) => {
    for (const fd of fds) addon.eventfdSignal(fd);
    assert.is(addon.poll(fds.subarray(0, 32), ready, -1), 32);
    assert.is(ready[0], 0xffffffff);
    assert.is(thrown(() => addon.poll(fds, ready, 0)).name, 'RangeError');
  }));

test('poll skips negative descriptors', () =>
  withEventfds(1, ([fd]) => {
    addon.eventfdSignal(fd!);
    assert.is(addon.poll(Int32Array.of(-1, fd!, -7), ready, -1), 1);
    assert.is(ready[0], 0b10);
    assert.is(addon.poll(Int32Array.of(-1), ready, 0), 0);
    assert.is(addon.poll(new Int32Array(0), ready, 0), 0);
  }));

test('poll gives 0 and clears the bits when the time is over, not before', () =>
  withEventfds(1, (fds) => {
    ready[0] = 5;
    const start = process.hrtime.bigint();
    assert.is(addon.poll(fds, ready, 20), 0);
    assert.ok(process.hrtime.bigint() - start >= 20_000_000n);
    assert.is(ready[0], 0);
  }));

test('poll of 0 ms returns at once, and a time beyond all clocks waits for the signal', () =>
  withEventfds(1, (fds) => {
    assert.is(addon.poll(fds, ready, 0), 0);
    addon.eventfdSignal(fds[0]!);
    for (const timeout of [Number.POSITIVE_INFINITY, Number.MAX_VALUE, 2 ** 53, 0.5])
      assert.is(addon.poll(fds, ready, timeout), 1);
  }));

test('poll waits for another thread, and takes its arrays from shared memory', () =>
  withEventfds(2, async ([wake, answer]) => {
    const shared = new SharedArrayBuffer(16);
    const worker = startWorker(
      (
        { addon },
        { wake, answer, shared }: { wake: number; answer: number; shared: SharedArrayBuffer },
        post,
      ) => {
        const fds = new Int32Array(shared, 0, 1);
        fds[0] = wake;
        post(true);
        const count = addon.poll(fds, new Uint32Array(shared, 8, 1), 20_000);
        if (count === 1) addon.eventfdSignal(answer);
      },
      { wake: wake!, answer: answer!, shared },
    );
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    await messageOf(worker);
    addon.eventfdSignal(wake!);
    assert.is(addon.poll(Int32Array.of(answer!), ready, 20_000), 1);
    assert.is(new Uint32Array(shared)[2], 1);
    await ended;
  }));

test('poll goes on after a descriptor that it waits for has got another meaning', () =>
  withEventfds(3, ([slot, driver, keep]) => {
    addon.duplicate(slot!, keep!);
    addon.duplicate(driver!, slot!);
    // `keep` is now the only name of what slot was: its signal wakes nobody who polls the slot anew.
    addon.eventfdSignal(keep!);
    assert.is(addon.poll(Int32Array.of(slot!), ready, 0), 0);
    addon.eventfdSignal(driver!);
    assert.is(addon.poll(Int32Array.of(slot!), ready, 0), 1);
  }));

test('poll of a closed descriptor is EBADF', () => {
  const fd = addon.eventfd();
  addon.close(fd);
  assert.equal(
    thrown(() => addon.poll(Int32Array.of(fd), ready, -1)),
    { name: 'Error', code: 'EBADF', errno: -9, syscall: 'poll' },
  );
});

test('poll refuses arguments of other types', () => {
  assert.is(thrown(() => addon.poll(new Int32Array(1), ready, 0, 1 as never)).name, 'TypeError');
  assert.is(thrown(() => addon.poll([1] as never, ready, 0)).name, 'TypeError');
  assert.is(thrown(() => addon.poll(new Int32Array(1), new Int32Array(1) as never, 0)).name, 'TypeError');
  assert.is(thrown(() => addon.poll(new Int32Array(1), new Uint32Array(0), 0)).name, 'RangeError');
  assert.is(thrown(() => addon.poll(new Int32Array(0), ready, Number.NaN)).name, 'TypeError');
  assert.is(thrown(() => addon.poll(new Int32Array(0), ready, undefined as never)).name, 'TypeError');
});

test('with drain, the counters of the readable ones are read away, and of no others', () =>
  withEventfds(3, (fds) => {
    for (const fd of [fds[0]!, fds[0]!, fds[2]!]) addon.eventfdSignal(fd);
    assert.is(addon.poll(fds.subarray(0, 2), ready, 0, true), 1);
    assert.is(ready[0], 1);
    assert.equal(
      [...fds].map((fd) => addon.eventfdDrain(fd)),
      [0, 0, 1],
    );
  }));

test('yield returns, whether anybody else wants the CPU or not, and says how long that took', () => {
  const start = performance.now();
  const took = addon.yield();
  assert.ok(Number.isInteger(took) && took >= 0);
  assert.ok(took <= (performance.now() - start) * 1000);
});

test.run();
