import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { cases } from './cases.js';
import { explore } from './explore.js';
import { instrument } from './stepped-engine.js';

const engine = await instrument();

for (const { name, ...options } of cases)
  test(`no interleaving loses a wake-up, or completes a request twice (${name})`, () => {
    const { states, ends, fault } = explore(engine, options);
    assert.is(fault, undefined);
    assert.ok(states > 3000, `${states} states`);
    assert.ok(ends > 100, `${ends} ends`);
  });

const LOST = 'both sides sleep, and there is work left';
// Each takes away one thing that the engine's comments call necessary; npm run mutants has more.
for (const [what, path, from, to, packed, eventIdx, expected] of [
  [
    'a split driver publishes without a barrier',
    'assembly/split/driver.ts',
    'atomic.store<u16>(<usize>load<u32>(dq, DQ_DRIVER), <u16>avail, VIRTQ_AVAIL_IDX)',
    'store<u16>(<usize>load<u32>(dq, DQ_DRIVER), <u16>avail, VIRTQ_AVAIL_IDX)',
    false,
    true,
    LOST,
  ],
  [
    'a device does not look again',
    'assembly/device.ts',
    'else split.arm(vq);\n  return devicePending(vq);',
    'else split.arm(vq);\n  return 0;',
    false,
    false,
    LOST,
  ],
  [
    'a wrap counter is not flipped',
    'assembly/packed/position.ts',
    '(index - size) | (wrap ^ WRAP_COUNTER)',
    '(index - size) | wrap',
    true,
    false,
    undefined,
  ],
] as const)
  test(`a race put in on purpose is found: ${what}`, async () => {
    const edit = (file: string, source: string) => (file === path ? source.replace(from, to) : source);
    const { fault } = explore(await instrument(edit), { packed, eventIdx, size: 2, requests: 3 });
    assert.ok(fault);
    if (expected) assert.is(fault, expected);
  });

test.run();
