/** Servers that do in the handshake what no sound one does: connecting rejects with a code, and nothing is left. */
import type { Socket } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NbdDisk, type NbdDiskOptions } from '../../host/models/nbd/nbd-disk.js';
import * as nbd from '../../host/nbd/protocol.js';
import { rejects, within } from '../models/fixture.js';
import {
  ALL_FLAGS,
  blockSizeInfo,
  buffer,
  exportInfo,
  GREETING,
  optionReply,
  type Script,
  ScriptedServer,
} from './scripted-server.js';

const MIB = 2 ** 20;

/** Runs `body` with a server of that script. */
async function withServer(script: Script, body: (server: ScriptedServer) => Promise<void>): Promise<void> {
  const server = await ScriptedServer.start(script);
  try {
    await body(server);
  } finally {
    await server.close();
  }
}

/** What the server says instead of a greeting. */
const greets = (bytes: Uint8Array): Script => ({
  connect: (socket) => {
    socket.write(bytes);
    return true;
  },
});

/** What the server answers to NBD_OPT_GO. */
const answersGo = (...replies: Uint8Array[]): Script => ({
  option: (option, _data, socket) => {
    if (option !== nbd.NBD_OPT_GO) return false;
    socket.write(Buffer.concat(replies));
    return true;
  },
});

const info = (data: Uint8Array) => optionReply(nbd.NBD_OPT_GO, nbd.NBD_REP_INFO, data);
const ack = optionReply(nbd.NBD_OPT_GO, nbd.NBD_REP_ACK);
const about = info(exportInfo(BigInt(MIB), ALL_FLAGS));
const magic = (second: bigint) =>
  buffer(18, (b) => {
    b.writeBigUInt64BE(nbd.NBD_INIT_PASSWD, 0);
    b.writeBigUInt64BE(second, 8);
  });

