import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type ExploreOptions, explore } from './explore.js';
import { instrument } from './stepped-engine.js';

const engine = await instrument();

for (const eventIdx of [false, true])
  for (const [size, requests] of [
    [2, 4],
    [4, 3],
  ] as const) {
    const options: ExploreOptions = { size, eventIdx, requests };
    const kind = `${eventIdx ? 'event index' : 'flags'}, ${size} entries, ${requests} requests`;
    test(`no interleaving loses a wake-up, or completes a request twice (${kind})`, () => {
      const { states, ends, fault } = explore(engine, options);
      assert.is(fault, undefined);
      assert.ok(states > 3000, `${states} states`);
      assert.ok(ends > 100, `${ends} ends`);
    });
  }

// Each leaves out one thing that the engine's comments call necessary.
for (const [what, path, from, to] of [
  [
    'the driver publishes without a barrier',
    'assembly/split/driver.ts',
    'atomic.store<u16>(<usize>load<u32>(dq, DQ_DRIVER), <u16>avail, VIRTQ_AVAIL_IDX)',
    'store<u16>(<usize>load<u32>(dq, DQ_DRIVER), <u16>avail, VIRTQ_AVAIL_IDX)',
  ],
  [
    'the device arms without a barrier',
    'assembly/split/device.ts',
    'atomic.store<u16>(device, 0, VIRTQ_USED_FLAGS)',
    'store<u16>(device, 0, VIRTQ_USED_FLAGS)',
  ],
] as const)
  test(`a race put in on purpose is found: ${what}`, async () => {
    const edit = (file: string, source: string) => (file === path ? source.replace(from, to) : source);
    const broken = await instrument(edit);
    const { fault } = explore(broken, { size: 2, eventIdx: false, requests: 2 });
    assert.is(fault, 'both sides sleep, and there is work left');
  });

test.run();
