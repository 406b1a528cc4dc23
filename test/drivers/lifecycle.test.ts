import { spawn } from 'node:child_process';
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBlock } from '../../host/drivers/blk.js';
import { CAPACITY, diskScene, pattern, rejects, serveTestDisk } from './block-fixture.js';

/** Milliseconds; a child that takes longer hangs. */
const CHILD_TIMEOUT_MS = 20_000;

/** Runs `script` in a process of its own: its exit status, what it printed, or 'hangs'. */
function run(script: string): Promise<{ code: number | null | 'hangs'; output: string }> {
  const fixture = fileURLToPath(new URL('./block-fixture.js', import.meta.url));
  const drivers = fileURLToPath(new URL('../../host/drivers/blk.js', import.meta.url));
  const source = `import { serveTestDisk } from '${fixture}'; import { openBlock } from '${drivers}'; ${script}`;
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', source]);
    let output = '';
    let hangs = false;
    const timer = setTimeout(() => {
      hangs = true;
      child.kill('SIGKILL');
    }, CHILD_TIMEOUT_MS);
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code: hangs ? 'hangs' : code, output });
    });
  });
}

test('close waits for requests on their way, and refuses new ones meanwhile', () =>
  diskScene(
    async ({ device, disk }) => {
      const write = disk.write(0, pattern(2 ** 18));
      const closing = disk.close();
      await rejects(disk.read(0, 512), 'ERR_CLOSED', /disk0 has been closed/);
      device.release();
      await write;
      await closing;
      assert.equal(device.bytes.slice(0, 2 ** 18), pattern(2 ** 18));
    },
    { hold: true },
  ));

test('close does not wait for a device that breaks meanwhile', () =>
  diskScene(
    async ({ disk, file }) => {
      const read = disk.read(0, 512);
      const closing = disk.close();
      await file.needsReset();
      await rejects(read, 'ERR_DEVICE_BROKEN');
      await closing;
    },
    { hold: true },
  ));

test('every call after close rejects with ERR_CLOSED, but for close itself', () =>
  diskScene(async ({ disk }) => {
    await disk.close();
    const calls: [string, () => unknown][] = [
      ['read', () => disk.read(0, 512)],
      ['write', () => disk.write(0, pattern(512))],
      ['flush', () => disk.flush()],
      ['discard', () => disk.discard(0, 512)],
      ['writeZeroes', () => disk.writeZeroes(0, 512)],
      ['getId', () => disk.getId()],
      ['alloc', async () => disk.alloc(512)],
      ['batch', async () => disk.batch()],
    ];
    for (const [, call] of calls) await rejects(call() as Promise<unknown>, 'ERR_CLOSED');
    await disk.close();
    assert.is(disk.capacity, CAPACITY);
    assert.match(inspect(disk), /closed/);
    disk.ref().unref();
  }));

test('a disk can be opened again once closed, and only then', async () => {
  const { bus, device } = await serveTestDisk();
  const first = await openBlock('disk0', { bus });
  await rejects(openBlock('disk0', { bus }), 'ERR_DEVICE_BUSY');
  await first.write(0, pattern(512));
  await first.close();
  await using second = await openBlock('disk0', { bus });
  assert.equal(await second.read(0, 512), pattern(512));
  await second.close();
  await bus.close();
  device.close();
});

test('memory from alloc stays valid after close', () =>
  diskScene(async ({ disk }) => {
    const memory = disk.alloc(8192);
    memory.set(pattern(8192));
    await disk.write(0, memory);
    await disk.close();
    assert.equal(memory.slice(), pattern(8192));
    memory.fill(7);
    assert.is(memory[8191], 7);
  }));

test('alloc gives out what allocBytes says', () =>
  diskScene(
    async ({ disk }) => {
      assert.is(disk.alloc(4096).length, 4096);
      assert.is(disk.alloc(4096).byteOffset % 4096, 0);
      assert.throws(() => disk.alloc(1), /0 of 8192 bytes are left \(allocBytes\)/);
      assert.throws(() => disk.alloc(-1), TypeError);
    },
    {},
    { allocBytes: 8192 },
  ));

