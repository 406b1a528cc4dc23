/** Servers of others: nbdkit and qemu-nbd, in the ways in which they can be set up. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NbdDisk } from '../../host/models/nbd/nbd-disk.js';
import { rejects, until, within } from '../models/fixture.js';
import { findTool } from '../vm/requirements.js';
import { failure, type NbdScene, nbdScene } from './fixture.js';
import { RealServer, testWith } from './real-server.js';

const MIB = 2 ** 20;

/** Runs `body` with a server that is started by that command. */
async function withServer(command: string[], body: (server: RealServer) => Promise<void>): Promise<void> {
  const server = new RealServer(command);
  try {
    writeFileSync(join(server.folder, 'disk.img'), randomBytes(8 * MIB));
    await server.start();
    await body(server);
  } finally {
    await server.close();
  }
}

/** Writes, zeroes, discards and reads in all sorts of places, and compares with what must be there. */
async function exercise({ disk }: NbdScene): Promise<void> {
  const image = Buffer.from(await within(disk.read(0, disk.capacity), 'reading all'));
  const write = async (offset: number, bytes: Buffer) => {
    bytes.copy(image, offset);
    await disk.write(offset, bytes);
  };
  // Parts of blocks, across pieces, at the end; many at once, none of which overlap.
  const calls = [write(512, randomBytes(512)), write(3 * MIB + 1536, randomBytes(2 * MIB + 512))];
  for (let index = 0; index < 64; index++)
    calls.push(write(6 * MIB + index * 8192 + 512 * (index % 5), randomBytes(512 * (1 + (index % 9)))));
  calls.push(write(disk.capacity - 512, randomBytes(512)));
  await within(Promise.all(calls), 'writes');
  await within(disk.flush(), 'flush');
  for (const [offset, length] of [
    [MIB + 512, 512],
    [2 * MIB - 1024, 70_144],
    [3 * MIB + 512, MIB],
  ] as const) {
    image.fill(0, offset, offset + length);
    await within(disk.writeZeroes(offset, length, { unmap: true }), 'writeZeroes');
  }
  assert.is(Buffer.compare(await within(disk.read(0, disk.capacity), 'reading all'), image), 0);
  if (disk.features.includes('VIRTIO_BLK_F_DISCARD')) {
    await within(disk.discard(5 * MIB + 512, 8192), 'discard');
    await write(5 * MIB + 512, randomBytes(8192));
    assert.is(Buffer.compare(await within(disk.read(0, disk.capacity), 'reading all'), image), 0);
  }
}

const FILE = ['file', 'FOLDER/disk.img'];
const NBDKIT = ['nbdkit', '-f', '-U', 'SOCKET'];
const QEMU = ['qemu-nbd', '-t', '-k', 'SOCKET', '-f', 'raw', '--discard=unmap'];
/** Filters have to be named before the plugin. */
const filtered = (...words: string[]) => {
  const filters = words.filter((word) => !word.includes('='));
  return [
    ...NBDKIT,
    ...filters.map((name) => `--filter=${name}`),
    ...FILE,
    ...words.filter((word) => word.includes('=')),
  ];
};
const lacks = (disk: NbdScene['disk'], feature: string) =>
  assert.not.ok(disk.features.includes(feature), feature);

const SERVERS: [
  program: 'nbdkit' | 'qemu-nbd',
  how: string,
  command: string[],
  check?: (scene: NbdScene) => void | Promise<void>,
][] = [
  [
    'nbdkit',
    'as it is',
    [...NBDKIT, ...FILE],
    ({ model }) => until(() => model.connections === 4, 'connections'),
  ],
  ['nbdkit', 'without structured replies', [...NBDKIT, '--no-sr', ...FILE]],
  ['nbdkit', 'with newstyle that is not fixed', [...NBDKIT, '--mask-handshake=0', ...FILE]],
  [
    'nbdkit',
    'with blocks of 4 KiB',
    filtered('blocksize-policy', 'blocksize-minimum=4096', 'blocksize-error-policy=error'),
    ({ model }) => assert.is(model.blockSize, 4096),
  ],
  [
    'nbdkit',
    'with blocks of 64 KiB, and payloads of one block',
    filtered(
      'blocksize-policy',
      'blocksize-minimum=64K',
      'blocksize-preferred=64K',
      'blocksize-maximum=64K',
      'blocksize-error-policy=error',
    ),
    ({ model }) => assert.is(model.blockSize, 4096),
  ],
  [
    'nbdkit',
    'without WRITE_ZEROES',
    filtered('nozero', 'zeromode=none'),
    // The disk has them all the same: they are written.
    ({ disk }) => assert.ok(disk.features.includes('VIRTIO_BLK_F_WRITE_ZEROES')),
  ],
  [
    'nbdkit',
    'for one connection at a time',
    filtered('multi-conn', 'multi-conn-mode=disable'),
    ({ model }) => assert.is(model.connections, 1),
  ],
  ['qemu-nbd', 'as it is', [...QEMU, 'FOLDER/disk.img'], ({ model }) => assert.is(model.connections, 1)],
  ['qemu-nbd', 'for several connections', [...QEMU, '-e', '8', 'FOLDER/disk.img']],
];

