import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Page, ROOT } from '../../docs/markdown.js';

test('the model of the documentation compiles with the options that it gives, and its program prints what it says', () => {
  const { text } = new Page('docs/device-models.md');
  const sources = [...text.matchAll(/<!-- source: (\S+) -->\n```\w+\n([\s\S]*?)```/g)];
  assert.equal(
    sources.map(([, file]) => file),
    ['squares.ts', 'squares.mjs', 'asconfig.json'],
  );
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-model-'));
  try {
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(ROOT, join(folder, 'node_modules/ringbell'));
    for (const [, file, contents] of sources) writeFileSync(join(folder, file!), contents!);
    const run = (...command: string[]) =>
      execFileSync(process.execPath, command, { cwd: folder, encoding: 'utf8', timeout: 120_000 });
    run(join(ROOT, 'node_modules/assemblyscript/bin/asc.js'), 'squares.ts', '-o', 'squares.wasm');
    const printed = [...sources[1]![2]!.matchAll(/\/\/ → (.*)$/gm)].map(([, line]) => line);
    assert.equal(run('squares.mjs').trimEnd().split('\n'), printed);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
