import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, Bus, expose, openBlock, serve } from '../../host/index.js';
import { parseProcessSnapshot } from '../../host/observability/process-snapshot.js';
import { StatsClient } from '../../host/observability/stats-client.js';
import { rejects } from '../drivers/block-fixture.js';

const folder = mkdtempSync(join(tmpdir(), 'expose-'));
test.after(() => rmSync(folder, { recursive: true }));
const INDEX = fileURLToPath(new URL('../../host/index.js', import.meta.url));

let sockets = 0;
const newPath = () => join(folder, `${sockets++}.sock`);

/** A snapshot that is one. */
const SNAPSHOT = { version: 1, pid: 1, title: 'node', time: 5, devices: [], threads: [] };

/** Leaves a socket whose process was killed. */
async function leaveDead(path: string): Promise<void> {
  const script = `import { createServer } from 'node:net'; createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'));`;
  await once(spawn(process.execPath, ['--input-type=module', '-e', script]), 'close');
  assert.ok(lstatSync(path).isSocket());
}

/** A server that answers each client as `answer` does. */
async function impostor(answer: (socket: Socket) => void): Promise<{ path: string; server: Server }> {
  const path = newPath();
  const server = createServer((socket) => {
    socket.on('error', () => {});
    answer(socket);
  }).listen(path);
  await once(server, 'listening');
  server.unref();
  return { path, server };
}

test('shows both sides of a disk, its queues, its threads and their CPU time', async () => {
  const bus = new Bus();
  const device = await serve(new BlockDevice({ memory: 2 ** 20 }), { name: 'disk0', bus, threads: 1 });
  const disk = await openBlock('disk0', { bus });
  const exposure = await expose({ path: newPath() });
  const client = await StatsClient.connect(exposure.path);
  for (let index = 0; index < 20; index++) await disk.read(0, 4096);
  const { pid, devices, threads } = await client.snapshot();
  assert.is(pid, process.pid);
  const [served, driven] = devices as [(typeof devices)[0], (typeof devices)[0]];
  assert.equal([served.side, driven.side], ['device', 'driver']);
  for (const side of [served, driven]) {
    assert.is(side.name, 'disk0');
    assert.is(side.queues[0]!.requests, 20);
    assert.ok(side.queues[0]!.latency!.samples > 0, 'somebody looks: requests are timed');
  }
  assert.is(driven.queues[0]!.thread, process.pid);
  const ids = [process.pid, served.messageThread, served.queues[0]!.thread];
  assert.is(new Set(ids).size, 3, 'three threads');
  assert.equal(threads.map(({ thread }) => thread).sort(), ids.sort());
  assert.ok(threads.every(({ cpu }) => cpu > 0));
  client.close();
  await exposure.close();
  await disk.close();
  await device.close();
  await bus.close();
});

test('shows the given devices and no others', async () => {
  const device = {
    name: 'mine',
    snapshot: () => ({ name: 'mine', side: 'device', deviceId: 2, broken: true, queues: [] }) as const,
  };
  const exposure = await expose({ path: newPath(), devices: [device] });
  const client = await StatsClient.connect(exposure.path);
  assert.equal((await client.snapshot()).devices, [device.snapshot()]);
  client.close();
  await exposure.close();
});

test('the socket is its owner’s alone, and goes with the exposure', async () => {
  const path = newPath();
  const exposure = await expose({ path });
  assert.is(exposure.path, path);
  assert.is(statSync(path).mode & 0o777, 0o600);
  await exposure.close();
  await exposure.close();
  assert.is(existsSync(path), false);
  assert.equal(
    readdirSync(folder).filter((name) => name.startsWith(path.slice(folder.length + 1))),
    [],
    'no folder is left',
  );
});