for (const [program, how, command, check] of SERVERS)
  testWith(program, `${program} ${how}`, async () => {
    await withServer(command, async (server) => {
      await nbdScene(server.uri(), { queues: 2 }, async (scene) => {
        assert.is(scene.disk.capacity, 8 * MIB);
        await exercise(scene);
        await check?.(scene);
        assert.equal([scene.errors, scene.reasons], [[], []]);
      });
    });
  });

testWith('nbdkit', 'what is written is in the file, what is read was', async () => {
  await withServer([...NBDKIT, ...FILE], async (server) => {
    const file = join(server.folder, 'disk.img');
    await nbdScene(server.uri(), { writeThrough: true }, async ({ disk }) => {
      const bytes = randomBytes(MIB);
      await within(disk.write(MIB, bytes), 'write');
      assert.is(Buffer.compare(await within(disk.read(0, 8 * MIB), 'read'), readFileSync(file)), 0);
      assert.is(Buffer.compare(readFileSync(file).subarray(MIB, 2 * MIB), bytes), 0);
    });
  });
});

testWith('nbdkit', 'a read-only export is a read-only disk, and any can be taken as one', async () => {
  for (const [words, options] of [
    [['-r'], {}],
    [[], { readOnly: true }],
  ] as const)
    await withServer([...NBDKIT, ...words, ...FILE], async (server) => {
      await nbdScene(server.uri(), options, async ({ disk, model }) => {
        assert.ok(disk.readOnly && model.readOnly);
        assert.is((await failure(disk.write(0, new Uint8Array(512)))).code, 'ERR_READ_ONLY');
        for (const feature of ['FLUSH', 'DISCARD', 'WRITE_ZEROES']) lacks(disk, `VIRTIO_BLK_F_${feature}`);
        assert.is((await within(disk.read(0, MIB), 'read')).length, MIB);
      });
    });
});

testWith('nbdkit', 'a server without FLUSH has each write made durable, if it knows FUA', async () => {
  const script = [
    'get_size) echo 1M',
    'pread) head -c $3 /dev/zero',
    'pwrite) cat >/dev/null; echo "$5" >>FOLDER/flags',
  ];
  const program = `case "$1" in ${script.join(';; ')};; can_write) exit 0;; can_fua) echo native;; *) exit 2;; esac`;
  const server = new RealServer([...NBDKIT, 'sh', 'FOLDER/program']);
  writeFileSync(
    join(server.folder, 'program'),
    `#!/bin/sh\n${program.replaceAll('FOLDER', server.folder)}\n`,
    {
      mode: 0o755,
    },
  );
  try {
    await server.start();
    await nbdScene(server.uri(), {}, async ({ disk }) => {
      await within(disk.write(0, new Uint8Array(512)), 'write');
      await within(disk.flush(), 'flush');
      assert.is(readFileSync(join(server.folder, 'flags'), 'utf8'), 'fua\n');
      lacks(disk, 'VIRTIO_BLK_F_DISCARD');
    });
  } finally {
    await server.close();
  }
});

testWith('nbdkit', 'an error of the server is an error of the request, and nothing more', async () => {
  const command = filtered('error', 'error-pwrite=ENOSPC', 'error-pwrite-rate=100%', 'error-pread-rate=0');
  await withServer(command, async (server) => {
    await nbdScene(server.uri(), {}, async ({ device, disk, reasons }) => {
      const said = new Promise<Error>((resolve) => device.once('error', resolve));
      assert.is((await failure(within(disk.write(0, new Uint8Array(512)), 'write'))).code, 'ERR_IO');
      const { code, errno } = (await within(said, 'the event')).cause as { code: string; errno: number };
      assert.equal([code, errno], ['ERR_NBD_REPLY', -28]);
      await within(disk.read(0, MIB), 'read');
      assert.equal(reasons, []);
    });
  });
});

