import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Aperture } from '../../host/aperture/aperture.js';
import { isSystemError } from '../../host/errors.js';
import * as vhost from '../../host/uapi/vhost.js';
import { openKernelVhostVdpa } from '../../host/vhost-vdpa/kernel-file.js';
import { openVhostVdpaFile } from '../../host/vhost-vdpa/open.js';

// No vhost-vdpa device is there in a test: an ordinary file shows which system call each operation makes.

const folder = mkdtempSync(join(tmpdir(), 'ringbell-'));
const path = join(folder, 'device');
test.before(() => writeFileSync(path, Buffer.alloc(8192, 1)));
test.after(() => rmSync(folder, { recursive: true }));

async function refusal(call: Promise<unknown>): Promise<{ code: string; syscall: string }> {
  try {
    await call;
  } catch (error) {
    assert.ok(isSystemError(error), `${error}`);
    return error;
  }
  throw new Error('expected a system error');
}

test('an ioctl is one', async () => {
  const file = await openKernelVhostVdpa(path);
  assert.is(file.name, path);
  const error = await refusal(file.ioctl(vhost.VHOST_SET_OWNER));
  assert.is(error.code, 'ENOTTY');
  assert.is(error.syscall, 'ioctl');
  await file.close();
});

test('a message is one write', async () => {
  const file = await openKernelVhostVdpa(path);
  await file.write(new Uint8Array(72).fill(7));
  await file.write(new Uint8Array(72).fill(8));
  await file.close();
  const bytes = readFileSync(path);
  assert.is(bytes.length, 8192);
  assert.equal([bytes[0], bytes[71], bytes[72], bytes[143], bytes[144]], [7, 7, 8, 8, 1]);
});

test('a doorbell is a mapping of its page', async () => {
  const file = await openKernelVhostVdpa(path);
  const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
  const page = aperture.reserveWindow(4096);
  await file.mmap(aperture, page.linear, { length: 4096, protection: 'rw', shared: true, offset: 4096 });
  aperture.viewOwn(page)[5] = 0x55;
  assert.is(readFileSync(path)[4096 + 5], 0x55);
  const error = await refusal(
    file.mmap(aperture, page.linear, { length: 4096, protection: 'w', shared: true, offset: 0 }),
  );
  assert.is(error.code, 'EEXIST');
  aperture.close();
  await file.close();
});

test('closing waits for the calls that are under way; afterwards there is no file', async () => {
  const fifo = join(folder, 'fifo');
  execFileSync('mkfifo', [fifo]);
  const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
  const file = await openKernelVhostVdpa(fifo);
  const bytes = 2 ** 18;
  const order: string[] = [];
  // More than a pipe holds: the system call waits until somebody reads.
  const written = file.write(new Uint8Array(bytes)).then(() => order.push('written'));
  const closed = file.close().then(() => order.push('closed'));
  const again = file.close();
  const buffer = new Uint8Array(bytes);
  for (let left = bytes; left > 0; ) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    try {
      left -= readSync(reader, buffer);
    } catch (error) {
      assert.ok(isSystemError(error, 'EAGAIN'), `${error}`);
    }
  }
  await Promise.all([written, closed, again]);
  assert.equal(order, ['written', 'closed']);
  const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
  const page = aperture.reserveWindow(4096);
  const request = { length: 4096, protection: 'w', shared: true, offset: 0 } as const;
  for (const call of [
    () => file.ioctl(vhost.VHOST_SET_OWNER),
    () => file.write(new Uint8Array(72)),
    () => file.mmap(aperture, page.linear, request),
  ])
    assert.is((await refusal(call())).code, 'EBADF');
  aperture.close();
  closeSync(reader);
});

test('a path that is no device, or none at all, is told apart', async () => {
  const missing = openVhostVdpaFile(join(folder, 'missing')).catch((error) => error);
  assert.is((await missing).code, 'ERR_NO_DEVICE');
  assert.match((await missing).message, /there is no .*missing/);
  const directory = openVhostVdpaFile(folder).catch((error) => error);
  assert.is((await directory).code, 'ERR_CONTROL_PLANE');
  assert.match((await directory).message, /EISDIR/);
});

test.run();
