import { existsSync, readdirSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PAGE_SIZE } from '../../assembly/layout.js';
import type { Memory } from '../../host/aperture/web-assembly.js';
import {
  accessTo,
  addon,
  inProcess,
  inWorker,
  messageOf,
  newMemory,
  startWorker,
  thrown,
  within,
} from './fixture.js';

const WINDOWS = 65536;

/** A memory reserved by this thread, a file to map, and what a worker needs of both. */
function stage() {
  const { memory, view } = newMemory();
  addon.reserve(view, WINDOWS, view.length - WINDOWS);
  const fd = addon.memfd('environment-test', PAGE_SIZE, false);
  return { memory, view, fd, handle: { memory, fd, offset: WINDOWS, bytes: PAGE_SIZE } };
}

interface Handle {
  memory: Memory;
  fd: number;
  offset: number;
  bytes: number;
}

test('a worker and the main thread map into the same memory', async () => {
  const { memory, view, fd, handle } = stage();
  const wasm = accessTo(memory);
  addon.map(view, WINDOWS, PAGE_SIZE, { fd, offset: 0n }, 'rw');
  wasm.store(WINDOWS, 1);
  const seen = await inWorker(({ addon, accessTo }, { memory, fd, offset, bytes }: Handle, post) => {
    const wasm = accessTo(memory);
    addon.map(new Uint8Array(memory.buffer), offset + bytes, bytes, { fd, offset: 0n }, 'rw');
    wasm.store(offset + bytes + 1, 2);
    post([wasm.load(offset), wasm.load(offset + bytes)]);
  }, handle);
  assert.equal(seen, [1, 1]);
  assert.is(wasm.load(WINDOWS + 1), 2);
  addon.release(view);
  addon.close(fd);
});

test('a window that another thread mapped is EEXIST here, and can be unmapped here', async () => {
  const { memory, view, fd, handle } = stage();
  await inWorker(({ addon }, { memory, fd, offset, bytes }: Handle, post) => {
    addon.map(new Uint8Array(memory.buffer), offset, bytes, { fd, offset: 0n }, 'rw');
    post(true);
  }, handle);
  assert.is(thrown(() => addon.map(view, WINDOWS, PAGE_SIZE, { fd, offset: 0n }, 'rw')).code, 'EEXIST');
  addon.unmap(view, WINDOWS, PAGE_SIZE);
  assert.throws(() => accessTo(memory).load(WINDOWS));
  addon.release(view);
  addon.close(fd);
});

test('a window stays usable when the thread that mapped it is killed, as long as another holds the memory', async () => {
  const { memory, view, fd, handle } = stage();
  const worker = startWorker(({ addon }, { memory, fd, offset, bytes }: Handle, post) => {
    addon.map(new Uint8Array(memory.buffer), offset, bytes, { fd, offset: 0n }, 'rw');
    setInterval(() => {}, 1000);
    post(true);
  }, handle);
  await messageOf(worker);
  await worker.terminate();
  const wasm = accessTo(memory);
  wasm.copy(WINDOWS + 8, WINDOWS, 8);
  wasm.store(WINDOWS, 1);
  assert.is(wasm.load(WINDOWS), 1);
  addon.release(view);
  assert.throws(() => wasm.load(WINDOWS));
  addon.close(fd);
});

for (const ending of ['returns', 'is terminated', 'calls process.exit', 'throws'])
  test(`windows that only a worker held are taken back when it ${ending}`, async () => {
    const { memory } = newMemory();
    const fd = addon.memfd('worker-owned', PAGE_SIZE, false);
    const worker = startWorker(
      ({ addon, accessTo }, { memory, fd, offset, bytes, ending }: Handle & { ending: string }, post) => {
        const view = new Uint8Array(memory.buffer);
        addon.reserve(view, offset, bytes);
        addon.map(view, offset, bytes, { fd, offset: 0n }, 'rw');
        accessTo(memory).store(offset, 3);
        post(true);
        if (ending === 'is terminated') setInterval(() => {}, 1000);
        if (ending === 'calls process.exit') setImmediate(() => process.exit(0));
        if (ending === 'throws')
          setImmediate(() => {
            throw new Error('on purpose');
          });
      },
      { memory, fd, offset: WINDOWS, bytes: PAGE_SIZE, ending },
    );
    const ended = new Promise((resolve) => worker.once('exit', resolve));
    await messageOf(worker);
    worker.on('error', () => {});
    if (ending === 'is terminated') await worker.terminate();
    await within(ended, 'the end of the worker');
    assert.throws(() => accessTo(memory).load(WINDOWS));
    addon.close(fd);
  });

