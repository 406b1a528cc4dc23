import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { campaign, replay } from './campaign.js';
import { readRepro } from './repro.js';
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

test.run();
