/** Overlays, as disks of the kernel. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Running, start } from '../../cli/command-line.js';
import { run } from '../disk-fixture.js';
import { modprobe, scratch, shell, until } from '../fixture.js';

const COMMAND_LIMIT_MS = 150_000;
const TRAFFIC_LIMIT_MS = 480_000;

/** Starts `ringbell serve blk` and waits until it serves: what it says of the device. */
async function serving(
  ...options: string[]
): Promise<Running & { device: { node: string; base: string; takenOver: boolean } }> {
  const command = start(['serve', 'blk', '--name', 'overlay0', '--attach', 'virtio', '--json', ...options]);
  await until('the device is served', () => command.said.stdout.includes('\n'), COMMAND_LIMIT_MS);
  return { ...command, device: JSON.parse(command.said.stdout.split('\n')[0]!) };
}

test('ringbell serve blk --file --base: a file system of the base, changed under fio, through a kill of the server', async () => {
  modprobe('vduse', 'virtio_vdpa', 'virtio_blk', 'ext4');
  const folder = scratch();
  const [file, base, mount] = [join(folder, 'overlay'), join(folder, 'base.img'), join(folder, 'mount')];
  shell(`truncate -s 64M ${base}; mkfs.ext4 -q ${base}; mkdir ${mount}; sha256sum ${base} > ${folder}/sum`);
  let command: Running | undefined;
  try {
    const first = await serving('--file', file, '--base', base);
    command = first;
    const { node } = first.device;
    assert.is(first.device.base, base);
    await run(`mount ${node} ${mount}; echo first > ${mount}/first; sync`);
    const traffic = run(
      `fio --name=verify --filename=${mount}/data --size=4m --rw=randrw --bs=4k --direct=1 --iodepth=32 --ioengine=io_uring \
      --loops=3 --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 --fsync=64`,
      TRAFFIC_LIMIT_MS,
    );
    traffic.catch(() => {});
    await until('traffic', () => existsSync(join(mount, 'data')), COMMAND_LIMIT_MS);
    first.kill('SIGKILL');
    await first.outcome;
    const second = await serving('--file', file, '--base', base);
    command = second;
    assert.ok(second.device.takenOver);
    await traffic;
    assert.is(await run(`cat ${mount}/first`), 'first\n');
    await run(`umount ${mount}; fsck.ext4 -fn ${node}`);
    second.kill('SIGTERM');
    assert.is((await second.outcome).status, 0);
    shell(`sha256sum --check ${folder}/sum`);
  } finally {
    command?.kill('SIGKILL');
  }
});

test.run();
