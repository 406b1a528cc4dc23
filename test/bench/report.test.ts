/** What the benchmark makes of its samples, and of a bad command line. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Pair, summarize } from '../../bench/compare.js';
import { describeMachine } from '../../bench/machine.js';
import { formatReport } from '../../bench/table.js';

const SAMPLES: Pair[] = [
  { ours: 10, theirs: 20 },
  { ours: 10, theirs: 30 },
  { ours: 20, theirs: 20 },
  { ours: 10, theirs: 20 },
  // A pair that something else on the machine has disturbed.
  { ours: 500, theirs: 20 },
];

test('a ratio above 1 means that the engine takes less time', () => {
  const summary = summarize(SAMPLES, 'ns');
  assert.is(summary.ratio, 2);
  assert.equal(summary.spread, [1, 2]);
  assert.is(summary.ours, 10);
  assert.is(summary.theirs, 20);
  assert.is(summarize([{ ours: 10, theirs: 20 }], 'ns').ratio, 2);
});

test('a ratio above 1 means that the engine does more in a second', () => {
  assert.is(summarize([{ ours: 30, theirs: 20 }], 'requests/s').ratio, 1.5);
});

test('a report names the machine, the work and both figures', () => {
  const comparison = { work: 'ring: a chain', engine: 'engine.wasm', rival: 'C++', unit: 'ns/chain' };
  const machine = { ...describeMachine(), cpu: 'a processor', commit: '0123456789ab' };
  const report = formatReport(machine, [
    { ...comparison, ours: 3.456, theirs: 5, ratio: 1.4468, spread: [1.4, 1.5], samples: [] },
  ]);
  assert.match(report, /a processor, \d+ CPUs, Linux/);
  assert.match(report, /commit 0123456789ab/);
  assert.match(report, /ring: a chain +ns\/chain +engine\.wasm +3\.46 +C\+\+ +5\.00 +1\.45 +1\.40 – 1\.50/);
});

for (const args of [['no such benchmark'], ['--no-such-option']])
  test(`${args.join(' ')} is refused in one line, with exit status 2`, () => {
    const runner = fileURLToPath(new URL('../../bench/run.js', import.meta.url));
    const { status, stdout, stderr } = spawnSync(process.execPath, [runner, ...args], { encoding: 'utf8' });
    assert.is(status, 2);
    assert.is(stdout, '');
    assert.match(stderr, /^bench: [^\n]*\n$/);
  });

test.run();
