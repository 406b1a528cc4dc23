import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { judge } from '../outcome.js';
import { type BootReport, Report } from '../vm/report.js';

const bootOf = (series: string): BootReport => ({
  series,
  release: `${series}.1-amd64`,
  machine: 'guest',
  accelerator: 'tcg',
  bootMs: 4_000,
  durationMs: 12_340,
  files: [],
  death: '',
});

test('the output of a file is judged by its counts, its status and the reasons for what it skips', () => {
  const counts = (total: number, passed: number, skipped: number) =>
    `\n  Total:     ${total}\n  Passed:    ${passed}\n  Skipped:   ${skipped}\n  Duration:  1ms\n`;
  const judged = (output: string, status: number | null) => {
    const { passed, failed, skipped } = judge(output, status);
    return [passed, failed, skipped];
  };
  assert.equal(judged(counts(3, 3, 0), 0), [3, 0, 0]);
  assert.equal(judged(counts(3, 2, 0), 1), [2, 1, 0]);
  assert.equal(judged(counts(3, 3, 0), 123), [3, 1, 0], 'a status of its own fails the file');
  assert.equal(judged(counts(3, 3, 0), null), [3, 1, 0], 'so does a signal');
  assert.equal(judged('', 0), [0, 1, 0], 'so does no test at all');
  assert.equal(judged(`skipped: a: why\n${counts(2, 2, 1)}`, 0), [2, 0, 1], 'skipped by uvu');
  assert.equal(judged(`• skipped: a: why\n${counts(2, 2, 0)}`, 0), [1, 0, 1], 'skipped by returning early');
  assert.equal(judge(`\x1b[33mskipped: a: why\x1b[39m\n${counts(2, 2, 1)}`, 0).reasons, ['skipped: a: why']);
});

test('a report has the kernel in front of each line, and a sum at the end', () => {
  let text = '';
  const report = new Report((piece) => (text += piece));
  const [first, second] = [bootOf('6.12'), bootOf('7.2')];
  report.begin(first);
  report.begin(second);
  report.lines(first, 'one\ntwo');
  report.file(first, { file: 'guest/a', passed: 3, failed: 0, skipped: 1, reasons: [], durationMs: 1_500 });
  report.file(second, { file: 'guest/a', passed: 2, failed: 1, skipped: 0, reasons: [], durationMs: 100 });
  report.withoutRun(second, ['guest/b', 'guest/c'], 'failed', 'the guest had died');
  report.withoutRun(first, ['doorbell/a'], 'skipped', 'no vp_vdpa');
  report.summarize();
  assert.equal(text.split('\n'), [
    '6.12 guest: one',
    '6.12 guest: two',
    '6.12 guest: ok   guest/a (3 passed, 1 skipped) 1.5 s',
    '7.2 guest: FAIL guest/a (2 passed) 0.1 s',
    '7.2 guest: FAIL guest/b: the guest had died',
    '7.2 guest: FAIL guest/c: the guest had died',
    '6.12 guest: skip doorbell/a: no vp_vdpa',
    '6.12 guest: 6.12.1-amd64: 3 passed, 0 failed, 2 skipped (12.3 s, 4.0 s to boot, tcg)',
    '7.2 guest: 7.2.1-amd64: 2 passed, 3 failed, 0 skipped (12.3 s, 4.0 s to boot, tcg)',
    '7.2 guest: FAIL guest/a',
    '7.2 guest: FAIL guest/b',
    '7.2 guest: FAIL guest/c',
    '5 passed, 3 failed, 2 skipped',
    '',
  ]);
  const { passed, failed, skipped, boots } = JSON.parse(JSON.stringify(report));
  assert.equal([passed, failed, skipped], [5, 3, 2]);
  assert.equal(
    boots.map(({ files }: BootReport) => files.length),
    [2, 3],
  );
});

test.run();
