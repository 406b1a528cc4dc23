import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Outcome, start } from './command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'interruption-'));
test.after(() => rmSync(folder, { recursive: true }));

/** Milliseconds between two looks at what a demo has done so far, and how many looks it is given. */
const LOOK_MS = 5;
const LOOKS = 4000;

/** Starts a long demo with a TMPDIR of its own, and sends signals once `reached` says so: how it ended, and what it left. */
async function interrupt(
  signals: readonly NodeJS.Signals[],
  options: readonly string[],
  reached: (temporary: string) => boolean | Promise<boolean>,
): Promise<Outcome & { left: string[] }> {
  const temporary = mkdtempSync(join(folder, 'temporary-'));
  const demo = start(['demo', '--seconds', '3600', ...options], { TMPDIR: temporary });
  let ended: Outcome | undefined;
  demo.outcome.then(
    (outcome) => {
      ended = outcome;
    },
    () => {},
  );
  for (let look = 0; !(await reached(temporary)); look++) {
    assert.not(ended, `the demo ended by itself: ${ended?.stderr}`);
    assert.ok(look < LOOKS, 'the demo never got that far');
    await sleep(LOOK_MS);
  }
  for (const signal of signals) demo.kill(signal);
  const outcome = await demo.outcome;
  return { ...outcome, left: readdirSync(temporary) };
}

/** What is in the demo's own temporary directory; nothing before there is one. */
function contents(temporary: string): string[] {
  const own = readdirSync(temporary)[0];
  if (own === undefined) return [];
  try {
    return readdirSync(join(temporary, own));
  } catch {
    return [];
  }
}

const hasImage = (temporary: string) =>
  contents(temporary).includes('disk.img') && !contents(temporary).includes('files');

function check(outcome: Outcome & { left: string[] }, status: number): void {
  assert.is(outcome.stderr, '');
  assert.is(outcome.stdout, '');
  assert.is(outcome.signal, null);
  assert.is(outcome.status, status);
  assert.equal(outcome.left, []);
}

test('Ctrl-C while the image is made ends with 130 and leaves nothing behind', async () => {
  check(await interrupt(['SIGINT'], [], (temporary) => readdirSync(temporary).length > 0), 130);
});

test('Ctrl-C while files are copied for the image ends with 130 and leaves nothing behind', async () => {
  check(await interrupt(['SIGINT'], [], (temporary) => contents(temporary).includes('files')), 130);
});

test('Ctrl-C while mke2fs runs ends with 130 and leaves nothing behind', async () => {
  check(await interrupt(['SIGINT'], [], (temporary) => contents(temporary).includes('disk.img')), 130);
});

for (const [milliseconds, what] of [
  [0, 'when the image is there'],
  [30, 'when the device is started'],
  [150, 'while the disk is read'],
] as const)
  test(`Ctrl-C ${what} ends with 130 and leaves nothing behind`, async () => {
    check(await interrupt(['SIGINT'], [], (t) => hasImage(t) && sleep(milliseconds, true)), 130);
  });

for (const mode of ['poll', 'notify'])
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    test(`${signal} while ${mode} mode is measured ends with ${status} and leaves nothing behind`, async () => {
      const options = ['--size', '1M', '--mode', mode];
      check(await interrupt([signal], options, (t) => hasImage(t) && sleep(1500, true)), status);
    });

test('a second Ctrl-C ends at once and still leaves nothing behind', async () => {
  check(await interrupt(['SIGINT', 'SIGINT'], ['--size', '8M'], hasImage), 130);
});

test.run();
