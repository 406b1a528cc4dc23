import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { campaign, replay } from './campaign.js';
import { readRepro } from './repro.js';
import type { Target } from './target.js';
import { findTarget, targets } from './targets/index.js';

const repros = fileURLToPath(new URL('../../../test/fuzz/repros', import.meta.url));
/** Seconds; no limit. */
const FOREVER = 3600;

for (const target of targets)
  test(`${target.name}: ${target.tested} cases find nothing (${target.about})`, async () => {
    const options = { seconds: FOREVER, seed: 1, cases: target.tested };
    const { finding, cases } = await campaign(target, options);
    assert.is(finding, undefined);
    assert.is(cases, target.tested);
  });

for (const file of readdirSync(repros).filter((name) => name.endsWith('.json')))
  test(`what was found once stays mended: ${file}`, async () => {
    const { target, choices } = readRepro(join(repros, file));
    const stage = await findTarget(target).start();
    assert.is(await replay(stage, choices), undefined);
    await stage.close();
  });

/** Outcomes that a campaign has reached fewer than `times` times. */
async function unreached(name: string, outcomes: string[], cases = 20_000, times = 20): Promise<string[]> {
  const { reached } = await campaign(findTarget(name), { seconds: FOREVER, seed: 2, cases });
  return outcomes.filter((outcome) => (reached.get(outcome) ?? 0) < times);
}

test('the rings of hostile drivers reach every rule of a chain, and the fast path', async () => {
  // VERDICT_UNMAPPED is the host's: what no region covers is a miss here.
  const verdicts = Array.from({ length: layout.VERDICT_HEAD_IN_FLIGHT }, (_, i) => i + 1).filter(
    (verdict) => verdict !== layout.VERDICT_UNMAPPED,
  );
  // A packed ring has neither heads nor next fields.
  const split = [layout.VERDICT_HEAD, layout.VERDICT_NEXT, layout.VERDICT_HEAD_IN_FLIGHT];
  const packed = verdicts.filter((verdict) => !split.some((other) => other === verdict));
  const names = (numbers: number[]) => numbers.map((verdict) => `verdict ${verdict}`);
  const chains = ['1 segment', '2 segments', '3 segments', '4 segments', 'more segments', 'miss'];
  assert.equal(await unreached('split-device', [...names(verdicts), ...chains]), []);
  assert.equal(await unreached('packed-device', [...names(packed), ...chains]), []);
});

test('the calls of iotlb reach every result', async () => {
  const outcomes = ['mapped', 'exists', 'full', 'invalid', '1 removed', '2 removed', 'translated'];
  assert.equal(await unreached('iotlb', outcomes), []);
});

test('devices are killed in the middle, go on with what was in flight, and meet logs of somebody else', async () => {
  const outcomes = ['killed', 'replayed', 'a log that contradicts', 'a log that is believed'];
  assert.equal(await unreached('in-flight', outcomes, 500, 5), []);
});

test('hostile devices tell every lie, and the requests of blk-requests get every answer', async () => {
  const statuses = ['status 0', 'status 1', 'status 2'];
  const lies = [layout.VERDICT_USED_ID, layout.VERDICT_USED_LENGTH].map((verdict) => `verdict ${verdict}`);
  const index = `verdict ${layout.VERDICT_USED_INDEX}`;
  assert.equal(await unreached('split-driver', [...statuses, 'no status', ...lies, index]), []);
  assert.equal(await unreached('packed-driver', [...statuses, 'no status', ...lies]), []);
  assert.equal(await unreached('blk-requests', [...statuses, `verdict ${layout.VERDICT_REQUEST}`]), []);
});

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

test.run();
