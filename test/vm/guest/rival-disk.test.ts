/** Our driver on a disk that qemu-storage-daemon serves. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBlock } from '../../../host/index.js';
import { bindDriver, hasTool, modprobe, removeDevice, scratch, shell, skip, until } from '../fixture.js';

const NAME = 'rival0';
const BYTES = 16 * 2 ** 20;
/** Bytes of a read or write. */
const CHUNK = 2 ** 18;

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

if (!hasTool('qemu-storage-daemon')) {
  skip('a disk of qemu-storage-daemon', 'it is not installed');
} else {
  const file = join(scratch(), 'disk.raw');
  const contents = randomBytes(BYTES);
  writeFileSync(file, contents);
  modprobe('vduse', 'vhost_vdpa');
  const daemon = spawn(
    'qemu-storage-daemon',
    [
      ...['--blockdev', `driver=file,node-name=file0,filename=${file},aio=threads`],
      ...['--blockdev', 'driver=raw,node-name=disk0,file=file0'],
      ...['--export', `type=vduse-blk,id=export0,name=${NAME},node-name=disk0,num-queues=2,writable=on`],
    ],
    // It writes its log beside temporary files.
    { stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, TMPDIR: tmpdir() } },
  );
  const exited = new Promise((resolve) => daemon.on('exit', resolve));
  await until('the export', () => existsSync(`/dev/vduse/${NAME}`));
  shell(`vdpa dev add name ${NAME} mgmtdev vduse`);
  const path = await bindDriver(NAME, 'vhost_vdpa');

  for (const [name, options] of [
    ['by interrupt', {}],
    ['by polling', { mode: 'poll' }],
    ['on two queues', { queues: 2 }],
    ['without indirect descriptors and event index', { indirect: false, eventIdx: false }],
  ] as const)
    test(`the whole disk, read and rewritten ${name}`, async () => {
      await using disk = await openBlock(path, options);
      assert.is(disk.capacity, BYTES);
      const offsets = Array.from({ length: BYTES / CHUNK }, (_, index) => index * CHUNK);
      const read = async () =>
        Buffer.concat(await Promise.all(offsets.map((offset) => disk.read(offset, CHUNK))));
      assert.is(sha256(await read()), sha256(readFileSync(file)), 'as it was');
      const bytes = randomBytes(BYTES);
      await Promise.all(offsets.map((offset) => disk.write(offset, bytes.subarray(offset, offset + CHUNK))));
      await disk.flush();
      assert.is(sha256(await read()), sha256(bytes), 'as it is to us');
      assert.is(sha256(readFileSync(file)), sha256(bytes), 'as it is in the file');
      assert.is(disk.stats().queues[0]?.doorbellRefused, 'ENOTSUPP');
    });

  test('discarding and writing zeroes, as far as they are offered', async () => {
    await using disk = await openBlock(path);
    await disk.write(0, randomBytes(16384));
    await disk.writeZeroes(4096, 4096);
    await disk.discard(8192, 4096);
    await disk.flush();
    assert.is(sha256(await disk.read(4096, 4096)), sha256(new Uint8Array(4096)));
    assert.is(sha256(await disk.read(0, 16384)), sha256(readFileSync(file).subarray(0, 16384)));
  });

  test.after(async () => {
    removeDevice(NAME);
    daemon.kill();
    await exited;
  });
}

test.run();
