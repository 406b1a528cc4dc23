import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Page } from '../docs/markdown.js';
import { rules } from './rules/index.js';

test('docs/conformance.md lists exactly the differences that the rules declare', () => {
  const rows = new Page('docs/conformance.md').prose
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(2)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  const declared = rules.flatMap(({ name, differs = [] }) => differs.map(({ at, why }) => [name, at, why]));
  assert.equal(rows, declared);
});

test('no two rules have one name', () => {
  assert.is(new Set(rules.map(({ name }) => name)).size, rules.length);
});

test.run();
