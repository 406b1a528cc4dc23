import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type VerifiedDisk, verifyReads, verifyWrites } from '../../host/cli/verification.js';

const folder = mkdtempSync(join(tmpdir(), 'verification-'));
test.after(() => rmSync(folder, { recursive: true }));
const { signal } = new AbortController();
const BYTES = 5 * 2 ** 20 + 512;

/** A file of bytes that are not all alike. */
function makeFile(name: string): string {
  const path = join(folder, name);
  writeFileSync(path, Buffer.from(Uint8Array.from({ length: BYTES }, (_, i) => i * 7 + (i >> 9))));
  return path;
}

/** A disk on the bytes of a file; what is written goes to `store`. */
function diskOf(bytes: Buffer, store: (offset: number, from: Uint8Array) => void): VerifiedDisk {
  return {
    capacity: bytes.length,
    async read(offset, into) {
      into.set(bytes.subarray(offset, offset + into.length));
      return into;
    },
    async write(offset, from) {
      store(offset, from);
    },
    async flush() {},
  };
}

test('a disk that reads as its file does is equal', async () => {
  const path = makeFile('equal.img');
  let last = 0;
  const result = await verifyReads(
    diskOf(readFileSync(path), () => {}),
    path,
    signal,
    (part) => (last = part),
  );
  assert.is(result.equal, true);
  assert.is(result.sha256, result.fileSha256);
  assert.is(result.bytes, BYTES);
  assert.is(result.firstDifference, null);
  assert.is(last, 1);
});

test('one bit that differs is found, and where', async () => {
  const path = makeFile('differs.img');
  const bytes = readFileSync(path);
  const at = 3 * 2 ** 20 + 77;
  bytes[at]! ^= 1;
  const result = await verifyReads(
    diskOf(bytes, () => {}),
    path,
    signal,
    () => {},
  );
  assert.is(result.equal, false);
  assert.is.not(result.sha256, result.fileSha256);
  assert.ok(result.firstDifference! <= at && at < result.firstDifference! + 2 ** 18);
});

test('a disk larger than its file is not equal', async () => {
  const path = makeFile('short.img');
  const bytes = Buffer.concat([readFileSync(path), Buffer.alloc(512)]);
  const result = await verifyReads(
    diskOf(bytes, () => {}),
    path,
    signal,
    () => {},
  );
  assert.is(result.equal, false);
});

test('what is written is read back from the disk and from the file', async () => {
  const path = makeFile('written.img');
  const bytes = readFileSync(path);
  const result = await verifyWrites(
    diskOf(bytes, (offset, from) => {
      bytes.set(from, offset);
      writeFileSync(path, bytes);
    }),
    path,
    signal,
    () => {},
  );
  assert.is(result.equal, true);
  assert.is(result.requests, 64);
});

test('a disk that acknowledges a write without storing it is found out', async () => {
  const path = makeFile('lost.img');
  const bytes = readFileSync(path);
  const result = await verifyWrites(
    diskOf(bytes, (offset, from) => bytes.set(from, offset)),
    path,
    signal,
    () => {},
  );
  assert.is(result.equal, false);
  assert.is(result.firstDifference, 0);
});

test('a disk of one sector can be written and read back', async () => {
  const path = join(folder, 'sector.img');
  const bytes = Buffer.alloc(512);
  writeFileSync(path, bytes);
  const result = await verifyWrites(
    diskOf(bytes, (offset, from) => {
      bytes.set(from, offset);
      writeFileSync(path, bytes);
    }),
    path,
    signal,
    () => {},
  );
  assert.is(result.equal, true);
  assert.is(result.bytes, 512);
});

test('an aborted verification rejects with the reason', async () => {
  const path = makeFile('aborted.img');
  const reason = new Error('enough');
  for (const verify of [verifyReads, verifyWrites]) {
    let said: unknown;
    const controller = new AbortController();
    const disk = diskOf(readFileSync(path), () => {});
    disk.write = async (_offset, _from, options) => options?.signal?.throwIfAborted();
    await verify(disk, path, controller.signal, () => controller.abort(reason)).catch(
      (error) => (said = error),
    );
    assert.is(said, reason);
  }
});

test.run();
