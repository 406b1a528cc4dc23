import { readdirSync } from 'node:fs';
import { setImmediate as turn } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { addon, inProcess, thrown, within } from './fixture.js';

/** Resolves at the next call of a watcher on `fd`, drained. */
function nextWake(fd: number): Promise<number> {
  const wake = new Promise<number>((resolve) => {
    const watcher = addon.watch(fd, () => {
      watcher.close();
      resolve(addon.eventfdDrain(fd));
    });
  });
  return within(wake, 'a watcher');
}

/** Turns of the event loop: enough for whatever is due to be called. */
async function turns(): Promise<void> {
  for (let count = 0; count < 5; count++) await turn();
}

test('a watcher calls back when its descriptor becomes readable', async () => {
  const fd = addon.eventfd();
  const woken = nextWake(fd);
  addon.eventfdSignal(fd);
  addon.eventfdSignal(fd);
  assert.is(await woken, 2);
  addon.close(fd);
});

test('a watcher calls back again and again until its descriptor is drained', async () => {
  const fd = addon.eventfd();
  addon.eventfdSignal(fd);
  let calls = 0;
  const watcher = addon.watch(fd, () => {
    if (++calls === 3) addon.eventfdDrain(fd);
  });
  for (let waited = 0; waited < 1000 && calls < 3; waited++) await turn();
  await turns();
  assert.is(calls, 3);
  watcher.close();
  addon.close(fd);
});

test('two watchers of one descriptor are both called', async () => {
  const fd = addon.eventfd();
  const calls = [0, 0];
  const watchers = calls.map((_, index) =>
    addon.watch(fd, () => {
      calls[index]!++;
    }),
  );
  addon.eventfdSignal(fd);
  for (let waited = 0; waited < 1000 && calls.includes(0); waited++) await turn();
  assert.ok(calls[0]! > 0 && calls[1]! > 0);
  for (const watcher of watchers) watcher.close();
  addon.close(fd);
});

test('a closed watcher is not called again, and closing twice is nothing', async () => {
  const fd = addon.eventfd();
  let calls = 0;
  const watcher = addon.watch(fd, () => calls++);
  addon.eventfdSignal(fd);
  watcher.close();
  watcher.close();
  watcher.ref();
  watcher.unref();
  await turns();
  assert.is(calls, 0);
  assert.is(addon.eventfdDrain(fd), 1);
  addon.close(fd);
});

test('a watcher that nobody refers to goes on', async () => {
  const fd = addon.eventfd();
  let calls = 0;
  (() => addon.watch(fd, () => calls++).unref())();
  for (let round = 0; round < 3; round++) {
    (globalThis as unknown as { gc?: () => void }).gc?.();
    await turn();
  }
  addon.eventfdSignal(fd);
  for (let waited = 0; waited < 1000 && calls === 0; waited++) await turn();
  assert.ok(calls > 0);
  addon.eventfdDrain(fd);
  addon.close(fd);
});

test('a watcher follows its number to another file once the old one was signalled', async () => {
  const slot = addon.eventfd();
  const own = addon.duplicate(slot);
  const driver = addon.eventfd();
  const drained: number[] = [];
  const watcher = addon.watch(slot, () => drained.push(addon.eventfdDrain(slot)));
  await turns();
  addon.duplicate(driver, slot);
  addon.eventfdSignal(own);
  for (let waited = 0; waited < 1000 && drained.length < 1; waited++) await turn();
  await turns();
  // One call for the old file, which stays signalled, and no more than one.
  assert.equal(drained, [0]);
  addon.eventfdSignal(driver);
  for (let waited = 0; waited < 1000 && drained.length < 2; waited++) await turn();
  assert.equal(drained, [0, 1]);
  watcher.close();
  for (const fd of [slot, own, driver]) addon.close(fd);
});

test('a watcher whose descriptor was closed ends at its next call, leaving nothing open', async () => {
  const before = readdirSync('/proc/self/fd').length;
  const fd = addon.eventfd();
  const other = addon.duplicate(fd);
  let calls = 0;
  addon.watch(fd, () => calls++);
  addon.close(fd);
  addon.eventfdSignal(other);
  await turns();
  assert.is(calls, 0);
  addon.close(other);
  assert.is(readdirSync('/proc/self/fd').length, before);
});

test('a watcher closed inside its own callback frees everything', async () => {
  const before = readdirSync('/proc/self/fd').length;
  for (let round = 0; round < 50; round++) {
    const fd = addon.eventfd();
    addon.eventfdSignal(fd);
    await nextWake(fd);
    addon.close(fd);
  }
  assert.is(readdirSync('/proc/self/fd').length, before);
});

test('promises and process.nextTick run before the next callback', async () => {
  const fd = addon.eventfd();
  const order: string[] = [];
  const watcher = addon.watch(fd, () => {
    order.push('call');
    process.nextTick(() => order.push('tick'));
    void Promise.resolve().then(() => order.push('promise'));
    if (order.length > 3) addon.eventfdDrain(fd);
  });
  addon.eventfdSignal(fd);
  for (let waited = 0; waited < 1000 && order.length < 6; waited++) await turn();
  watcher.close();
  addon.close(fd);
  assert.equal(order, ['call', 'tick', 'promise', 'call', 'tick', 'promise']);
});

test('a watcher keeps the process alive, and one that is unreferenced does not', async () => {
  const ended = await inProcess(({ addon }) => {
    const fd = addon.eventfd();
    addon.watch(fd, () => {}).unref();
    const alive = addon.watch(fd, () => {
      console.log('called');
      alive.close();
    });
    setTimeout(() => addon.eventfdSignal(fd), 50).unref();
  }, null);
  assert.equal(ended, { code: 0, signal: null, stdout: 'called\n', stderr: '' });
});

test('what a callback throws is an uncaught exception, and the watcher goes on', async () => {
  const { code, stdout } = await inProcess(({ addon }) => {
    const fd = addon.eventfd();
    addon.eventfdSignal(fd);
    let calls = 0;
    const watcher = addon.watch(fd, () => {
      if (++calls === 2) watcher.close();
      throw new Error(`call ${calls}`);
    });
    process.on('uncaughtException', (error) => console.log(error.message));
  }, null);
  assert.is(code, 0);
  assert.is(stdout, 'call 1\ncall 2\n');
});

test('a file that cannot be polled, and what is not open, are refused', async () => {
  const before = readdirSync('/proc/self/fd').length;
  const file = addon.memfd('not-pollable', 1, false);
  assert.equal(
    thrown(() => addon.watch(file, () => {})),
    { name: 'Error', code: 'EPERM', errno: -1, syscall: 'epoll_ctl' },
  );
  addon.close(file);
  assert.equal(
    thrown(() => addon.watch(file, () => {})),
    { name: 'Error', code: 'EBADF', errno: -9, syscall: 'fcntl' },
  );
  assert.is(thrown(() => addon.watch(0, 'x' as never)).name, 'TypeError');
  assert.is(readdirSync('/proc/self/fd').length, before);
});

test.run();
