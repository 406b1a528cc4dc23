import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Page } from '../docs/markdown.js';
import { mutants } from './mutants.js';
import { table } from './table.js';

const assembly = fileURLToPath(new URL('../../../assembly/', import.meta.url));

// Whether each is caught takes minutes, and is for npm run mutants to say.
for (const { name, file, from, to } of mutants)
  test(`there is a place for the bug "${name}"`, () => {
    const source = readFileSync(assembly + file, 'utf8');
    assert.is(source.split(from).length, 2, `how often ${file} has its text, and 1`);
    assert.not(from === to);
  });

test('docs/hostile-rings.md has the table of seeded bugs', () => {
  assert.ok(
    new Page('docs/hostile-rings.md').text.includes(table()),
    'node dist/test/mutants/table.js prints it',
  );
});

test.run();