const CASES: Record<string, [script: Script, code: string, message: RegExp]> = {
  'another protocol': [
    greets(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')),
    'ERR_NBD_PROTOCOL',
    /no NBD server/,
  ],
  'an oldstyle server': [greets(magic(nbd.NBD_CLISERV_MAGIC)), 'ERR_NOT_SUPPORTED', /oldstyle/],
  'an unknown second magic': [greets(magic(1n)), 'ERR_NBD_PROTOCOL', /unknown magic/],
  'half of a greeting': [greets(GREETING.subarray(0, 9)), 'ERR_NBD_CONNECT', /no answer within 0.2 s/],
  'a connection that is closed at once': [
    {
      connect: (socket) => {
        socket.end();
        return true;
      },
    },
    'ERR_NBD_CONNECT',
    /closed the connection/,
  ],
  silence: [{ connect: () => true }, 'ERR_NBD_CONNECT', /no answer within 0.2 s/],
  'an option that is never answered': [{ option: () => true }, 'ERR_NBD_CONNECT', /no answer within 0.2 s/],
  'a reply without its magic': [answersGo(Buffer.alloc(20, 1)), 'ERR_NBD_PROTOCOL', /without its magic/],
  'a reply to another option': [
    answersGo(optionReply(nbd.NBD_OPT_EXPORT_NAME, nbd.NBD_REP_ACK)),
    'ERR_NBD_PROTOCOL',
    /reply to option 1 in place of 7/,
  ],
  'a reply of 4 GiB': [
    answersGo(buffer(20, (b) => optionReply(7, nbd.NBD_REP_INFO).copy(b)).fill(0xff, 16)),
    'ERR_NBD_PROTOCOL',
    /reply of 4294967295 bytes/,
  ],
  'information without end': [
    answersGo(...Array.from({ length: 1000 }, () => info(Buffer.from([0, 9])))),
    'ERR_NBD_PROTOCOL',
    /more than 64 replies/,
  ],
  'information without a type': [
    answersGo(info(Buffer.from([0])), ack),
    'ERR_NBD_PROTOCOL',
    /without its type/,
  ],
  'no size': [answersGo(ack), 'ERR_NBD_PROTOCOL', /did not tell the size/],
  'a size that is cut off': [
    answersGo(info(exportInfo(BigInt(MIB), ALL_FLAGS).subarray(0, 11)), ack),
    'ERR_NBD_PROTOCOL',
    /NBD_INFO_EXPORT of 11 bytes/,
  ],
  'flags that are none': [answersGo(info(exportInfo(BigInt(MIB), 0)), ack), 'ERR_NBD_PROTOCOL', /HAS_FLAGS/],
  'an export of 2^64 − 1 bytes': [{ size: 2n ** 64n - 1n }, 'ERR_NOT_SUPPORTED', /too large/],
  'an export of no bytes': [{ size: 0n }, 'ERR_NOT_SUPPORTED', /of 0 bytes is no disk/],
  'an export of half a sector': [{ size: 256n }, 'ERR_NOT_SUPPORTED', /of 256 bytes is no disk/],
  'block sizes that are cut off': [
    answersGo(about, info(blockSizeInfo(1, 4096, MIB).subarray(0, 13)), ack),
    'ERR_NBD_PROTOCOL',
    /NBD_INFO_BLOCK_SIZE of 13 bytes/,
  ],
  ...Object.fromEntries(
    (
      [
        [0, 4096, MIB],
        [3, 4096, MIB],
        [131072, 131072, MIB],
        [4096, 512, MIB],
        [1, 4096, 2048],
        [1, 0, MIB],
      ] as const
    ).map((sizes) => [
      `block sizes ${sizes.join(', ')}`,
      [{ blockSizes: [...sizes] }, 'ERR_NBD_PROTOCOL', /block sizes/] as [Script, string, RegExp],
    ]),
  ),
  'an unknown export': [
    answersGo(optionReply(nbd.NBD_OPT_GO, 0x80000006, Buffer.from('no\u001b[31m such\nexport'))),
    'ERR_NBD_REFUSED',
    /refused export '': NBD_REP_ERR_UNKNOWN, 'no \[31m such export'$/,
  ],
  'an error that nobody knows': [
    answersGo(optionReply(nbd.NBD_OPT_GO, 0x80000099)),
    'ERR_NBD_REFUSED',
    /error 153/,
  ],
  'a reply of an unknown type': [answersGo(optionReply(nbd.NBD_OPT_GO, 77)), 'ERR_NBD_PROTOCOL', /type 77/],
  'an export that needs TLS': [
    answersGo(optionReply(nbd.NBD_OPT_GO, nbd.NBD_REP_ERR_TLS_REQD)),
    'ERR_NBD_TLS',
    /requires TLS: write nbds/,
  ],
};

for (const [name, [script, code, message]] of Object.entries(CASES))
  test(`${name}: ${code}`, async () => {
    await withServer(script, async (server) => {
      const options: NbdDiskOptions = { timeoutMs: 200, deadConnTimeoutMs: 0 };
      if (!/no answer/.test(message.source)) options.timeoutMs = 30_000;
      await rejects(within(NbdDisk.connect(server.uri, options), 'connect'), code, message);
    });
  });

for (const [name, answer] of [
  ['refuses', (socket: Socket) => socket.write(optionReply(nbd.NBD_OPT_STARTTLS, nbd.NBD_REP_ERR_UNSUP))],
  [
    'agrees to TLS and then closes',
    (socket: Socket) => socket.end(optionReply(nbd.NBD_OPT_STARTTLS, nbd.NBD_REP_ACK)),
  ],
] as const)
  test(`a server that ${name} is not connected to without TLS`, async () => {
    const options: number[] = [];
    await withServer(
      {
        option: (option, _data, socket) => {
          options.push(option);
          return Boolean(answer(socket)) || true;
        },
      },
      async (server) => {
        const uri = server.uri.replace('nbd+unix', 'nbds+unix').concat('&tls-verify-peer=0');
        await rejects(within(NbdDisk.connect(uri), 'connect'), 'ERR_NBD_TLS');
        assert.equal(options, [nbd.NBD_OPT_STARTTLS]);
      },
    );
  });

test('what is sent in the clear behind the agreement to TLS is not taken for more', async () => {
  const script: Script = {
    option: (option, _data, socket) => {
      socket.write(Buffer.concat([optionReply(option, nbd.NBD_REP_ACK), about, ack]));
      return true;
    },
  };
  await withServer(script, async (server) => {
    const uri = server.uri.replace('nbd+unix', 'nbds+unix').concat('&tls-verify-peer=0');
    await rejects(within(NbdDisk.connect(uri), 'connect'), 'ERR_NBD_PROTOCOL', /before TLS had begun/);
  });
});

test('nobody there: ERR_NBD_CONNECT, with what the system says', async () => {
  const error = await within(NbdDisk.connect('nbd+unix:///?socket=/nonexistent/socket'), 'connect').catch(
    (caught) => caught,
  );
  assert.equal([error.code, error.cause.code], ['ERR_NBD_CONNECT', 'ENOENT']);
});

test.run();
