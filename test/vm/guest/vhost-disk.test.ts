/** Disks of ours under vhost_vdpa, driven by our own driver: ours on both sides, the kernel between them. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, type ServeOptions } from '../../../host/index.js';
import { imageFile, run, withDisk } from '../disk-fixture.js';
import { kernelIsSince, skip, until } from '../fixture.js';

const BYTES = 6 * 2 ** 20;
const DRIVER = fileURLToPath(new URL('../disk-driver.js', import.meta.url));

/** What a driver in a process of its own prints, by line. */
async function drive(path: string, what: string, options: object = {}): Promise<string[]> {
  const printed = await run(`${process.execPath} ${DRIVER} ${path} ${what} '${JSON.stringify(options)}'`);
  return printed.trim().split('\n');
}

const sha256 = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex');

for (const options of [
  {},
  { queues: 4 },
  { queues: 4, packed: true },
  { packed: true, inOrder: true },
  { apiVersion: 0 },
  { queues: 4, groups: 2 },
] as Partial<ServeOptions>[]) {
  const name = `the whole disk, read and rewritten, with ${JSON.stringify(options)}`;
  if (options.groups && !kernelIsSince('7.0')) {
    skip(name, 'this kernel has version 0 of the API, which knows no groups');
    continue;
  }
  test(name, async () => {
    const file = imageFile(BYTES);
    const before = sha256(file);
    await withDisk(new BlockDevice({ file }), { driver: 'vhost_vdpa', ...options }, async (disk) => {
      const [read, written, readAgain] = await drive(disk.path, 'rewrite', { queues: options.queues });
      assert.is(read, before);
      assert.is(readAgain, written, 'as the driver has it');
      assert.is(sha256(file), written, 'as the file has it');
      assert.not(written === before);
      assert.is(disk.device.bounceBuffer, 'none');
      assert.equal(disk.errors, []);
    });
  });
}

test('a driver that bounces tells the device of more memory under load, and loses nothing', async () => {
  const file = imageFile(BYTES);
  const before = sha256(file);
  await withDisk(new BlockDevice({ file }), { driver: 'vhost_vdpa' }, async ({ path, errors }) => {
    const [read, written, readAgain] = await drive(path, 'rewrite', { bounce: true });
    assert.equal([read, readAgain, sha256(file)], [before, written, written]);
    assert.equal(errors, []);
  });
});

test('drivers come and go, in the middle of their traffic too', async () => {
  const file = imageFile(BYTES);
  await withDisk(new BlockDevice({ file }), { driver: 'vhost_vdpa' }, async ({ path, errors }) => {
    assert.equal(await drive(path, 'come-and-go'), [sha256(file)]);
    assert.equal(errors, []);
  });
});

test('the driver sees a new size', async () => {
  await withDisk(new BlockDevice({ memory: BYTES }), { driver: 'vhost_vdpa' }, async ({ device, path }) => {
    const driver = spawn(process.execPath, [DRIVER, path, 'watch'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = once(driver, 'exit');
    let seen = '';
    driver.stdout.on('data', (chunk) => {
      seen += chunk;
    });
    try {
      await until('a size', () => seen === `${BYTES}\n`);
      await device.resize(2 * BYTES);
      await until('a new size', () => seen === `${BYTES}\n${2 * BYTES}\n`);
    } finally {
      driver.kill();
      await ended;
    }
  });
});

test.run();
