import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { Module } from '../../host/aperture/web-assembly.js';
import { campaign } from './campaign.js';
import { CALLS } from './targets/exports.js';
import { findTarget } from './targets/index.js';

/** Seconds; no limit. */
const FOREVER = 3600;
/** Times that an outcome must have been seen. */
const ENOUGH = 10;

/** Outcomes that a campaign of so many cases has reached fewer than ENOUGH times. */
async function unreached(name: string, outcomes: string[], cases = 10_000): Promise<string[]> {
  const { reached } = await campaign(findTarget(name), { seconds: FOREVER, seed: 2, cases });
  return outcomes.filter((outcome) => (reached.get(outcome) ?? 0) < ENOUGH);
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

test('devices are killed in the middle, go on with what was in flight, and meet logs of somebody else', async () => {
  const outcomes = ['killed', 'replayed', 'a log that contradicts', 'a log that is believed'];
  assert.equal(await unreached('in-flight', outcomes, 700), []);
});

test('the calls of iotlb reach every result', async () => {
  const outcomes = ['mapped', 'exists', 'full', 'invalid', '1 removed', '2 removed', 'translated'];
  assert.equal(await unreached('iotlb', outcomes), []);
});

test('devices are killed in the middle, go on with what was in flight, and meet logs of somebody else', async () => {
  const outcomes = ['killed', 'replayed', 'a log that contradicts', 'a log that is believed'];
  assert.equal(await unreached('in-flight', outcomes, 2000), []);
});

test('hostile devices tell every lie, and the requests of blk-requests get every answer', async () => {
  const statuses = ['status 0', 'status 1', 'status 2'];
  const lies = [layout.VERDICT_USED_ID, layout.VERDICT_USED_LENGTH].map((verdict) => `verdict ${verdict}`);
  const index = `verdict ${layout.VERDICT_USED_INDEX}`;
  assert.equal(await unreached('split-driver', [...statuses, 'no status', ...lies, index]), []);
  assert.equal(await unreached('packed-driver', [...statuses, 'no status', ...lies]), []);
  assert.equal(await unreached('blk-requests', [...statuses, `verdict ${layout.VERDICT_REQUEST}`]), []);
});

test('the network driver is told every lie, and told of frames that are none', async () => {
  const lies = [layout.VERDICT_USED_ID, layout.VERDICT_USED_LENGTH, layout.VERDICT_USED_INDEX];
  const outcomes = ['a frame', 'no frame', ...lies.map((verdict) => `verdict ${verdict}`)];
  assert.equal(await unreached('net-driver', outcomes, 3000), []);
});

test('every export of the engine is called over memory that anyone may write, and has something to give there', async () => {
  const engine = new Module(readFileSync(new URL('../../engine.wasm', import.meta.url)));
  const names = Module.exports(engine).map(({ name }) => name);
  assert.equal(
    [...CALLS].sort(),
    [...names].sort(),
    'the calls of the target and the exports of engine.wasm',
  );
  const outcomes = CALLS.flatMap((name) => [`${name} called`, `${name} gave`]);
  assert.equal(await unreached('exports', outcomes, 60), []);
});

test.run();