test('has a place of its own, which nobody else may look into, and clears away what the dead have left', async () => {
  const runtime = mkdtempSync(join(folder, 'runtime-'));
  const before = process.env.XDG_RUNTIME_DIR;
  process.env.XDG_RUNTIME_DIR = runtime;
  try {
    mkdirSync(join(runtime, 'ringbell-stats'), { mode: 0o700 });
    const dead = join(runtime, 'ringbell-stats', '1.sock');
    await leaveDead(dead);
    const exposure = await expose();
    assert.is(exposure.path, join(runtime, 'ringbell-stats', `${process.pid}.sock`));
    assert.is(existsSync(dead), false);
    await exposure.close();
    rmSync(join(runtime, 'ringbell-stats'), { recursive: true });
    mkdirSync(join(runtime, 'ringbell-stats'), { mode: 0o777 });
    statSync(join(runtime, 'ringbell-stats'));
    await rejects(expose(), 'ERR_NOT_SUPPORTED', /no other's to look into/);
  } finally {
    if (before === undefined) delete process.env.XDG_RUNTIME_DIR;
    else process.env.XDG_RUNTIME_DIR = before;
  }
});

test('takes the place of a dead socket, of nothing that lives and of no file', async () => {
  const path = newPath();
  await leaveDead(path);
  const exposure = await expose({ path });
  await rejects(expose({ path }), 'EADDRINUSE');
  (await StatsClient.connect(path)).close();
  await exposure.close();
  writeFileSync(path, 'a file');
  await rejects(expose({ path }), 'EADDRINUSE');
  assert.is(statSync(path).size, 6);
});

test('a place that was taken meanwhile is left to who took it', async () => {
  const path = newPath();
  const exposure = await expose({ path });
  rmSync(path);
  const other = await expose({ path });
  await exposure.close();
  (await StatsClient.connect(path)).close();
  await other.close();
});

test('refuses options that make no sense', async () => {
  await rejects(expose({ path: '' }), 'ERR_ARGUMENT');
  await rejects(expose({ pfad: 'x' } as never), 'ERR_ARGUMENT', /has no option 'pfad'/);
  await rejects(expose({ path: join(folder, 'nowhere', 's') }), 'ENOENT');
});

test('a client that talks nonsense is cut off, and nobody else is disturbed', async () => {
  const exposure = await expose({ path: newPath() });
  const client = await StatsClient.connect(exposure.path);
  for (const nonsense of ['GET / HTTP/1.1\r\n', 'snapshots', '\0'.repeat(70_000)]) {
    const socket = connect(exposure.path);
    socket.on('error', () => {});
    socket.write(nonsense);
    // Cut off in the middle of what it says, it may see a reset.
    await new Promise((resolve) => socket.on('close', resolve));
  }
  assert.is((await client.snapshot()).pid, process.pid);
  client.close();
  await exposure.close();
});

test('a client that asks and does not read takes no memory', async () => {
  const exposure = await expose({
    path: newPath(),
    devices: [
      {
        name: 'x',
        snapshot: () => ({ name: 'x'.repeat(1e6), side: 'device', deviceId: 2, broken: false, queues: [] }),
      },
    ],
  });
  const socket = connect(exposure.path);
  socket.pause();
  socket.on('error', () => {});
  const closed = once(socket, 'close');
  const before = process.memoryUsage().rss;
  for (let index = 0; index < 200; index++) socket.write('snapshot\n'.repeat(10));
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.ok(process.memoryUsage().rss - before < 200e6, 'not 2000 answers');
  socket.resume();
  socket.destroy();
  await closed;
  await exposure.close();
});

test('clients beyond the limit are turned away', async () => {
  const exposure = await expose({ path: newPath() });
  const clients: StatsClient[] = [];
  for (let index = 0; index < 16; index++) {
    const client = await StatsClient.connect(exposure.path);
    await client.snapshot();
    clients.push(client);
  }
  const refused = await StatsClient.connect(exposure.path);
  await refused.snapshot().then(
    () => assert.unreachable(),
    () => {},
  );
  for (const client of clients) client.close();
  await exposure.close();
});

test('an exposure does not keep its process alive, not even with a client', async () => {
  const path = newPath();
  const script = `import { expose } from ${JSON.stringify(INDEX)}; await expose({ path: ${JSON.stringify(path)} }); setTimeout(() => {}, 300); console.log('ready');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const socket = connect(path);
  socket.on('error', () => {});
  const [status] = await once(child, 'exit');
  assert.is(status, 0);
  socket.destroy();
});

for (const [what, answer, says] of [
  ['says nothing', () => {}, /does not answer/],
  ['talks nonsense', (socket) => socket.write('nonsense\n'), /sends no snapshot/],
  ['leaves at once', (socket) => socket.destroy(), /closed|EPIPE|ECONNRESET/],
  [
    'is of another version',
    (socket) => socket.write(`${JSON.stringify({ ...SNAPSHOT, version: 2 })}\n`),
    /version 2/,
  ],
  ['sends without end', (socket) => flood(socket), /has no end/],
] as [string, (socket: Socket) => void, RegExp][])
  test(`a process that ${what} is one without a snapshot`, async () => {
    const { path, server } = await impostor(answer);
    await StatsClient.connect(path)
      .then((client) => client.snapshot())
      .then(
        () => assert.unreachable(),
        (error) => assert.match(`${error.message} ${error.code}`, says),
      );
    server.close();
  });

function flood(socket: Socket): void {
  const piece = 'x'.repeat(2 ** 20);
  const more = () => socket.write(piece, (error) => void (error || more()));
  more();
}

test('what is no snapshot is none, and names cannot steer a terminal', () => {
  const queue = {
    queue: 0,
    requests: 1,
    bytesRead: 0,
    bytesWritten: 0,
    kicks: 0,
    interrupts: 0,
    crossings: 0,
    inFlight: 0,
  };
  const device = { name: 'a\x1b[2J\u202e\nb', side: 'device', deviceId: 2, broken: false, queues: [queue] };
  const parse = (value: unknown) => parseProcessSnapshot(JSON.stringify(value));
  const [parsed] = parse({ ...SNAPSHOT, devices: [device] }).devices;
  assert.is(parsed!.name, 'a\ufffd[2J\ufffd\ufffdb');
  assert.equal(parsed!.queues, [queue]);
  for (const wrong of [
    null,
    [],
    { ...SNAPSHOT, pid: '1' },
    { ...SNAPSHOT, pid: -1 },
    { ...SNAPSHOT, title: 5 },
    { ...SNAPSHOT, devices: {} },
    { ...SNAPSHOT, devices: [null] },
    { ...SNAPSHOT, devices: [{ ...device, side: 'top' }] },
    { ...SNAPSHOT, devices: [{ ...device, queues: [{ ...queue, requests: undefined }] }] },
    {
      ...SNAPSHOT,
      devices: [{ ...device, queues: [{ ...queue, latency: { samples: 1, sum: 1, buckets: [[1]] } }] }],
    },
    { ...SNAPSHOT, threads: [{ thread: 1 }] },
  ])
    assert.throws(() => parse(wrong), undefined, JSON.stringify(wrong));
  assert.throws(() => parseProcessSnapshot('{"version":1,"pid":1e999}'));
});

test.run();
