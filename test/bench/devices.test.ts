import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { creations, leaks } from '../../bench/devices/creations.js';
import { idle } from '../../bench/devices/idle.js';
import { kinds } from '../../bench/devices/kinds.js';

const runFile = fileURLToPath(new URL('../../bench/devices/run.js', import.meta.url));

/** Bytes; a device takes more, with its threads. */
const DEVICE_BYTES = 10 * 2 ** 20;

test('devices of all kinds that were made and closed leave nothing behind', async () => {
  // npm run bench:devices has a thousand.
  const devices = 60;
  const { before, after } = await creations(devices, () => {});
  assert.is(after.fds, before.fds);
  assert.is(after.threads, before.threads);
  assert.not(
    leaks({ devices, seconds: 0, before, after }),
    `${before.mappings} mappings, then ${after.mappings}`,
  );
  // Were one device in ten kept, with its threads.
  assert.ok(after.residentBytes - before.residentBytes < (devices / 10) * DEVICE_BYTES);
});

test('what an idle device costs is told of each', async () => {
  const kind = kinds.find(({ drive, options }) => drive !== undefined && options.threads === 1)!;
  const { devices, fds, threads, mappings, residentBytes, cpuPercent } = await idle(kind, 2, 0.1);
  assert.is(devices, 2);
  // The message thread and the queue thread.
  assert.is(threads, 2);
  assert.ok(fds >= 4 && mappings > 0 && residentBytes > 0 && cpuPercent >= 0);
});

test('the command refuses what is no number', async () => {
  const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
    execFile(process.execPath, [runFile, '--devices', 'many'], (error, _, stderr) =>
      resolve({ code: error?.code, stderr }),
    );
  });
  assert.is(code, 2);
  assert.is(stderr, "bench:devices: --devices 'many': must be a whole number\n");
});

test.run();
