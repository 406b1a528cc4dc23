import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openNet } from '../../host/drivers/net.js';
import { CAPTURE_BUFFER_BYTES, FrameCapture } from '../../host/observability/frame-capture.js';
import { INBOUND, OUTBOUND } from '../../host/observability/pcapng.js';
import { rejects } from '../drivers/block-fixture.js';
import { netScene, serveTestNet, testFrame } from '../drivers/net-fixture.js';
import { findTool } from '../vm/requirements.js';
import { readPcapng } from './pcapng-reader.js';

const folder = mkdtempSync(join(tmpdir(), 'capture-'));
test.after(() => rmSync(folder, { recursive: true }));

const EPB_FLAGS = 2;
const EPB_DROPCOUNT = 4;
const EPB_QUEUE = 6;
const ISB_IFRECV = 4;
const ISB_IFDROP = 5;
const NET = [{ name: 'net0', description: 'a test', mac: '52:54:00:aa:bb:cc' }];

/** A stream that keeps what it is given, and holds it back while `held`. */
class Sink extends Writable {
  readonly chunks: Buffer[] = [];
  held = false;
  #waiting: (() => void) | undefined;

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.chunks.push(chunk);
    if (this.held) this.#waiting = done;
    else done();
  }

  release(): void {
    this.held = false;
    this.#waiting?.();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

/** Sends `lengths`, waits for the echoes, and closes: what was captured to `path`. */
async function captureTo(path: string, lengths: readonly number[]): Promise<void> {
  await netScene(
    async ({ net }) => {
      const frames = lengths.map((length, index) => testFrame(length, index));
      const sent = net.send(frames);
      let received = 0;
      while (received < frames.length) received += (await net.receive()).length;
      await sent;
      await net.close();
      assert.equal(net.capture, { frames: 2 * frames.length, dropped: 0, error: undefined });
    },
    {},
    { capture: path },
  );
}

test('every frame that passes is in the file: both ways, whole, in order, with time, direction and queue', async () => {
  const path = join(folder, 'all.pcapng');
  const lengths = [14, 15, 16, 17, 60, 1514, 1518];
  const before = BigInt(Date.now() - 1) * 1_000_000n;
  await captureTo(path, lengths);
  const after = BigInt(Date.now() + 1) * 1_000_000n;
  const { interfaces, frames } = readPcapng(readFileSync(path));
  assert.is(interfaces.length, 1);
  const [{ linkType, snapLength, options, statistics }] = interfaces as [(typeof interfaces)[0]];
  assert.is(linkType, 1);
  assert.is(snapLength, 0, 'no limit');
  assert.is(options.get(2)!.toString(), 'net0');
  assert.equal([...options.get(6)!], [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc]);
  assert.equal([...options.get(9)!], [9], 'nanoseconds');
  assert.is(statistics!.get(ISB_IFRECV)!.readBigUInt64LE(), BigInt(2 * lengths.length));
  assert.is(statistics!.get(ISB_IFDROP)!.readBigUInt64LE(), 0n);
  for (const [direction, queue] of [
    [OUTBOUND, 1],
    [INBOUND, 0],
  ] as const) {
    const those = frames.filter((frame) => frame.options.get(EPB_FLAGS)!.readUInt32LE() === direction);
    assert.equal(
      those.map(({ bytes }) => Buffer.from(bytes)),
      lengths.map((length, index) => Buffer.from(testFrame(length, index))),
    );
    assert.ok(those.every((frame) => frame.options.get(EPB_QUEUE)!.readUInt32LE() === queue));
  }
  const times = frames.map(({ time }) => time);
  assert.ok(times.every((time) => time >= before && time <= after));
  assert.ok(new Set(times.map((time) => time % 1_000_000n)).size > 1, 'finer than milliseconds');
  assert.is(statSync(path).mode & 0o777, 0o600, 'for nobody else to read');
});

test('a stream gets the same, and is left open', async () => {
  const sink = new Sink();
  await netScene(
    async ({ net }) => {
      await net.send(testFrame(60));
      await net.close();
    },
    {},
    { capture: sink },
  );
  assert.is(readPcapng(sink.bytes).frames.length, 1);
  assert.is(sink.writableEnded, false);
  assert.is(sink.listenerCount('error'), 0);
});

test('what a reader does not take in time is dropped and counted, in the file, too, and nobody waits', async () => {
  const sink = new Sink();
  sink.held = true;
  const capture = await FrameCapture.open(sink, NET);
  const frame = testFrame(1514);
  const sent = 2 * Math.ceil(CAPTURE_BUFFER_BYTES / 1514);
  capture.stamp();
  for (let index = 0; index < sent; index++) capture.record(0, OUTBOUND, 1, frame);
  const { frames, dropped } = capture.stats;
  assert.is(frames + dropped, sent);
  assert.ok(dropped > sent / 3 && frames > sent / 3, `${dropped} of ${sent} dropped`);
  sink.release();
  await new Promise((resolve) => setTimeout(resolve, 20));
  capture.record(0, OUTBOUND, 1, frame);
  await capture.close();
  const read = readPcapng(sink.bytes);
  assert.is(read.frames.length, frames + 1);
  assert.is(read.frames.at(-1)!.options.get(EPB_DROPCOUNT)!.readBigUInt64LE(), BigInt(dropped));
  assert.is(read.frames.at(-2)!.options.has(EPB_DROPCOUNT), false);
  const { statistics } = read.interfaces[0]!;
  assert.is(statistics!.get(ISB_IFRECV)!.readBigUInt64LE(), BigInt(sent + 1));
  assert.is(statistics!.get(ISB_IFDROP)!.readBigUInt64LE(), BigInt(dropped));
});

test('a capture has as many interfaces as it is told of', async () => {
  const sink = new Sink();
  const capture = await FrameCapture.open(sink, [...NET, { name: 'net1', description: '', mac: undefined }]);
  capture.record(1, INBOUND, 2, testFrame(60));
  await capture.close();
  const { interfaces, frames } = readPcapng(sink.bytes);
  assert.equal(
    interfaces.map(({ options }) => options.get(2)!.toString()),
    ['net0', 'net1'],
  );
  assert.is(interfaces[1]!.options.has(6), false);
  assert.equal(
    frames.map(({ interfaceId }) => interfaceId),
    [1],
  );
});

test('a stream that fails ends the capture and nothing else', async () => {
  const full = Object.assign(new Error('no space left'), { code: 'ENOSPC' });
  let writes = 0;
  const stream = new Writable({
    write: (_chunk, _encoding, done) => (++writes > 1 ? done(full) : done()),
  });
  await netScene(
    async ({ net }) => {
      await net.send(testFrame(60));
      await net.receive();
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.is(net.capture!.error, full);
      const { dropped } = net.capture!;
      await net.send(testFrame(60));
      assert.is(net.capture!.dropped, dropped + 1);
      await net.close();
    },
    {},
    { capture: stream },
  );
});

test('a file that cannot be opened leaves no device open', async () => {
  const { bus, device } = await serveTestNet();
  try {
    const path = join(folder, 'nowhere', 'file');
    await rejects(openNet('net0', { bus, capture: path }), 'ENOENT');
    await (await openNet('net0', { bus })).close();
  } finally {
    await bus.close();
    device.close();
  }
});

test('refuses what is no place for a capture', async () => {
  await rejects(openNet('net0', { capture: '' }), 'ERR_ARGUMENT', /capture must be a path/);
  const objects = new Writable({ objectMode: true });
  await rejects(openNet('net0', { capture: objects }), 'ERR_ARGUMENT', /of bytes, not of objects/);
  for (const capture of [1, {}, null])
    await openNet('net0', { capture: capture as never }).then(
      () => assert.unreachable(),
      (error) => assert.instance(error, TypeError),
    );
});

test('an interface without a capture says so', () =>
  netScene(async ({ net }) => {
    assert.is(net.capture, undefined);
  }));

for (const [tool, options, says] of [
  [
    'tcpdump',
    ['-nn', '-e', '-Z', userInfo().username, '-r'],
    (lines: string[]) => assert.is(lines.filter((line) => /length/.test(line)).length, 10),
  ],
  [
    'capinfos',
    ['-M'],
    (lines: string[]) => {
      const text = lines.join('\n');
      assert.match(text, /File type: +.*pcapng/);
      assert.match(text, /File timestamp precision: +nanoseconds \(9\)/);
      assert.match(text, /Number of packets: +10\b/);
      assert.match(text, /Number of interfaces in file: +1\b/);
      assert.match(text, /Number of stat entries = 1/);
    },
  ],
  [
    'tshark',
    [
      '-T',
      'fields',
      '-e',
      'frame.len',
      '-e',
      'frame.packet_flags_direction',
      '-e',
      'frame.interface_name',
      '-r',
    ],
    (lines: string[]) => {
      assert.is(lines.filter((line) => /^60\t(0x0*)?2\tnet0$/.test(line)).length, 5, lines.join('\n'));
      assert.is(lines.filter((line) => /^60\t(0x0*)?1\tnet0$/.test(line)).length, 5, lines.join('\n'));
    },
  ],
] as const)
  test(`${tool} reads the file`, async () => {
    const path = findTool(tool);
    if (!path) {
      console.log(`skipped: there is no ${tool}`);
      return;
    }
    const file = join(folder, 'tools.pcapng');
    await captureTo(file, [60, 60, 60, 60, 60]);
    const { status, stdout, stderr } = spawnSync(path, [...options, file], { encoding: 'utf8' });
    assert.is(status, 0, stderr);
    assert.not.match(stderr, /cut short|damaged|corrupt|malformed/i);
    says(stdout.trimEnd().split('\n'));
  });

test('the reader of these tests finds a block that is cut', async () => {
  const path = join(folder, 'cut.pcapng');
  await captureTo(path, [60]);
  writeFileSync(path, readFileSync(path).subarray(0, -4));
  assert.throws(() => readPcapng(readFileSync(path)));
});

test.run();
