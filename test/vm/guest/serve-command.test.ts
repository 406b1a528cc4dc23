import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBlock, VdpaBus } from '../../../host/index.js';
import { VDUSE_DESTROY_DEV, vduseName } from '../../../host/uapi/vduse.js';
import { KernelVduseControlFile } from '../../../host/vduse/kernel-file.js';
import { type Running, run, start } from '../../cli/command-line.js';
import { modprobe, scratch, shell, until } from '../fixture.js';

const MIB = 2 ** 20;
/** Milliseconds that a command may take to get somewhere: Node.js alone takes seconds to start where a CPU is emulated. */
const COMMAND_LIMIT_MS = 60_000;

modprobe('vduse', 'vhost_vdpa', 'virtio_vdpa', 'virtio_blk');
const bus = new VdpaBus();
const folder = scratch();
const image = join(folder, 'disk.img');
const contents = randomBytes(16 * MIB);

let last: Running | undefined;

test.before.each(() => writeFileSync(image, contents));
// What a test that failed has left must not fail the next one.
test.after.each(async () => {
  last?.kill('SIGKILL');
  await last?.outcome;
  if (existsSync('/sys/bus/vdpa/devices/disk0')) await bus.delete('disk0');
  if (existsSync('/dev/vduse/disk0')) await destroy('disk0');
});

/** Destroys a device that nobody serves. */
async function destroy(name: string): Promise<void> {
  const control = new KernelVduseControlFile();
  await control.ioctl(VDUSE_DESTROY_DEV, vduseName.encode(name));
  await control.close();
}

/** What serve --json says when the device is there. */
interface Serving {
  event: string;
  name: string;
  driver: string | null;
  node: string | null;
  bytes: number;
}

/** Starts `ringbell serve blk` and waits until it says something. */
async function startServe(...options: string[]): Promise<Running> {
  last = start(['serve', 'blk', '--name', 'disk0', ...options]);
  const { said, outcome } = last;
  let ended = false;
  void outcome.finally(() => {
    ended = true;
  });
  await until('the device is served', () => ended || said.stdout.includes('\n'), COMMAND_LIMIT_MS);
  assert.ok(said.stdout.includes('\n'), said.stderr);
  return last;
}

/** The same with what it says of the device. */
async function serving(...options: string[]): Promise<Running & { device: Serving }> {
  const running = await startServe('--json', ...options);
  return { ...running, device: JSON.parse(running.said.stdout.split('\n')[0]!) as Serving };
}

/** Nothing of a device may be left. */
async function nothingIsLeft(): Promise<void> {
  assert.equal(readdirSync('/dev/vduse'), ['control']);
  assert.equal(await bus.list(), []);
  assert.equal(readdirSync('/sys/bus/vdpa/devices'), []);
  assert.equal(
    readdirSync('/dev').filter((name) => /^(vhost-vdpa-\d+|vd[a-z])$/.test(name)),
    [],
  );
}

test('a disk for the kernel is there until SIGTERM, which leaves nothing behind', async () => {
  const { device, kill, outcome } = await serving('--file', image, '--attach', 'virtio');
  assert.is(device.driver, 'virtio_vdpa');
  assert.match(device.node!, /^\/dev\/vd[a-z]$/);
  assert.is(device.bytes, contents.length);
  shell(`cmp ${device.node} ${image}`);
  shell(
    `dd if=/dev/urandom of=${device.node} bs=1M count=4 seek=2 oflag=direct && cmp ${device.node} ${image}`,
  );
  kill('SIGTERM');
  const { status, stdout, stderr } = await outcome;
  assert.is(stderr, '');
  assert.is(status, 0);
  const { event, stats } = JSON.parse(stdout.trim().split('\n')[1]!);
  assert.is(event, 'ended');
  assert.ok(stats.bytesWritten >= 4 * MIB && stats.bytesRead >= contents.length);
  await nothingIsLeft();
});

