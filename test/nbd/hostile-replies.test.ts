/**
 * Replies that no sound server sends: the connection is given up, the request sent again on a new one, and the driver gets
 * what is on the disk.
 */
import type { Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NbdDisk } from '../../host/models/nbd/nbd-disk.js';
import * as nbd from '../../host/nbd/protocol.js';
import { until, within } from '../models/fixture.js';
import { failure, scriptedScene } from './fixture.js';
import {
  chunk,
  dataAt,
  errorChunk,
  holeAt,
  ScriptedServer,
  type SeenRequest,
  simpleReply,
} from './scripted-server.js';

const AT = 8192;
const BYTES = 4096;
const { NBD_CMD_READ, NBD_CMD_WRITE } = nbd;
const DATA = nbd.NBD_REPLY_TYPE_OFFSET_DATA;
const HOLE = nbd.NBD_REPLY_TYPE_OFFSET_HOLE;
const ERROR = nbd.NBD_REPLY_TYPE_FLAG_ERROR + 1;
const ERROR_OFFSET = nbd.NBD_REPLY_TYPE_ERROR_OFFSET;
const more = { done: false };
const full = new Uint8Array(BYTES).fill(9);

/** What a server answers to the first read. */
type Answer = (cookie: bigint) => Uint8Array | Uint8Array[];

const STRUCTURED: Record<string, Answer> = {
  'a magic that is none': () => Buffer.alloc(20, 0x55),
  'a simple reply to a read': (cookie) => simpleReply(cookie, 0, full),
  'a simple error to a read': (cookie) => simpleReply(cookie, 5),
  'a cookie that nobody has': (cookie) => chunk(cookie + 1n, DATA, dataAt(AT, full)),
  'a cookie with an upper half': (cookie) => chunk(cookie + 2n ** 32n, DATA, dataAt(AT, full)),
  'an end without data': (cookie) => chunk(cookie, nbd.NBD_REPLY_TYPE_NONE),
  'an end with a payload': (cookie) => chunk(cookie, nbd.NBD_REPLY_TYPE_NONE, Buffer.alloc(4)),
  'an end that is not the last': (cookie) => chunk(cookie, nbd.NBD_REPLY_TYPE_NONE, Buffer.alloc(0), more),
  'data of no bytes': (cookie) => chunk(cookie, DATA, dataAt(AT, Buffer.alloc(0))),
  'half of an offset': (cookie) => chunk(cookie, DATA, Buffer.alloc(4)),
  'too few bytes': (cookie) => chunk(cookie, DATA, dataAt(AT, full.subarray(1))),
  'too many bytes': (cookie) => chunk(cookie, DATA, dataAt(AT, new Uint8Array(BYTES + 1))),
  '4 GiB of data': (cookie) => chunk(cookie, DATA, dataAt(AT, full), { length: 0xffffffff }),
  'data before the read': (cookie) => chunk(cookie, DATA, dataAt(AT - 1, full)),
  'data behind the read': (cookie) => chunk(cookie, DATA, dataAt(AT + 1, full)),
  'data at offset 2^64 − 1': (cookie) => chunk(cookie, DATA, dataAt(2n ** 64n - 1n, full)),
  'the same data twice': (cookie) => [
    chunk(cookie, DATA, dataAt(AT, full.subarray(0, 2048)), more),
    chunk(cookie, DATA, dataAt(AT, full.subarray(0, 2048)), more),
    chunk(cookie, DATA, dataAt(AT + 2048, full.subarray(2048))),
  ],
  'data over a hole': (cookie) => [
    chunk(cookie, HOLE, holeAt(AT + 1024, 3072), more),
    chunk(cookie, DATA, dataAt(AT, full.subarray(0, 1025))),
  ],
  'a gap': (cookie) => [
    chunk(cookie, DATA, dataAt(AT, full.subarray(0, 2047)), more),
    chunk(cookie, DATA, dataAt(AT + 2048, full.subarray(0, 2048))),
  ],
  'every other byte': (cookie) =>
    Array.from({ length: BYTES / 2 }, (_, index) =>
      chunk(cookie, DATA, dataAt(AT + 2 * index, full.subarray(0, 1)), more),
    ),
  'a hole of no bytes': (cookie) => chunk(cookie, HOLE, holeAt(AT, 0)),
  'a hole of 4 GiB': (cookie) => chunk(cookie, HOLE, holeAt(AT, 0xffffffff)),
  'a hole that is cut off': (cookie) => chunk(cookie, HOLE, holeAt(AT, BYTES).subarray(0, 11)),
  'a hole that is too long': (cookie) => chunk(cookie, HOLE, Buffer.alloc(13)),
  'a block status': (cookie) => chunk(cookie, 5, Buffer.alloc(12)),
  'a type that is none': (cookie) => chunk(cookie, 99, Buffer.alloc(4)),
  'an error without a number': (cookie) => chunk(cookie, ERROR, errorChunk(0)),
  'an error that is cut off': (cookie) => chunk(cookie, ERROR, Buffer.alloc(5)),
  'an error with words that are not there': (cookie) => chunk(cookie, ERROR, errorChunk(5, 'abc', 4)),
  'an error with words in place of its offset': (cookie) =>
    chunk(cookie, ERROR_OFFSET, errorChunk(5, 'four of them', 12)),
  'an error of 1 MiB': (cookie) => chunk(cookie, ERROR, new Uint8Array(2 ** 20)),
  'an error with words of 5,000 bytes': (cookie) => chunk(cookie, ERROR, errorChunk(5, 'x'.repeat(4200))),
  'an error behind the read': (cookie) =>
    chunk(cookie, ERROR_OFFSET, errorChunk(5, '', 0, BigInt(AT + BYTES))),
  'an error before the read': (cookie) => chunk(cookie, ERROR_OFFSET, errorChunk(5, '', 0, BigInt(AT - 1))),
};