testWith('nbdkit', 'an oldstyle server is refused', async () => {
  await withServer([...NBDKIT, '-o', ...FILE], async (server) => {
    await rejects(within(NbdDisk.connect(server.uri()), 'connect'), 'ERR_NOT_SUPPORTED', /oldstyle/);
  });
});

testWith('qemu-nbd', 'an export is found by its name, and one that there is not is refused', async () => {
  await withServer([...QEMU, '-x', 'a disk', 'FOLDER/disk.img'], async (server) => {
    const options = { connections: 1 };
    await rejects(
      within(NbdDisk.connect(server.uri('other'), options), 'connect'),
      'ERR_NBD_REFUSED',
      /refused export 'other': NBD_REP_ERR_UNKNOWN/,
    );
    await nbdScene(server.uri('a%20disk'), options, async ({ disk }) => {
      assert.is(
        Buffer.compare(
          await disk.read(0, MIB),
          readFileSync(join(server.folder, 'disk.img')).subarray(0, MIB),
        ),
        0,
      );
    });
  });
});

/** A certificate authority, and a server's and a client's certificate, as nbdkit wants them. */
function makeCertificates(folder: string, name: string): void {
  const openssl = (...words: string[]) => {
    const { status, stderr } = spawnSync('openssl', words, { cwd: folder, encoding: 'utf8' });
    assert.is(status, 0, stderr);
  };
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  openssl(
    'req',
    '-x509',
    ...key,
    '-keyout',
    'ca-key.pem',
    '-out',
    'ca-cert.pem',
    '-subj',
    '/CN=CA',
    '-days',
    '2',
  );
  for (const [role, subject] of [
    ['server', name],
    ['client', 'client'],
  ]) {
    const files = ['-keyout', `${role}-key.pem`, '-out', `${role}.csr`];
    openssl('req', ...key, ...files, '-subj', `/CN=${subject}`, '-addext', `subjectAltName=DNS:${subject}`);
    const authority = ['-CA', 'ca-cert.pem', '-CAkey', 'ca-key.pem', '-CAcreateserial', '-days', '2'];
    openssl(
      'x509',
      '-req',
      '-in',
      `${role}.csr`,
      ...authority,
      '-out',
      `${role}-cert.pem`,
      '-copy_extensions',
      'copy',
    );
  }
}

if (!findTool('openssl')) {
  process.stdout.write('skipped: TLS: openssl is missing: apt-get install openssl\n');
  test.skip('TLS');
} else
  testWith(
    'nbdkit',
    'TLS with certificates of both sides; without TLS, or with a wrong name, there is no disk',
    async () => {
      const words = ['--tls=require', '--tls-certificates=FOLDER', '--tls-verify-peer'];
      const server = new RealServer([...NBDKIT, ...words, 'memory', '8M']);
      try {
        makeCertificates(server.folder, 'nbd.example.com');
        await server.start();
        const uri = (host: string) =>
          `nbds+unix:///?socket=${server.socket}&tls-hostname=${host}&tls-certificates=${server.folder}`;
        await nbdScene(uri('nbd.example.com'), {}, async (scene) => {
          await exercise(scene);
          await server.kill();
          const read = scene.disk.read(0, 512);
          await server.start();
          assert.is((await within(read, 'a read that waits')).length, 512);
        });
        await rejects(
          within(NbdDisk.connect(uri('other.example.com')), 'connect'),
          'ERR_NBD_TLS',
          /altnames/,
        );
        await rejects(within(NbdDisk.connect(server.uri()), 'connect'), 'ERR_NBD_TLS', /requires TLS/);
        const unknown = `nbds+unix:///?socket=${server.socket}&tls-verify-peer=0`;
        // TLS 1.3: the server judges a client's certificate after the client takes the handshake to be over.
        const { code } = await failure(within(NbdDisk.connect(unknown), 'connect'));
        assert.ok(code === 'ERR_NBD_TLS' || code === 'ERR_NBD_CONNECT', code);
      } finally {
        await server.close();
      }
    },
  );

test.run();
