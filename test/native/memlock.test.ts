import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isSystemError } from '../../host/errors.js';
import { loadAddon } from '../../host/native/addon.js';

/** Soft and hard limit in bytes, as the kernel has them; Infinity for none. */
function limits(): number[] {
  const [, soft, hard] = /^Max locked memory\s+(\S+)\s+(\S+)/m.exec(
    readFileSync('/proc/self/limits', 'utf8'),
  )!;
  return [soft!, hard!].map((limit) => (limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit)));
}

test('the limit is raised, and the hard one with it, or nothing changes', () => {
  const [soft, hard] = limits() as [number, number];
  if (soft === Number.POSITIVE_INFINITY) {
    console.log('skipped: raising the limit: there is none here');
    return;
  }
  const wanted = soft + 65536;
  try {
    loadAddon().raiseMemlockLimit(wanted);
    assert.equal(limits(), [wanted, Math.max(hard, wanted)]);
  } catch (error) {
    // Not root, or a root that may not.
    assert.ok(isSystemError(error, 'EPERM'), `${error}`);
    assert.ok(wanted > hard);
    assert.equal(limits(), [soft, hard]);
  }
});

test('the limit is never lowered', () => {
  const before = limits();
  loadAddon().raiseMemlockLimit(0);
  loadAddon().raiseMemlockLimit(4096);
  assert.equal(limits(), before);
});

test('what is no number of bytes is refused', () => {
  assert.throws(
    () => loadAddon().raiseMemlockLimit('1' as never),
    (error: Error) => error instanceof TypeError,
  );
  assert.throws(
    () => loadAddon().raiseMemlockLimit(-1),
    (error: Error) => error instanceof RangeError,
  );
});

test.run();
