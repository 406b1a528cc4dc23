import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const scenario = fileURLToPath(new URL('./scenario.js', import.meta.url));

/** Each fault, by what the device's error is then called. */
const FAULTS = {
  'hostile descriptor': 'ERR_RING_NEXT',
  'read-only window': 'ERR_RING_PERMISSION',
  'unmapped IOVA': 'ERR_RING_UNMAPPED',
  'truncated backing file': 'ERR_MEMORY_LOST',
  'worker killed in mid-request': 'ERR_THREAD_LOST',
};

for (const [fault, code] of Object.entries(FAULTS))
  test(`${fault}: the process survives with ${code}, and a second device keeps serving`, async () => {
    // Rejects when the process dies by a signal, exits with another status than 0, or does not end by itself.
    const { stdout } = await promisify(execFile)(process.execPath, [scenario, fault], { timeout: 60_000 });
    assert.equal(JSON.parse(stdout), { code, needsReset: true, survivor: true });
  });

test.run();
