import { spawnSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isSystemError } from '../../host/errors.js';
import { addon } from './fixture.js';

test('the CPUs that this thread may run on are those that the kernel says', () => {
  const { stdout, status } = spawnSync('nproc', { encoding: 'utf8' });
  if (status === 0) assert.is(addon.affinity().length, Number(stdout));
  const cpus = addon.affinity();
  assert.equal(
    cpus,
    cpus.toSorted((a, b) => a - b),
  );
});

test('a thread runs on the CPUs that it was given, and can be given others', () => {
  const before = addon.affinity();
  try {
    addon.setAffinity([before[0]!]);
    assert.equal(addon.affinity(), [before[0]]);
  } finally {
    addon.setAffinity(before);
  }
  assert.equal(addon.affinity(), before);
});

test('no CPU, or none that there is, is refused', () => {
  for (const cpus of [[], [1023]])
    assert.throws(
      () => addon.setAffinity(cpus),
      (error: Error) => isSystemError(error, 'EINVAL'),
    );
  assert.throws(() => addon.setAffinity([-1]), RangeError as never);
  assert.throws(() => addon.setAffinity([0.5]), RangeError as never);
  assert.throws(() => addon.setAffinity('0' as never), TypeError as never);
});

test.run();
