/** Servers that are killed while the kernel uses their disk, and others that go on in their place. */
import { existsSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openBlock } from '../../../host/index.js';
import { imageFile, run } from '../disk-fixture.js';
import type { ServerOptions } from '../disk-server.js';
import { bindDriver, modprobe, scratch, shell, unbindDriver, until } from '../fixture.js';
import { ServerProcess, takeOver } from '../server-process.js';

const BYTES = 16 * 2 ** 20;
const LOGS = '/run/ringbell';
/** Milliseconds for everything that a killed server keeps waiting. */
const LIMIT_MS = 60_000;

modprobe('vduse', 'virtio_vdpa', 'vhost_vdpa', 'virtio_blk');

let serial = 0;

/** An image under a name of its own. */
function disk(by: ServerOptions['by'] = 'engine'): ServerOptions {
  return { name: `disk${serial++}`, file: imageFile(BYTES), by };
}

test('killed with an unanswered message: a bind, and a removal, go on with the next server', async () => {
  const options = disk();
  const first = await ServerProcess.start(options);
  first.freeze();
  const bound = bindDriver(options.name, 'virtio_vdpa');
  await delay(200);
  await first.kill();
  const second = await takeOver(options);
  const path = await bound;
  shell(`cmp ${path} ${options.file}`);
  second.freeze();
  const removed = run(`vdpa dev del ${options.name}`, LIMIT_MS);
  await delay(200);
  await second.kill();
  const third = await ServerProcess.start(options);
  await removed;
  assert.not.ok(existsSync(path));
  await third.close();
  assert.not.ok(existsSync(`/dev/vduse/${options.name}`));
});

test('killed again and again while it is being bound', async () => {
  const options = disk();
  let server = await ServerProcess.start(options);
  for (let round = 0; round < 3; round++) {
    const bound = bindDriver(options.name, 'virtio_vdpa');
    await delay(Math.random() * 60);
    await server.kill();
    server = await takeOver(options);
    shell(`cmp ${await bound} ${options.file}`);
    await unbindDriver(options.name);
  }
  await server.close();
});

test('a server sees to it that it takes over its own device, as it was', async () => {
  const options = disk();
  const first = await ServerProcess.start(options);
  const path = await bindDriver(options.name, 'virtio_vdpa');
  const refused = async (change: Partial<ServerOptions>) =>
    (await ServerProcess.start({ ...options, ...change })).last('refused')?.code;
  assert.is(await refused({}), 'ERR_DEVICE_BUSY');
  await first.kill();
  assert.is(await refused({ queues: 2 }), 'ERR_TAKE_OVER');
  assert.is(await refused({ queueSize: 128 }), 'ERR_TAKE_OVER');
  assert.is(await refused({ inFlightLog: join(scratch(), 'another') }), 'ERR_TAKE_OVER');
  assert.is(await refused({ inFlightLog: false }), 'EEXIST');
  truncateSync(options.file, 2 * BYTES);
  const second = await takeOver(options);
  await until('the new size', () => Number(shell(`blockdev --getsize64 ${path}`)) === 2 * BYTES);
  shell(`cmp ${path} ${options.file}`);
  await second.close();
});

test('a device that was never attached gives way to a new one', async () => {
  const options = disk();
  const first = await ServerProcess.start({ ...options, attach: false });
  await first.kill();
  const second = await ServerProcess.start({ ...options, queues: 2 });
  assert.equal(second.last('serving'), { event: 'serving', takenOver: false });
  await second.close();
});

test('a device that nobody answered for in time is broken, until it is taken off the bus', async () => {
  const options = disk();
  const first = await ServerProcess.start(options);
  writeFileSync(`/sys/class/vduse/${options.name}/msg_timeout`, '1');
  await first.kill();
  // Its result is the driver's affair, which has no device then.
  bindDriver(options.name, 'virtio_vdpa').catch(() => {});
  await delay(3000);
  assert.is((await ServerProcess.start(options)).last('refused')?.code, 'ERR_DEVICE_BROKEN');
  shell(`vdpa dev del ${options.name}`);
  const second = await ServerProcess.start(options);
  assert.equal(second.last('serving'), { event: 'serving', takenOver: false });
  await second.close();
});

test('a driver of ours under vhost_vdpa sees a pause, too, over packed rings', async () => {
  const options = { ...disk('model'), packed: true };
  let server = await ServerProcess.start(options);
  const driver = await openBlock(await bindDriver(options.name, 'vhost_vdpa'));
  assert.ok(driver.features.includes('VIRTIO_F_RING_PACKED'));
  const block = (n: number) => new Uint8Array(4096).fill(1 + (n % 255));
  for (let kill = 0; kill < 3; kill++) {
    const writes = Array.from({ length: 64 }, (_, n) => driver.write(n * 4096, block(n + kill)));
    await delay(Math.random() * 20);
    await server.kill();
    server = await takeOver(options);
    await Promise.all(writes);
    for (let n = 0; n < 64; n++) assert.equal(await driver.read(n * 4096, 4096), block(n + kill));
  }
  await driver.close();
  await server.close();
});

test('nothing is left', () => {
  assert.equal(readdirSync('/dev/vduse'), ['control']);
  assert.equal(readdirSync(LOGS), []);
});

test.run();