test('a disk for programs is driven through its character device', async () => {
  const { device, kill, outcome } = await serving('--file', image, '--attach', 'vhost', '--read-only');
  assert.is(device.driver, 'vhost_vdpa');
  const disk = await openBlock(device.node!);
  assert.is(disk.capacity, contents.length);
  assert.is(Buffer.compare(await disk.read(MIB, MIB), contents.subarray(MIB, 2 * MIB)), 0);
  const refused = await disk.write(0, Buffer.alloc(512)).catch((error) => error);
  assert.is(refused.code, 'ERR_READ_ONLY');
  await disk.close();
  kill('SIGINT');
  assert.is((await outcome).status, 0);
  await nothingIsLeft();
  assert.is(Buffer.compare(readFileSync(image), contents), 0);
});

test('a device that a program has open is served until the program closes it', async () => {
  const { device, kill, outcome, said } = await serving('--size', '1M', '--attach', 'vhost');
  const disk = await openBlock(device.node!);
  kill('SIGINT');
  await until(
    'the command says what it waits for',
    () => said.stderr.includes(device.node!),
    COMMAND_LIMIT_MS,
  );
  await disk.write(0, Buffer.alloc(512, 7));
  assert.is((await disk.read(0, 512))[511], 7);
  await disk.close();
  assert.is((await outcome).status, 0);
  await nothingIsLeft();
});

test('a second Ctrl-C ends at once, and leaves a device that is in use', async () => {
  const { device, kill, outcome, said } = await serving('--size', '1M', '--attach', 'vhost');
  const fd = openSync(device.node!, constants.O_RDWR);
  kill('SIGINT');
  await until(
    'the command says what it waits for',
    () => said.stderr.includes(device.node!),
    COMMAND_LIMIT_MS,
  );
  kill('SIGINT');
  await outcome;
  assert.ok(existsSync('/dev/vduse/disk0'));
  closeSync(fd);
});

test('without --attach the device is on the bus, for others to bind', async () => {
  const { device, kill, outcome } = await serving('--size', '2M', '--queues', '2', '--queue-size', '64');
  assert.is(device.driver, null);
  const { queues, queueSize } = await bus.show('disk0');
  assert.is(queues, 2);
  assert.is(queueSize, 64);
  const { node } = await bus.bind('disk0', 'virtio_vdpa');
  assert.is(shell(`blockdev --getsize64 ${node}`).trim(), `${2 * MIB}`);
  kill('SIGTERM');
  assert.is((await outcome).status, 0);
  await nothingIsLeft();
});

test('for people it says where the disk is, and what was done', async () => {
  const { kill, outcome } = await startServe('--file', image, '--attach', 'virtio');
  kill('SIGINT');
  const { status, stdout, stderr } = await outcome;
  assert.is(stderr, '');
  assert.is(status, 0);
  assert.match(
    stdout,
    /^disk0 {2}\/dev\/vd[a-z]\n {7}.*disk\.img, 16 MiB; 1 queue of 256\n( {7}bounce buffer: .*\n)?disk0 {2}ended: \d+ requests, /,
  );
  await nothingIsLeft();
});

test('a driver that is not loaded, or a name that is taken, is said on one line and leaves nothing', async () => {
  const { kill, outcome } = await serving('--size', '1M');
  const taken = await run(['serve', 'blk', '--name', 'disk0', '--size', '1M']);
  assert.is(taken.status, 1);
  assert.is(taken.stderr, 'ringbell: disk0 is being served already\n');
  kill('SIGINT');
  await outcome;
  shell('rmmod vhost_vdpa');
  const missing = await run(['serve', 'blk', '--name', 'disk0', '--size', '1M', '--attach', 'vhost']);
  modprobe('vhost_vdpa');
  assert.is(missing.status, 1);
  assert.match(missing.stderr, /^ringbell: [^\n]*modprobe vhost_vdpa[^\n]*\n$/);
  await nothingIsLeft();
});

test.run();
