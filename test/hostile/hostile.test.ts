import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Page, ROOT } from '../docs/markdown.js';
import { playedElsewhere } from './elsewhere.js';
import type { Side } from './hostile-case.js';
import { chapters, tables } from './table.js';

for (const { peer, cases } of chapters)
  for (const { name, rule, play, outcomes } of cases)
    for (const [side, outcome] of Object.entries(outcomes))
      test(`${side}: ${peer.replace(' …', '').toLowerCase()} ${name} (${rule})`, async () => {
        assert.is(await play(side as Side), outcome);
      });

for (const { name, file, test: title } of playedElsewhere)
  test(`the driver ${name}: ${file} has a test of it`, () => {
    const times = readFileSync(join(ROOT, file), 'utf8').split(title).length - 1;
    assert.is(times, 1, `how often it says "${title}"`);
  });

test('docs/hostile-rings.md has the tables of the cases', () => {
  assert.ok(
    new Page('docs/hostile-rings.md').text.includes(tables()),
    'node dist/test/hostile/table.js prints them',
  );
});

test.run();
