/** Connections that are lost, servers that go and come back, that are slow, or that come back as another. */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NbdDisk } from '../../host/models/nbd/nbd-disk.js';
import * as nbd from '../../host/nbd/protocol.js';
import { rejects, until, within } from '../models/fixture.js';
import { failure, scriptedScene } from './fixture.js';
import { ALL_FLAGS, type Script, ScriptedServer, type SeenRequest, simpleReply } from './scripted-server.js';

const { NBD_CMD_FLUSH, NBD_CMD_WRITE } = nbd;
const block = (byte: number) => new Uint8Array(4096).fill(byte);

/** Never answers what it is sent. */
const silent: Script = { request: () => true };

test('what waits while there is no server is done when there is one again', async () => {
  await scriptedScene({}, { connections: 3 }, async ({ server, disk, model, reasons, errors }) => {
    await until(() => model.connections === 3, 'three connections');
    await server.refuse();
    const calls = [disk.write(0, block(1)), disk.write(8192, block(2)), disk.flush()];
    await until(() => reasons.length > 2, 'attempts to connect');
    await server.listen();
    await within(Promise.all(calls), 'the calls');
    await until(() => model.connections === 3, 'three connections again');
    assert.equal([server.bytes[4095], server.bytes[8192]], [1, 2]);
    assert.equal([model.reconnects, errors], [1, []]);
    assert.ok(reasons.every((code) => code === 'ERR_NBD_CONNECT'));
  });
});

test('requests that had no answer when their connections ended are sent again, those that had are not', async () => {
  let answers = true;
  const request = (): boolean => !answers;
  await scriptedScene({ request }, { connections: 2 }, async ({ server, disk, model, errors }) => {
    await until(() => model.connections === 2, 'two connections');
    await within(disk.write(0, block(1)), 'write');
    answers = false;
    const calls = Array.from({ length: 16 }, (_, index) => disk.write(4096 * (index + 1), block(index + 2)));
    calls.push(disk.flush());
    await until(() => server.seen.length === 18, 'all requests');
    answers = true;
    server.drop();
    await within(Promise.all(calls), 'the calls');
    assert.is(server.bytes[4096 * 16], 17);
    const writesTo = (offset: number) =>
      server.seen.filter((seen) => seen.type === NBD_CMD_WRITE && seen.offset === offset).length;
    assert.equal([writesTo(0), writesTo(4096), writesTo(4096 * 16)], [1, 2, 2]);
    assert.is(server.seen.filter(({ type }) => type === NBD_CMD_FLUSH).length, 2);
    assert.equal(errors, []);
  });
});

test('one lost connection of several is nothing to speak of', async () => {
  await scriptedScene({}, { connections: 3 }, async ({ server, disk, model, reasons }) => {
    await until(() => model.connections === 3, 'three connections');
    const [first] = server.sockets;
    first!.destroy();
    await within(disk.write(0, block(7)), 'write');
    await until(() => server.accepted === 4 && model.connections === 3, 'three connections again');
    assert.equal([reasons, model.reconnects, server.bytes[0]], [[], 0, 7]);
  });
});

test('without NBD_FLAG_CAN_MULTI_CONN there is one connection, also after it was lost', async () => {
  const flags = ALL_FLAGS & ~nbd.NBD_FLAG_CAN_MULTI_CONN;
  await scriptedScene({ flags }, { connections: 4 }, async ({ server, disk, model }) => {
    server.drop();
    await within(disk.write(0, block(1)), 'write');
    server.drop();
    await within(disk.write(0, block(2)), 'write');
    assert.equal([server.accepted, model.connections], [3, 1]);
  });
});

test('a connection that leaves a request without an answer is given up, and the request sent on another', async () => {
  let answers = false;
  const request = () => !answers;
  const options = { connections: 1, timeoutMs: 100, deadConnTimeoutMs: 30_000 };
  await scriptedScene({ request }, options, async ({ server, disk, reasons, errors }) => {
    const write = disk.write(0, block(1));
    await until(() => server.accepted > 2, 'two connections given up');
    answers = true;
    await within(write, 'write');
    assert.is(reasons[0], 'ERR_NBD_TIMEOUT');
    assert.equal(errors, []);
  });
});

test('a server that never answers anything does not hold a request for ever', async () => {
  const options = { connections: 2, timeoutMs: 50, deadConnTimeoutMs: 100 };
  await scriptedScene(silent, options, async ({ device, disk, errors }) => {
    const calls = Array.from({ length: 300 }, (_, index) =>
      failure(disk.write(512 * index, new Uint8Array(512))),
    );
    const codes = (await within(Promise.all(calls), 'the calls')).map(({ code }) => code);
    assert.ok(codes.every((code) => code === 'ERR_IO'));
    assert.is(device.stats().ioErrors, 300);
    assert.ok(errors.every((code) => code === 'ERR_MODEL'));
  });
});

test('without a server requests fail after a while, then at once, and are served when it is back', async () => {
  const options = { connections: 1, deadConnTimeoutMs: 200 };
  await scriptedScene({}, options, async ({ server, device, disk, model }) => {
    const causes: (string | undefined)[] = [];
    device.on('error', ({ cause }) => causes.push((cause as { code?: string }).code));
    await server.refuse();
    assert.is((await within(failure(disk.write(0, block(1))), 'write')).code, 'ERR_IO');
    assert.is((await within(failure(disk.read(0, 512)), 'read')).code, 'ERR_IO');
    assert.equal(causes, ['ERR_NBD_TIMEOUT', 'ERR_NBD_TIMEOUT']);
    await server.listen();
    await until(() => model.connections === 1, 'a connection');
    await within(disk.write(0, block(1)), 'the next write');
    assert.is(server.bytes[0], 1);
  });
});

