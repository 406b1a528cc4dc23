import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RuntimeError } from '../../host/aperture/web-assembly.js';
import { campaign } from './campaign.js';
import { describeReport, describeSum, sumReports } from './report.js';
import type { Target } from './target.js';
import { campaignInWorker } from './worker.js';

/** Seconds; no limit. */
const FOREVER = 3600;

/** A target that fails when three choices in a row ascend above 5. */
const ascending: Target = {
  name: 'ascending',
  about: 'a bug put in on purpose',
  operations: 'choices',
  tested: 1,
  start: async () => ({
    play: (choices) => {
      const numbers = Array.from({ length: choices.below(20) }, () => choices.below(100));
      const at = numbers.findIndex(
        (n, i) => n > 5 && n < numbers[i + 1]! && numbers[i + 1]! < numbers[i + 2]!,
      );
      if (at >= 0) throw new Error('ascending');
      return numbers.length;
    },
    reached: new Map(),
    close: async () => {},
  }),
};

test('a campaign finds a bug, again from the same seed, and makes its case as small as it gets', async () => {
  const options = { seconds: FOREVER, seed: 7, cases: 10_000 };
  const [first, second] = [await campaign(ascending, options), await campaign(ascending, options)];
  assert.equal(first.finding, second.finding);
  assert.is(first.finding?.failure, 'ascending');
  assert.equal(first.finding?.choices, [3, 6, 7, 8]);
});

test('a campaign ends when it is told to', async () => {
  const ends = new AbortController();
  const long = { ...ascending, start: async () => ({ ...(await ascending.start()), play: () => 1 }) };
  setTimeout(() => ends.abort(), 1);
  const { cases } = await campaign(long, { seconds: FOREVER, seed: 1, signal: ends.signal });
  assert.ok(cases > 0);
});

test('a trap is counted, and a finding', async () => {
  const play = () => {
    throw new RuntimeError('unreachable');
  };
  const trapping = { ...ascending, start: async () => ({ ...(await ascending.start()), play }) };
  const { traps, finding } = await campaign(trapping, { seconds: FOREVER, seed: 1 });
  assert.is(traps, 1);
  assert.is(finding?.failure, 'trap: unreachable');
});

test('a campaign in a process of its own is the same campaign, and ends when it is told to', async () => {
  const options = { seconds: FOREVER, seed: 3, cases: 50 };
  const { elapsed, ...apart } = await campaignInWorker('iotlb', options);
  assert.is(apart.cases, 50);
  assert.ok(apart.operations > 50 && apart.reached.size > 3);
  const ends = new AbortController();
  setTimeout(() => ends.abort(), 1);
  const cut = await campaignInWorker('iotlb', { seconds: FOREVER, seed: 3, signal: ends.signal });
  assert.is(cut.finding, undefined);
});

test('a process that dies is a finding', async () => {
  const { finding } = await campaignInWorker('no such target', { seconds: FOREVER, seed: 1 });
  assert.match(finding!.failure, /^the process ended with status 1/);
});

test('a report says cases, operations, rate and traps, of each target and of all', () => {
  const done = { cases: 1000, operations: 20_000, traps: 0, elapsed: 2, reached: new Map() };
  const sound = { target: 'ascending', seed: 7, ...done };
  const finding = { index: 3, failure: 'trap: unreachable', choices: [1] };
  const broken = { ...sound, traps: 1, finding, path: 'a.json' };
  assert.is(
    describeReport(ascending, sound),
    'ascending: 1,000 cases, 20,000 choices in 2.0 s, 10,000 a second, 0 traps, seed 7, no finding',
  );
  assert.match(
    describeReport(ascending, broken),
    /1 trap, .*1 finding\n {2}case 3: trap: unreachable\n {2}kept in a.json$/,
  );
  assert.is(
    describeSum(sumReports([sound, broken], 4)),
    '2 targets: 2,000 cases, 40,000 operations in 4.0 s, 10,000 a second, 1 trap, 1 finding',
  );
});

test.run();
