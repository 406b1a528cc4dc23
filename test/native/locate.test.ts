import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadAddon } from '../../host/native/addon.js';
import { BUILT_ADDON, locateAddon, platformName, prebuiltAddon } from '../../host/native/locate.js';
import { thrown } from './fixture.js';

/** Runs `body` with RINGBELL_ADDON set, or with parts of `process` replaced. */
function pretend(
  { RINGBELL_ADDON, ...parts }: { RINGBELL_ADDON?: string; platform?: string; arch?: string },
  body: () => void,
): void {
  const before = process.env.RINGBELL_ADDON;
  const properties = Object.keys(parts).map(
    (name) => [name, Object.getOwnPropertyDescriptor(process, name)!] as const,
  );
  delete process.env.RINGBELL_ADDON;
  if (RINGBELL_ADDON !== undefined) process.env.RINGBELL_ADDON = RINGBELL_ADDON;
  for (const [name, value] of Object.entries(parts))
    Object.defineProperty(process, name, { value, configurable: true });
  try {
    body();
  } finally {
    for (const [name, property] of properties) Object.defineProperty(process, name, property);
    delete process.env.RINGBELL_ADDON;
    if (before !== undefined) process.env.RINGBELL_ADDON = before;
  }
}

/** The message of the ERR_ADDON_MISSING that locateAddon throws. */
function missing(): string {
  assert.is(thrown(locateAddon).code, 'ERR_ADDON_MISSING');
  try {
    locateAddon();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
}

test('the addon that is found is the one for this machine', () => {
  pretend({}, () => {
    const path = locateAddon();
    assert.ok(path === prebuiltAddon() || path === BUILT_ADDON);
    assert.ok(existsSync(path));
  });
  assert.match(prebuiltAddon(), `/prebuilds/${platformName()}/ringbell.node`);
});

test('RINGBELL_ADDON goes before everything, and must exist', () => {
  pretend({ RINGBELL_ADDON: '/etc/hostname' }, () => assert.is(locateAddon(), '/etc/hostname'));
  pretend({ RINGBELL_ADDON: '/nowhere/ringbell.node' }, () =>
    assert.match(missing(), '/nowhere/ringbell.node'),
  );
  pretend({ RINGBELL_ADDON: '' }, () => assert.ok(existsSync(locateAddon())));
});

test('on a processor that nothing was built for, the message names what was looked for and what to do', () => {
  pretend({ arch: 'arm64' }, () => {
    // A build in this clone is found whatever the processor is called.
    if (existsSync(BUILT_ADDON)) return assert.is(locateAddon(), BUILT_ADDON);
    assert.match(missing(), /prebuilds\/linux-arm64.*native\/build\/Release.*npm run build:native/);
  });
});

test('on another system, the message says that it must be Linux', () => {
  pretend({ platform: 'darwin' }, () => assert.match(missing(), /Linux only.*darwin/));
});

test('a file that does not load here is ERR_ADDON_MISSING too, with the reason', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-test-'));
  const path = join(folder, 'ringbell.node');
  writeFileSync(path, 'built for another machine');
  const url = new URL('../../host/native/addon.js', import.meta.url).href;
  const source = `import { loadAddon } from ${JSON.stringify(url)};
    try { loadAddon(); } catch ({ code, message, cause }) { console.log(code, message, cause.code); }`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
    env: { ...process.env, RINGBELL_ADDON: path },
    encoding: 'utf8',
  });
  rmSync(folder, { recursive: true });
  assert.match(stdout, `ERR_ADDON_MISSING ${path} does not load here`);
  assert.match(stdout, 'ERR_DLOPEN_FAILED');
});

test('the addon is loaded once', () => {
  assert.is(loadAddon(), loadAddon());
});

test.run();