test('opening and closing leaves no descriptor behind', async () => {
  const { bus, device } = await serveTestDisk();
  const cycle = async () => {
    const disk = await openBlock('disk0', { bus });
    await disk.read(0, 512);
    await disk.close();
  };
  await cycle();
  const before = readdirSync('/proc/self/fd').length;
  for (let index = 0; index < 10; index++) await cycle();
  assert.is(readdirSync('/proc/self/fd').length, before);
  await bus.close();
  device.close();
});

test('an idle disk lets the process end', async () => {
  for (const mode of ['notify', 'poll']) {
    const { code, output } = await run(
      `const { bus } = await serveTestDisk();
       const disk = await openBlock('disk0', { bus, mode: '${mode}' });
       await disk.read(0, 512);
       console.log('idle');`,
    );
    assert.is(code, 0, output);
    assert.match(output, /idle/);
  }
});

test('a request on its way keeps the process alive, unless unref was called', async () => {
  for (const mode of ['notify', 'poll']) {
    const script = (unref: string) =>
      `const { bus, device } = await serveTestDisk({ hold: true });
       const disk = await openBlock('disk0', { bus, mode: '${mode}' });${unref}
       disk.read(0, 512).then(() => console.log('done'));
       setTimeout(() => device.release(), 100).unref();`;
    const held = await run(script(''));
    assert.is(held.code, 0, held.output);
    assert.match(held.output, /done/);
    const released = await run(script(' disk.unref();'));
    assert.is(released.code, 0, released.output);
    assert.not.match(released.output, /done/);
  }
});

test('a process that ends in the middle of everything ends cleanly', async () => {
  const { code, output } = await run(
    `const { bus } = await serveTestDisk({ hold: true });
     const disk = await openBlock('disk0', { bus });
     disk.ref();
     disk.read(0, 512).catch(() => {});
     setImmediate(() => process.exit(3));`,
  );
  assert.is(code, 3, output);
});

test('says on diagnostics channels what happens', async () => {
  const seen: string[] = [];
  const names = ['open', 'doorbell', 'request', 'close'];
  const listeners = names.map((name) => (message: unknown) => {
    const { kind, code } = message as { kind?: string; code?: string };
    seen.push([name, kind ?? code].filter(Boolean).join(' '));
  });
  names.forEach((name, index) => {
    subscribe(`ringbell:disk:${name}`, listeners[index] as () => void);
  });
  await diskScene(async ({ disk }) => {
    await disk.write(0, pattern(512));
  });
  names.forEach((name, index) => {
    unsubscribe(`ringbell:disk:${name}`, listeners[index] as () => void);
  });
  assert.equal(seen, ['open', 'doorbell ENOTSUPP', 'request write', 'close']);
});

test('shows itself readably', () =>
  diskScene(async ({ disk }) => {
    assert.is(inspect(disk), `BlockDisk { disk0, ${CAPACITY} bytes, 1 queue }`);
    assert.ok(disk.features.includes('VIRTIO_F_VERSION_1'), disk.features.join());
    assert.ok(disk.features.includes('VIRTIO_BLK_F_FLUSH'));
  }));

test('gives up on requests that a device never answers', () =>
  diskScene(
    async ({ disk }) => {
      const call = disk.read(0, 512);
      call.catch(() => {});
      const closing = disk.close();
      let error: unknown;
      await call.catch((caught) => {
        error = caught;
      });
      assert.is((error as { code: string }).code, 'ERR_CLOSED');
      await closing;
    },
    { hold: true, patience: 20_000 },
  ));

test('memory of closed disks goes with the last view of it', async () => {
  const { bus, device } = await serveTestDisk();
  const maps = () => readFileSync('/proc/self/maps', 'utf8').match(/memfd:ringbell.disk0 /g)?.length ?? 0;
  const round = async () => {
    const disk = await openBlock('disk0', { bus });
    const memory = disk.alloc(4096).fill(1);
    await disk.write(0, memory);
    disk.batch();
    await disk.close();
    return memory;
  };
  const kept = await round();
  for (let rounds = 0; rounds < 10; rounds++) await round();
  // V8 frees memory of collected buffers in its own time.
  const deadline = performance.now() + 10_000;
  while (maps() > 1) {
    assert.ok(performance.now() < deadline, `${maps()} mappings are left`);
    globalThis.gc?.();
    await new Promise(setImmediate);
  }
  assert.is(maps(), 1);
  assert.is(kept[4095], 1);
  await bus.close();
  device.close();
});

test.run();
