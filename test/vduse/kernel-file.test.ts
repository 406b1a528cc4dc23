import { execFileSync } from 'node:child_process';
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isSystemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';
import { VDUSE_DEV_INJECT_CONFIG_IRQ, vduseDevRequest } from '../../host/uapi/vduse.js';
import { KernelVduseFile } from '../../host/vduse/kernel-file.js';
import { within } from '../bus/fixture.js';

// No VDUSE device is there in a test: a pipe shows which system call each operation makes.

const folder = mkdtempSync(join(tmpdir(), 'ringbell-'));
const path = join(folder, 'device');
test.before(() => {
  execFileSync('mkfifo', [path]);
});
test.after(() => rmSync(folder, { recursive: true }));
const open = () => openSync(path, constants.O_RDWR | constants.O_NONBLOCK);

test('a read waits for a message, and ends when the file is closed', async () => {
  const file = new KernelVduseFile('device', open());
  const reading = file.read();
  writeSync(file.fd, new Uint8Array(vduseDevRequest.size).fill(7));
  assert.is((await within(reading, 'the message'))[151], 7);
  const next = file.read().catch((error) => error);
  await file.close();
  assert.ok(isSystemError(await within(next, 'the end'), 'EBADF'));
});

test('a closed descriptor is never used again, whoever has its number now', async () => {
  const file = new KernelVduseFile('device', open());
  await file.close();
  const reused = open();
  const uses = [file.ioctl(VDUSE_DEV_INJECT_CONFIG_IRQ), file.write(new Uint8Array(1)), file.read()];
  for (const { status, reason } of (await Promise.allSettled(uses)) as PromiseRejectedResult[]) {
    assert.is(status, 'rejected');
    assert.ok(isSystemError(reason, 'EBADF'), `${reason}`);
  }
  await file.close();
  closeSync(reused);
});

test('a wake with nothing to read is not waited for again before the device has said that it is not broken', async () => {
  const addon = loadAddon();
  const file = new KernelVduseFile('device', open());
  const other = open();
  // Two more that watch, one of which comes before the file whatever the order, and takes the message away from it.
  const take = () => {
    try {
      readSync(other, new Uint8Array(vduseDevRequest.size));
    } catch (error) {
      assert.ok(isSystemError(error, 'EAGAIN'));
    }
  };
  const before = addon.watch(other, take);
  const reading = file.read().catch((error) => error);
  const after = addon.watch(other, take);
  writeSync(other, new Uint8Array(vduseDevRequest.size));
  const error = await within(reading, 'the answer to the ioctl');
  // What an ioctl on a pipe says: the kernel says EPERM for a broken device.
  assert.ok(isSystemError(error, 'ENOTTY'), `${error}`);
  before.close();
  after.close();
  await file.close();
  closeSync(other);
});

test.run();
