import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Page } from '../docs/markdown.js';
import type { Side } from './hostile-case.js';
import { chapters, tables } from './table.js';

for (const { peer, cases } of chapters)
  for (const { name, rule, play, outcomes } of cases)
    for (const [side, outcome] of Object.entries(outcomes))
      test(`${side}: ${peer.replace(' …', '').toLowerCase()} ${name} (${rule})`, async () => {
        assert.is(await play(side as Side), outcome);
      });

test('docs/hostile-rings.md has the tables of the cases', () => {
  assert.ok(
    new Page('docs/hostile-rings.md').text.includes(tables()),
    'node dist/test/hostile/table.js prints them',
  );
});

test.run();
