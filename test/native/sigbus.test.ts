import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { addon, inProcess, newMemory, type Scene, thrown } from './fixture.js';

/** Where windows begin, and where the counter of lost pages is. */
const PLACES = { windows: 65536, flag: 4096, page: PAGE_SIZE };

/** Runs `body` on a memory with 8 pages of a file mapped, whose last 6 pages are then cut off. */
function afterTruncation(
  body: (
    stage: Scene & {
      view: Uint8Array;
      wasm: ReturnType<Scene['accessTo']>;
      lost: () => number;
      /** First byte that the file no longer has. */
      gone: number;
      memory: ReturnType<Scene['newMemory']>['memory'];
    },
  ) => unknown,
  { guard }: { guard: boolean },
) {
  const source = `async (scene, { windows, flag, page, guard }) => {
    const { addon, newMemory, accessTo, fs } = scene;
    const { memory, view } = newMemory();
    addon.reserve(view, windows, view.length - windows);
    const fd = addon.memfd('truncated', 8 * page, false);
    addon.map(view, windows, 8 * page, { fd, offset: 0n }, 'rw');
    if (guard) addon.guardSigbus(view, flag);
    const wasm = accessTo(memory);
    wasm.store(windows, 1);
    wasm.store(windows + 5 * page, 1);
    fs.ftruncateSync(fd, 2 * page);
    const lost = () => Atomics.load(new Int32Array(memory.buffer), flag / 4);
    await (${body})({ ...scene, memory, view, wasm, lost, gone: windows + 2 * page });
  }`;
  return inProcess(source as never, { ...PLACES, guard });
}

test('without a guard, a truncated file kills the process', async () => {
  const { signal, stdout } = await afterTruncation(
    ({ wasm, gone }) => {
      console.log('before');
      console.log(wasm.load(gone));
    },
    { guard: false },
  );
  assert.equal({ signal, stdout }, { signal: 'SIGBUS', stdout: 'before\n' });
});

for (const [what, access] of [
  ['a WASM load', `wasm.load(gone + page)`],
  ['a WASM store', `wasm.store(gone + page, 1)`],
  ['memory.copy from there', `wasm.copy(8192, gone + page, 100)`],
  ['memory.copy to there', `wasm.copy(gone + page, 8192, 100)`],
  ['a JavaScript read', `view[gone + page]`],
  ['a JavaScript write', `view[gone + page] = 1`],
  ['TypedArray.fill', `view.fill(7, gone + page, gone + page + 100)`],
] as const)
  test(`with a guard, ${what} is survived and counted once for the page`, async () => {
    const outcome = await afterTruncation(
      `({ wasm, view, gone, lost }) => {
        const page = ${PAGE_SIZE};
        ${access}; ${access};
        console.log(lost(), wasm.load(${PLACES.windows}));
      }` as never,
      { guard: true },
    );
    assert.equal(outcome, { code: 0, signal: null, stdout: '1 1\n', stderr: '' });
  });

test('every lost page counts, and reads as zeroes', async () => {
  const outcome = await afterTruncation(
    ({ wasm, gone, lost }) => {
      const bytes: number[] = [];
      for (let page = 0; page < 6; page++) bytes.push(wasm.load(gone + page * 4096));
      console.log(lost(), bytes.join(''));
    },
    { guard: true },
  );
  assert.equal(outcome, { code: 0, signal: null, stdout: '6 000000\n', stderr: '' });
});

test('one memory.copy over several lost pages is survived', async () => {
  const outcome = await afterTruncation(
    ({ wasm, gone, lost }) => {
      wasm.copy(8192, gone - 4096, 5 * 4096);
      console.log(lost());
    },
    { guard: true },
  );
  assert.equal(outcome, { code: 0, signal: null, stdout: '4\n', stderr: '' });
});

test('a fault in a worker thread is survived', async () => {
  const outcome = await afterTruncation(
    async ({ memory, gone, lost }) => {
      const { Worker } = await import('node:worker_threads');
      // The guard belongs to the memory: the worker has never loaded the addon.
      const worker = new Worker(
        `const { memory, gone } = process.getBuiltinModule('node:worker_threads').workerData;
        new Uint8Array(memory.buffer)[gone]++;`,
        { eval: true, workerData: { memory, gone } },
      );
      await new Promise((resolve) => worker.once('exit', resolve));
      console.log(lost());
    },
    { guard: true },
  );
  assert.equal(outcome, { code: 0, signal: null, stdout: '1\n', stderr: '' });
});

