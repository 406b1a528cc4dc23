/** Disks on NBD servers, as disks of the kernel. */
import { randomInt } from 'node:crypto';
import { existsSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { NbdDisk } from '../../../host/index.js';
import { type Running, start } from '../../cli/command-line.js';
import { RealServer } from '../../nbd/real-server.js';
import { run, withDisk } from '../disk-fixture.js';
import { hasTool, modprobe, skip, until } from '../fixture.js';

const BYTES = 96 * 2 ** 20;
const RESTARTS = 5;
/** Milliseconds of a server's life and absence at most; for traffic with all restarts; for a command to say something. */
const LIFE_MS = 2000;
const ABSENCE_MS = 500;
const TRAFFIC_LIMIT_MS = 480_000;
const COMMAND_LIMIT_MS = 150_000;

/** nbdkit with a file of zeroes. */
async function nbdkit(): Promise<RealServer> {
  const server = new RealServer(['nbdkit', '-f', '-U', 'SOCKET', 'file', 'FOLDER/disk.img']);
  writeFileSync(join(server.folder, 'disk.img'), '');
  truncateSync(join(server.folder, 'disk.img'), BYTES);
  await server.start();
  return server;
}

/** fio with verification in a file system on a disk, and its check afterwards. */
const fioVerify = (file: string, size: string) =>
  `fio --name=verify --filename=${file} --size=${size} --rw=randrw --bs=4k --direct=1 --iodepth=32 --ioengine=io_uring \
  --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 --fsync=64`;

if (!hasTool('nbdkit')) skip('disks on NBD servers', 'nbdkit is missing: apt-get install nbdkit');
else {
  test('ext4 and fio with verification, through restarts of the server under load', async () => {
    modprobe('ext4');
    const server = await nbdkit();
    const disk = await NbdDisk.connect(server.uri());
    try {
      await withDisk(disk, { driver: 'virtio_vdpa', queues: 2 }, async ({ device, path, errors }) => {
        const mount = join(server.folder, 'mount');
        await run(`mkfs.ext4 -q ${path}; mkdir ${mount}; mount ${path} ${mount}`);
        const stop = join(server.folder, 'stop');
        const pass = fioVerify(join(mount, 'data'), '4m');
        const traffic = run(`while [ ! -e ${stop} ]; do ${pass} || exit 1; done`, TRAFFIC_LIMIT_MS);
        traffic.catch(() => {});
        try {
          for (let restart = 0; restart < RESTARTS; restart++) {
            const { requests } = device.stats();
            await until('traffic', () => device.stats().requests > requests + 100, COMMAND_LIMIT_MS);
            await delay(randomInt(LIFE_MS));
            await server.kill();
            await delay(randomInt(ABSENCE_MS));
            await server.start();
          }
        } finally {
          writeFileSync(stop, '');
        }
        await traffic;
        await run(`umount ${mount}; fsck.ext4 -fn ${path}`);
        await run(`echo 3 > /proc/sys/vm/drop_caches; cmp ${path} ${join(server.folder, 'disk.img')}`);
        assert.is(disk.reconnects, RESTARTS);
        assert.equal(errors, []);
      });
    } finally {
      await disk.close();
      await server.close();
    }
  });

  test('ringbell serve blk --nbd makes a disk of the kernel of an export, until SIGTERM', async () => {
    modprobe('vduse', 'virtio_vdpa', 'virtio_blk');
    const server = await nbdkit();
    let command: Running | undefined;
    try {
      command = start([
        'serve',
        'blk',
        '--name',
        'nbd0',
        '--nbd',
        server.uri(),
        '--attach',
        'virtio',
        '--json',
      ]);
      const { said } = command;
      await until('the device is served', () => said.stdout.includes('\n'), COMMAND_LIMIT_MS);
      const { event, node, nbd, bytes, file } = JSON.parse(said.stdout.split('\n')[0]!);
      assert.equal([event, nbd, bytes, file], ['serving', server.uri(), BYTES, null]);
      await run(`dd if=/dev/urandom of=${node} bs=1M count=8 oflag=direct`);
      await server.kill();
      await until(
        'it says that the server is gone',
        () => said.stderr.includes('ERR_NBD_CONNECT'),
        COMMAND_LIMIT_MS,
      );
      await server.start();
      await until('it says that it is back', () => said.stderr.includes('connected again'), COMMAND_LIMIT_MS);
      await run(`sync; echo 3 > /proc/sys/vm/drop_caches; cmp ${node} ${join(server.folder, 'disk.img')}`);
      command.kill('SIGTERM');
      assert.is((await command.outcome).status, 0);
      assert.not.ok(existsSync('/dev/vduse/nbd0'));
    } finally {
      command?.kill('SIGKILL');
      await server.close();
    }
  });
}

test.run();
