import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { lockAny } from '../vm/lock.js';
import { findTool } from '../vm/requirements.js';

/** Milliseconds; a wait that takes longer is a failure. */
const LIMIT_MS = 20_000;

const folder = mkdtempSync(join(tmpdir(), 'ringbell-lock-'));
const paths = ['1', '2'].map((name) => join(folder, name));
test.after(() => rmSync(folder, { recursive: true }));

if (!findTool('flock')) {
  console.log('skipped: locks: flock of util-linux is not installed');
  test.skip('locks');
} else {
  test('who finds all locks taken says so once, and gets the first that is given back', async () => {
    const signal = AbortSignal.timeout(LIMIT_MS);
    let waits = 0;
    const lock = () => lockAny(paths, signal, () => waits++);
    const first = await lock();
    const second = await lock();
    assert.is(waits, 0);
    const third = lock();
    setTimeout(first, 700);
    (await third)();
    assert.is(waits, 1);
    second();
    second();
  });

  test('waiting ends when the signal aborts', async () => {
    const release = await lockAny([paths[0]!], AbortSignal.timeout(LIMIT_MS));
    const abort = new AbortController();
    const waiting = lockAny([paths[0]!], abort.signal, () => abort.abort());
    assert.is(await waiting.catch((error) => error.name), 'AbortError');
    release();
  });
}

test.run();
