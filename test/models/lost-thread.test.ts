import { spawn } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import { BlockDevice } from '../../host/models/blk/block-device.js';
import { serve } from '../../host/serve.js';
import { nextError, rejects, scene, until, within } from './fixture.js';

const MIB = 2 ** 20;

for (const mode of ['notify', 'poll'] as const)
  test(`a queue thread that is killed in mode ${mode} breaks its device, and is replaced at the reset`, async () => {
    await scene(
      new BlockDevice({ memory: MIB }),
      { mode, queues: 2, threads: 2 },
      async ({ bus, device, disk }) => {
        const bytes = new Uint8Array(4096).fill(9);
        await within(disk.write(0, bytes), 'write');
        const error = nextError(device);
        const published: unknown[] = [];
        const listener = (message: unknown) => published.push((message as { error: unknown }).error);
        subscribe('ringbell:device:error', listener);
        const killed = device.queueThreads[0]!;
        // In the middle of requests: the thread may well be inside the ring.
        const requests = Array.from({ length: 64 }, () => disk.read(0, 4096).catch(() => {}));
        await within(killed.terminate(), 'terminate');
        const lost = await error;
        assert.is(lost.code, 'ERR_THREAD_LOST');
        assert.match((lost.cause as Error).message, 'the thread ended with status 1');
        assert.equal(published, [lost]);
        unsubscribe('ringbell:device:error', listener);
        await within(Promise.all(requests), 'requests');
        await rejects(disk.read(0, 4096), 'ERR_DEVICE_BROKEN');
        await within(disk.close(), 'close');
        const again = await within(openBlock('disk0', { bus }), 'openBlock');
        assert.equal(await within(again.read(0, 4096), 'read'), bytes);
        await within(again.close(), 'close');
        assert.is.not(device.queueThreads[0], killed);
      },
    );
  });

test('a queue thread that dies before the device serves is the end of serve, and nothing is left', async () => {
  await using bus = new Bus();
  // The first thread that serve starts runs queues.
  process.once('worker', (worker: Worker) => void worker.terminate());
  const options = { name: 'disk0', bus, threads: 1 };
  await rejects(within(serve(new BlockDevice({ memory: MIB }), options), 'serve'), 'ERR_THREAD_LOST');
  assert.equal(bus.list(), []);
  await using device = await within(serve(new BlockDevice({ memory: MIB }), options), 'serve');
  assert.is(device.queueThreads.length, 1);
});

test('a message thread that is killed takes its device off the bus, and nothing hangs', async () => {
  await scene(new BlockDevice({ memory: MIB }), {}, async ({ bus, device, disk }) => {
    const closed = new Promise<void>((resolve) => device.once('close', resolve));
    const error = nextError(device);
    await within(device.messageThread.terminate(), 'terminate');
    assert.is((await error).code, 'ERR_THREAD_LOST');
    await within(closed, 'close');
    await rejects(disk.read(0, 512), 'ERR_DEVICE_BROKEN');
    assert.equal(bus.list(), []);
  });
});

test('a resize that its message thread does not live to see is refused', async () => {
  await scene(new BlockDevice({ memory: MIB }), {}, async ({ device }) => {
    const ended = device.messageThread.terminate();
    await rejects(within(device.resize(2 * MIB), 'resize'), 'ERR_DEVICE_BROKEN');
    await within(ended, 'terminate');
  });
});

/** Runs a program of some lines on the package as it is built: its output and how it ended, within 10 seconds. */
async function run(lines: string): Promise<{ output: string; code: number | null; signal: string | null }> {
  const imports = `
    import { Bus } from '${new URL('../../host/bus/index.js', import.meta.url)}';
    import { openBlock } from '${new URL('../../host/drivers/blk.js', import.meta.url)}';
    import { BlockDevice } from '${new URL('../../host/models/blk/block-device.js', import.meta.url)}';
    import { serve } from '${new URL('../../host/serve.js', import.meta.url)}';
    const bus = new Bus();
    const device = await serve(new BlockDevice({ memory: 65536 }), { name: 'disk0', bus, queues: 2 });
    const disk = await openBlock('disk0', { bus });
    await disk.read(0, 512);
  `;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', imports + lines]);
  let output = '';
  child.stdout.on('data', (chunk) => (output += chunk));
  child.stderr.on('data', (chunk) => (output += chunk));
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  const [code, signal] = await once(child, 'close');
  clearTimeout(timer);
  return { output, code, signal };
}

test('process.exit with devices open ends the process', async () => {
  const { code, signal, output } = await run('process.exit(7);');
  assert.equal([code, signal], [7, null], output);
});

test('an uncaught exception with devices open ends the process', async () => {
  const { code, signal, output } = await run("throw new Error('on purpose');");
  assert.equal([code, signal], [1, null]);
  assert.match(output, /on purpose/);
});

test('a served device keeps the process alive until unref', async () => {
  const { code, signal, output } = await run('await disk.close(); device.unref();');
  assert.equal([code, signal], [0, null], output);
});

test('a served device keeps the process alive until close, which leaves nothing behind', async () => {
  const lines =
    "await disk.close(); setTimeout(() => { console.log('alive'); device.close(); }, 300).unref();";
  const { code, signal, output } = await run(lines);
  assert.equal([code, signal, output], [0, null, 'alive\n']);
});

test('a worker that serves can be terminated', async () => {
  const worker = `
    import { Worker } from 'node:worker_threads';
    await disk.close();
    await device.close();
    const serving = new Worker(
      \`(async () => {
         const { parentPort } = await import('node:worker_threads');
         const { BlockDevice } = await import('${new URL('../../host/models/blk/block-device.js', import.meta.url)}');
         const { serve } = await import('${new URL('../../host/serve.js', import.meta.url)}');
         await serve(new BlockDevice({ memory: 65536 }), { name: 'disk1' });
         parentPort.postMessage('serving');
       })();\`, { eval: true });
    serving.on('message', async () => { await serving.terminate(); console.log('terminated'); });
  `;
  const { code, signal, output } = await run(worker);
  assert.equal([code, signal, output], [0, null, 'terminated\n']);
});

test('no thread is left after close', async () => {
  await scene(new BlockDevice({ memory: MIB }), { queues: 4, threads: 3 }, async ({ device }) => {
    const threads = device.queueThreads;
    assert.is(threads.length, 3);
    let ended = 0;
    for (const thread of threads) thread.once('exit', () => ended++);
    await within(device.close(), 'close');
    await until(() => ended === 3, 'the end of the threads');
  });
});

test.run();
