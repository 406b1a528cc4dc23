import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { REGION_BYTES, RINGS, scenario } from './stage.js';

const END = RINGS + BigInt(REGION_BYTES);
const SOUND = { last_avail_idx: 15, last_avail_counter: 1, last_used_idx: 15, last_used_counter: 1 };

for (const [what, change] of [
  ['of size 0', { num: 0 }],
  ['that is too large', { num: 65 }],
  ['with a misaligned descriptor ring', { desc_addr: RINGS + 8n }],
  ['with a misaligned driver area', { driver_addr: RINGS + 0x202n }],
  ['with a misaligned device area', { device_addr: RINGS + 0x402n }],
  ['whose descriptor ring crosses the end of its region', { desc_addr: END - 16n }],
  ['whose device area lies behind its region', { device_addr: END }],
  ['that wraps 2^64', { desc_addr: 2n ** 64n - 16n }],
] as const)
  scenario(
    `a packed queue ${what} is refused at DRIVER_OK, and a sound one is taken after a reset`,
    async (stage) => {
      const [sound] = stage.info;
      stage.info = [{ ...sound!, ...change }];
      assert.not(await stage.start());
      assert.ok(stage.events.includes('ERR_CONTROL_PLANE'));
      assert.not(stage.isOpen());
      stage.info = [sound!];
      assert.ok(await stage.start());
      assert.ok(stage.isOpen());
    },
    { packed: true },
  );

scenario(
  'a packed queue may have any size, and event suppression structures at the last places that there are',
  async (stage) => {
    stage.info = [
      { ...stage.info[0]!, num: 23, driver_addr: END - 8n, device_addr: END - 4n, packed: SOUND },
    ];
    assert.ok(await stage.start());
    assert.ok(stage.isOpen());
  },
  { packed: true },
);

test.run();
