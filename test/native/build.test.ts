import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { buildAddon, layoutHeader } from '../../host/native/build.js';
import { PACKAGE_ROOT } from '../../host/native/locate.js';

test('the C++ header has every constant of the I/O table, with the value of the layout', () => {
  const constants = [...layoutHeader().matchAll(/constexpr uint32_t (\w+) = (\d+);/g)];
  for (const [, name, value] of constants)
    assert.is(layout[name as keyof typeof layout], Number(value), name);
  const names = constants.map(([, name]) => name);
  for (const name of Object.keys(layout))
    if (name.startsWith('IO_') || name.startsWith('SEGMENT_')) assert.ok(names.includes(name), name);
  assert.ok(names.includes('PAGE_SIZE'));
});

test('a build that is up to date does nothing', () => {
  if (!existsSync(join(PACKAGE_ROOT, 'native/build/Release/ringbell.node')))
    return console.log('skipped: the addon was not built here');
  const path = buildAddon();
  const { mtimeMs } = statSync(path);
  assert.is(buildAddon(), path);
  assert.is(statSync(path).mtimeMs, mtimeMs);
});

test('the addon that is loaded was built with the layout of now', () => {
  const header = join(PACKAGE_ROOT, 'native/build/layout.h');
  if (!existsSync(header)) return console.log('skipped: the addon was not built here');
  assert.is(readFileSync(header, 'utf8'), layoutHeader());
});

test.run();