test('a memory that only the addon still refers to is not freed under its windows', async () => {
  const { code, signal, stdout, stderr } = await inProcess(
    async ({ addon, newMemory, accessTo }, { offset, bytes }) => {
      const fd = addon.memfd('kept', bytes, false);
      const addresses = new Set<bigint>();
      for (let index = 0; index < 8; index++) {
        const { memory, view } = newMemory();
        addon.reserve(view, offset, bytes);
        addon.map(view, offset, bytes, { fd, offset: 0n }, 'rw');
        accessTo(memory).store(offset, index);
        addresses.add(addon.address(view));
      }
      for (let round = 0; round < 4; round++) {
        (globalThis as unknown as { gc?: () => void }).gc?.();
        await new Promise((resolve) => setImmediate(resolve));
      }
      for (let index = 0; index < 8; index++) addresses.add(addon.address(newMemory().view));
      console.log(addresses.size);
    },
    { offset: WINDOWS, bytes: PAGE_SIZE },
    ['--expose-gc'],
  );
  assert.equal({ code, signal, stderr }, { code: 0, signal: null, stderr: '' });
  assert.is(stdout, '16\n');
});

test('a worker that ends with everything open leaves no watcher and no private descriptor behind', async () => {
  await inWorker((_, __, post) => post(true), null);
  const before = readdirSync('/proc/self/fd').length;
  const [first, second] = [addon.eventfd(), addon.eventfd()];
  for (let round = 0; round < 5; round++) {
    const worker = startWorker(
      ({ addon }, fds: number[], post) => {
        for (const fd of fds) addon.watch(fd, () => {});
        for (let index = 0; index < 20; index++) addon.watch(fds[0]!, () => {}).close();
        post(true);
      },
      [first, second],
    );
    await messageOf(worker);
    await worker.terminate();
  }
  addon.close(first);
  addon.close(second);
  assert.is(readdirSync('/proc/self/fd').length, before);
});

test('a worker can be terminated while watchers call back without pause', async () => {
  for (let round = 0; round < 10; round++) {
    const worker = startWorker(({ addon }, _: null, post) => {
      const fd = addon.eventfd();
      addon.eventfdSignal(fd);
      // Never drained: readable for ever.
      addon.watch(fd, () => post(true));
    }, null);
    await messageOf(worker);
    await worker.terminate();
  }
});

test('a worker can end with ioctls under way', async () => {
  for (let round = 0; round < 5; round++) {
    const worker = startWorker(({ addon }, _: null, post) => {
      const fd = addon.memfd('busy', 4096, false);
      for (let index = 0; index < 50; index++) void addon.ioctlAsync(fd, 0x541b, new Uint8Array(4));
      setInterval(() => {}, 1000);
      post(true);
    }, null);
    await messageOf(worker);
    await worker.terminate();
  }
});

test('a worker can be terminated in the middle of any operation', async () => {
  for (let round = 0; round < 30; round++) {
    const worker = startWorker(({ addon, newMemory }, _: null, post) => {
      const { view } = newMemory();
      addon.reserve(view, 65536, 65536);
      const ready = new Uint32Array(1);
      const turn = () => {
        for (let count = 0; count < 100; count++) {
          const fd = addon.memfd('busy', 4096, true);
          addon.map(view, 65536, 4096, { fd, offset: 0n }, 'rw');
          addon.guardSigbus(view, 4096);
          addon.unmap(view, 65536, 4096);
          const eventfd = addon.eventfd();
          addon.eventfdSignal(eventfd);
          addon.poll(Int32Array.of(eventfd), ready, 0);
          addon.watch(eventfd, () => {}).close();
          addon.prepareFileIo(view, fd, 4096)(1);
          try {
            addon.prepareIoctl(fd, 0)();
          } catch {}
          addon.ioctlAsync(fd, 0).catch(() => {});
          addon.close(eventfd);
          addon.close(fd);
        }
        post(true);
        setImmediate(turn);
      };
      turn();
    }, null);
    await messageOf(worker);
    await new Promise((resolve) => setTimeout(resolve, round % 7));
    await worker.terminate();
  }
});

test('a process ends cleanly whatever it leaves open', async () => {
  const { code, signal, stdout, stderr } = await inProcess(
    ({ addon, newMemory, accessTo }, { offset, bytes }) => {
      const { memory, view } = newMemory();
      addon.reserve(view, offset, bytes);
      const fd = addon.memfd('left-open', bytes, true);
      addon.map(view, offset, bytes, { fd, offset: 0n }, 'rw');
      addon.guardSigbus(view, 0);
      addon.watch(addon.eventfd(), () => {});
      void addon.ioctlAsync(fd, 0x541b, new Uint8Array(4));
      accessTo(memory).store(offset, 1);
      console.log('left');
      process.exit(7);
    },
    { offset: WINDOWS, bytes: PAGE_SIZE },
  );
  assert.equal({ code, signal, stdout, stderr }, { code: 7, signal: null, stdout: 'left\n', stderr: '' });
});

test('descriptors are close-on-exec: a child process gets none', async () => {
  const fds = [addon.memfd('private', PAGE_SIZE, false), addon.eventfd()];
  fds.push(addon.duplicate(fds[0]!));
  const { stdout } = await inProcess(({ fs }) => {
    const links = fs.readdirSync('/proc/self/fd').map((fd) => {
      try {
        return fs.readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    });
    console.log(links.filter((link) => link.includes('memfd:private')).length);
  }, null);
  assert.is(stdout, '0\n');
  for (const fd of fds) {
    assert.ok(existsSync(`/proc/self/fd/${fd}`));
    addon.close(fd);
  }
});

test.run();