test('a lost page can be unmapped and mapped again', async () => {
  const outcome = await afterTruncation(
    ({ addon, view, wasm, gone, lost }) => {
      wasm.store(gone, 1);
      addon.unmap(view, gone, 4096);
      let trapped = false;
      try {
        wasm.load(gone);
      } catch {
        trapped = true;
      }
      const fd = addon.memfd('anew', 4096, true);
      addon.map(view, gone, 4096, { fd, offset: 0n }, 'rw');
      console.log(trapped, wasm.load(gone), lost());
    },
    { guard: true },
  );
  assert.equal(outcome, { code: 0, signal: null, stdout: 'true 0 1\n', stderr: '' });
});

test('the counter of the memory that lost a page counts, and no other', async () => {
  const outcome = await afterTruncation(
    ({ addon, newMemory, wasm, gone, lost }) => {
      const others = Array.from({ length: 20 }, () => newMemory());
      for (const { view } of others) {
        addon.reserve(view, 65536, 4096);
        addon.guardSigbus(view, 4096);
      }
      for (const { view } of others.slice(5, 15)) addon.release(view);
      wasm.load(gone);
      console.log(lost(), others.filter(({ view }) => view[4096] !== 0).length);
    },
    { guard: true },
  );
  assert.equal(outcome, { code: 0, signal: null, stdout: '1 0\n', stderr: '' });
});

test('a second guard of a memory replaces the first', async () => {
  const outcome = await afterTruncation(
    ({ addon, view, wasm, gone, lost }) => {
      addon.guardSigbus(view, 8192);
      wasm.load(gone);
      console.log(lost(), view[8192]);
    },
    { guard: true },
  );
  assert.equal(outcome, { code: 0, signal: null, stdout: '0 1\n', stderr: '' });
});

test('release takes the guard off', async () => {
  const { signal } = await afterTruncation(
    ({ addon, fs, view, wasm, gone }) => {
      addon.release(view);
      addon.reserve(view, gone, 4096);
      const fd = addon.memfd('second', 4096, false);
      addon.map(view, gone, 4096, { fd, offset: 0n }, 'rw');
      fs.ftruncateSync(fd, 0);
      wasm.load(gone);
    },
    { guard: true },
  );
  assert.is(signal, 'SIGBUS');
});

test('forget takes the guard off, and leaves the windows', async () => {
  const { signal, stdout } = await afterTruncation(
    ({ addon, view, wasm, gone }) => {
      addon.forget(view);
      console.log('forgotten');
      wasm.load(gone);
    },
    { guard: true },
  );
  assert.equal({ signal, stdout }, { signal: 'SIGBUS', stdout: 'forgotten\n' });
});

test('a fault in a memory that is not guarded kills the process as ever', async () => {
  const { signal, stdout } = await afterTruncation(
    ({ addon, newMemory, wasm, gone }) => {
      const { view } = newMemory();
      addon.reserve(view, 65536, 4096);
      addon.guardSigbus(view, 4096);
      console.log('guarded another');
      wasm.load(gone);
    },
    { guard: false },
  );
  assert.equal({ signal, stdout }, { signal: 'SIGBUS', stdout: 'guarded another\n' });
});

test('a SIGBUS that somebody sends ends the process as ever', async () => {
  const { signal } = await afterTruncation(
    async () => {
      process.kill(process.pid, 'SIGBUS');
      await new Promise((resolve) => setTimeout(resolve, 20_000));
    },
    { guard: true },
  );
  assert.is(signal, 'SIGBUS');
});

test('the kernel, given a lost page, answers EFAULT and takes no guard', async () => {
  const outcome = await afterTruncation(
    ({ addon, view, gone, lost }) => {
      const data = new DataView(view.buffer);
      data.setUint32(8192, 1, true);
      data.setUint32(8196, 1, true);
      data.setUint32(8208, 12288, true);
      data.setUint32(12288, gone, true);
      data.setUint32(12292, 512, true);
      const fd = addon.memfd('source', 512, false);
      addon.prepareFileIo(view, fd, 8192)(1);
      console.log(data.getInt32(8224, true), lost());
    },
    { guard: true },
  );
  assert.equal(outcome, { code: 0, signal: null, stdout: '-14 0\n', stderr: '' });
});

test('only a memory with something reserved is guarded, and its counter lies inside', () => {
  const { view } = newMemory();
  assert.equal(
    thrown(() => addon.guardSigbus(view, 4096)),
    { name: 'Error', code: 'ERANGE', errno: -34, syscall: 'sigaction' },
  );
  addon.reserve(view, 65536, 4096);
  for (const flag of [view.length, view.length - 3, 2, -4, 0.5])
    assert.is(thrown(() => addon.guardSigbus(view, flag)).name, 'RangeError');
  addon.guardSigbus(view, view.length - 4);
  addon.release(view);
});

test.run();