const SIMPLE: Record<string, Answer> = {
  'a chunk where simple replies were agreed on': (cookie) => chunk(cookie, DATA, dataAt(AT, full)),
  'a magic that is none, to a client of simple replies': () => Buffer.alloc(16, 0x55),
  'a cookie that nobody has, in a simple reply': (cookie) => simpleReply(cookie ^ 1n, 0, full),
};

for (const [structured, cases] of [
  [true, STRUCTURED],
  [false, SIMPLE],
] as const)
  for (const [name, answer] of Object.entries(cases))
    test(`${name}`, async () => {
      let hostile = true;
      const request = ({ type, cookie }: SeenRequest, socket: Socket) => {
        if (type !== NBD_CMD_READ || !hostile) return false;
        hostile = false;
        const bytes = answer(cookie);
        socket.write(Array.isArray(bytes) ? Buffer.concat(bytes) : bytes);
        return true;
      };
      const server = await ScriptedServer.start({ structured, request });
      const model = await within(NbdDisk.connect(server.uri, { connections: 1 }), 'connect');
      try {
        const reasons: string[] = [];
        model.events.on('reconnecting', ({ code }) => reasons.push(code));
        server.bytes.fill(3);
        const into = new Uint8Array(BYTES);
        await within(model.read(AT, into), 'read');
        assert.ok(into.every((byte) => byte === 3));
        assert.equal(reasons, ['ERR_NBD_PROTOCOL']);
        assert.is(model.reconnects, 1);
      } finally {
        await within(model.close(), 'closing the model');
        await server.close();
      }
    });

test('a reply twice ends the connection, when its request is answered already', async () => {
  const request = ({ type, cookie }: SeenRequest, socket: Socket) => {
    const hole = chunk(cookie, HOLE, holeAt(AT, BYTES));
    return type === NBD_CMD_READ && socket.write(Buffer.concat([hole, hole])) !== undefined;
  };
  await scriptedScene({ request }, { connections: 1 }, async ({ disk, model, reasons, errors }) => {
    const bytes = await within(disk.read(AT, BYTES), 'read');
    assert.ok(bytes.every((byte) => byte === 0));
    await until(() => model.reconnects === 1, 'a new connection');
    assert.equal([reasons, errors], [['ERR_NBD_PROTOCOL'], []]);
  });
});