test('a server that ends each connection before it has answered is asked ever less often', async () => {
  let ends = false;
  const request = (_seen: SeenRequest, socket: Socket) => {
    if (ends) socket.destroy();
    return ends;
  };
  const options = { connections: 1, timeoutMs: 1000, deadConnTimeoutMs: 1000 };
  await scriptedScene({ request }, options, async ({ server, disk }) => {
    await within(disk.write(0, block(1)), 'write');
    ends = true;
    assert.is((await within(failure(disk.write(0, block(2))), 'write')).code, 'ERR_IO');
    // 2 s at 0, 25, 50, 100, 200, 400 ms and so on; without pauses there would be thousands.
    assert.ok(server.accepted < 20, `${server.accepted} connections`);
  });
});

for (const [name, change, message] of [
  ['of another size', { size: 2n ** 19n }, /its size was 1048576 bytes and is 524288$/],
  ['that is read-only', { flags: ALL_FLAGS | nbd.NBD_FLAG_READ_ONLY }, /it has become read-only$/],
  ['without FLUSH', { flags: ALL_FLAGS & ~nbd.NBD_FLAG_SEND_FLUSH }, /it knows FLUSH no more$/],
  ['with larger blocks', { blockSizes: [4096, 4096, 2 ** 25] }, /its minimum block was 1 bytes and is 4096$/],
  [
    'with smaller payloads',
    { blockSizes: [1, 4096, 65536] },
    /its maximum payload was 33554432 bytes and is 65536$/,
  ],
] as [string, Script, RegExp][])
  test(`a server that comes back with an export ${name} is refused, until it is what it was`, async () => {
    await scriptedScene({}, { connections: 1 }, async ({ server, disk, model, errors }) => {
      const said: string[] = [];
      model.events.on('reconnecting', ({ code, message: text }) => said.push(`${code} ${text}`));
      server.script = change;
      server.drop();
      const write = disk.write(0, block(1));
      await until(() => said.some((text) => text.startsWith('ERR_NBD_CHANGED')), 'the refusal');
      assert.match(said.find((text) => text.startsWith('ERR_NBD_CHANGED'))!, message);
      server.script = {};
      await within(write, 'write');
      assert.equal([server.bytes[0], errors], [1, []]);
    });
  });

test('what a reset has made a driver forget does not overwrite what comes after it', async () => {
  const held: (() => void)[] = [];
  let hold = true;
  const script: Script = {};
  const server = await ScriptedServer.start(script);
  script.request = (seen, socket) => {
    if (!hold || seen.type !== NBD_CMD_WRITE) return false;
    held.push(() => server.answer(seen, socket));
    return true;
  };
  const model = await within(NbdDisk.connect(server.uri), 'connect');
  try {
    const first = model.write(0, block(1));
    await until(() => held.length === 1, 'the first write');
    hold = false;
    const second = model.write(2048, block(2));
    await within(model.write(65536, block(3)), 'a write elsewhere');
    assert.is(server.bytes[2048], 0);
    held[0]!();
    await within(Promise.all([first, second]), 'both writes');
    assert.equal([server.bytes[0], server.bytes[2048], server.bytes[6143]], [1, 2, 2]);
  } finally {
    await within(model.close(), 'closing the model');
    await server.close();
  }
});

test('closing waits for what is on its way, then disconnects; later calls are refused', async () => {
  let answer = () => {};
  const script: Script = {};
  const server = await ScriptedServer.start(script);
  script.request = (seen, socket) => {
    answer = () => socket.write(simpleReply(seen.cookie));
    return true;
  };
  const model = await within(NbdDisk.connect(server.uri, { connections: 1 }), 'connect');
  const write = model.write(0, block(1));
  await until(() => server.seen.length === 1, 'the write');
  const closing = model.close();
  await rejects(model.read(0, block(0)), 'ERR_CLOSED');
  answer();
  await within(Promise.all([write, closing]), 'the end');
  await until(() => server.sockets.size === 0, 'the disconnection');
  assert.equal(
    server.seen.map(({ type }) => type),
    [NBD_CMD_WRITE, nbd.NBD_CMD_DISC],
  );
  await server.close();
});

test('closing does not wait for a server that is not there', async () => {
  const server = await ScriptedServer.start();
  const model = await within(NbdDisk.connect(server.uri), 'connect');
  await server.close();
  const write = failure(model.write(0, block(1)));
  await within(model.close(), 'closing the model', 5000);
  assert.is((await write).code, 'ERR_NBD_TIMEOUT');
});

test('a disk that nobody asks anything lets the process end, connected or not', async () => {
  const server = await ScriptedServer.start();
  const entry = new URL('../../host/index.js', import.meta.url).href;
  for (const then of ['', 'await disk.read(0, new Uint8Array(512));'])
    assert.is(await ended(`${connecting(entry, server.uri)} ${then}`), 0);
  await server.close();
});

const connecting = (entry: string, uri: string) =>
  `import { NbdDisk } from '${entry}'; const disk = await NbdDisk.connect('${uri}');`;

/** Exit status of a program; its server is in this process. */
async function ended(program: string): Promise<number | null> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'inherit' });
  return within(new Promise((resolve) => child.once('exit', resolve)), 'the end of the program');
}

test.run();