test('data in pieces of any size and order, with holes, is put together', async () => {
  const request = ({ type, cookie, offset, length }: SeenRequest, socket: Socket) => {
    if (type !== NBD_CMD_READ) return false;
    const cut = [0, 512, 513, 1000, 3000, length];
    const pieces = cut.slice(1).map((end, index) => [cut[index]!, end] as const);
    for (const [start, end] of [pieces[3]!, pieces[0]!, pieces[4]!, pieces[2]!, pieces[1]!]) {
      const isHole = start === 1000;
      const bytes = isHole
        ? chunk(cookie, HOLE, holeAt(offset + start, end - start), more)
        : chunk(cookie, DATA, dataAt(offset + start, new Uint8Array(end - start).fill(start % 251)), more);
      // However the stream is cut into packets.
      for (const byte of [bytes.subarray(0, 3), bytes.subarray(3, 21), bytes.subarray(21)])
        socket.write(byte);
    }
    socket.write(chunk(cookie, nbd.NBD_REPLY_TYPE_NONE));
    return true;
  };
  await scriptedScene({ request }, {}, async ({ disk, reasons }) => {
    const expected = new Uint8Array(4096);
    for (const [start, end] of [
      [0, 512],
      [512, 513],
      [513, 1000],
      [3000, 4096],
    ] as const)
      expected.fill(start % 251, start, end);
    assert.equal(await within(disk.read(512, 4096), 'read'), expected);
    assert.equal(reasons, []);
  });
});

for (const [name, reply, message] of [
  [
    'ENOSPC in a chunk with words',
    (cookie: bigint) => chunk(cookie, ERROR, errorChunk(28, 'no \u0007room')),
    "the server answered ENOSPC, 'no room'",
  ],
  ['EPERM in a simple reply', (cookie: bigint) => simpleReply(cookie, 1), 'the server answered EPERM'],
  [
    'an error of a type to come',
    (cookie: bigint) => chunk(cookie, nbd.NBD_REPLY_TYPE_FLAG_ERROR + 77, errorChunk(5, '', 0, 7n)),
    'the server answered EIO',
  ],
  ['an unknown number', (cookie: bigint) => simpleReply(cookie, 4711), 'the server answered EINVAL (4711)'],
  [
    'two errors, the first of which counts',
    (cookie: bigint) =>
      Buffer.concat([
        chunk(cookie, ERROR_OFFSET, errorChunk(5, 'here', 4, BigInt(AT)), more),
        chunk(cookie, ERROR, errorChunk(12, 'and there')),
      ]),
    "the server answered EIO, 'here'",
  ],
] as const)
  test(`${name} fails the write, and nothing else`, async () => {
    const request = ({ type, cookie }: SeenRequest, socket: Socket) => {
      if (type !== NBD_CMD_WRITE) return false;
      socket.write(reply(cookie));
      return true;
    };
    await scriptedScene({ request }, { connections: 1 }, async ({ device, disk, model, reasons }) => {
      const said = new Promise<Error & { cause?: unknown }>((resolve) => device.once('error', resolve));
      assert.is((await failure(within(disk.write(AT, full), 'write'))).code, 'ERR_IO');
      const cause = (await within(said, 'the event')).cause as { code: string; message: string };
      assert.equal([cause.code, cause.message], ['ERR_NBD_REPLY', message]);
      assert.equal(await within(disk.read(AT, 512), 'read'), new Uint8Array(512));
      assert.equal([model.reconnects, reasons.length], [0, 0]);
    });
  });

test('a server that is shutting down is left, and asked again when it is back', async () => {
  let down = true;
  const request = ({ type, cookie }: SeenRequest, socket: Socket) => {
    if (type !== NBD_CMD_WRITE || !down) return false;
    down = false;
    socket.write(simpleReply(cookie, nbd.NBD_ESHUTDOWN));
    return true;
  };
  await scriptedScene({ request }, { connections: 1 }, async ({ server, disk, reasons }) => {
    await within(disk.write(AT, full), 'write');
    assert.equal(server.bytes.subarray(AT, AT + BYTES), Buffer.from(full));
    assert.equal(reasons, ['ERR_NBD_CONNECT']);
    const types = server.seen.map(({ type }) => type);
    assert.equal(types, [NBD_CMD_WRITE, nbd.NBD_CMD_DISC, NBD_CMD_WRITE]);
  });
});

test.run();
