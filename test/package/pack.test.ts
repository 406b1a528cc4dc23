import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Page, ROOT } from '../docs/markdown.js';

const npm = ['npm', '--loglevel=error', '--no-audit', '--no-fund', '--no-update-notifier'].join(' ');

/** A PATH on which there is node and nothing else: no compiler, no make, no python. */
function barePath(folder: string): string {
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  symlinkSync(process.execPath, join(bin, 'node'));
  return bin;
}

test('the package, installed into an empty folder, runs the README examples with no compiler on the PATH', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-pack-'));
  try {
    // The build is there: only the packing itself is tested.
    execFileSync('sh', ['-c', `${npm} pack --ignore-scripts --pack-destination "${folder}"`], { cwd: ROOT });
    const tarball = readdirSync(folder).find((file) => file.endsWith('.tgz'))!;
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ name: 'empty', private: true }));
    execFileSync('sh', ['-c', `${npm} install --prefer-offline ./${tarball}`], { cwd: folder });
    const PATH = barePath(folder);
    const outputs = new Map<string, string>();
    for (const { file, code } of new Page('README.md').examples) {
      assert.ok(code.trim().split('\n').length <= 18, `${file} is about 15 lines`);
      writeFileSync(join(folder, file), code);
      outputs.set(
        file,
        execFileSync(process.execPath, [file], {
          cwd: folder,
          env: { PATH },
          encoding: 'utf8',
          timeout: 60_000,
        }),
      );
    }
    assert.match(outputs.get('serve.mjs')!, /^4096n$/m);
    assert.match(outputs.get('drive.mjs')!, /^ringring$/m);
    const version = execFileSync(
      process.execPath,
      ['node_modules/ringbell/dist/host/cli/main.js', '--version'],
      { cwd: folder, env: { PATH }, encoding: 'utf8' },
    );
    assert.match(version, /\d+\.\d+\.\d+/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('the package holds what its exports name, and no sources, tests or benchmarks', () => {
  const listing = execFileSync('sh', ['-c', `${npm} pack --dry-run --json --ignore-scripts`], {
    cwd: ROOT,
    encoding: 'utf8',
  });
  const files: string[] = JSON.parse(listing)[0].files.map((file: { path: string }) => file.path);
  for (const needed of [
    'dist/host/index.js',
    'dist/host/index.d.ts',
    'dist/host/cli/main.js',
    'dist/host/testing/index.js',
    'dist/host/testing/index.d.ts',
    'dist/engine.wasm',
    'assembly.ts',
    'assembly/library/chain.ts',
    'assembly/virtio.ts',
    'LICENSE',
    'README.md',
    'CHANGELOG.md',
  ])
    assert.ok(files.includes(needed), needed);
  assert.ok(
    files.some((file) => /^prebuilds\/linux-.*\.node$/.test(file)),
    'a prebuilt addon',
  );
  assert.equal(
    files.filter((file) => /^(dist\/)?(test|bench)\//.test(file) || dirname(file) === 'native/build'),
    [],
  );
});

test('the command is executable in a clone, as npx needs it', () => {
  assert.is(statSync(join(ROOT, 'dist/host/cli/main.js')).mode & 0o111, 0o111);
});

test('everything that needs no addon imports without one', () => {
  const script = `import * as ringbell from 'ringbell';
    const { embedded } = ringbell.probe();
    console.log(typeof ringbell.serve, typeof ringbell.openBlock, embedded);
    try { await ringbell.serve(new ringbell.BlockDevice({ memory: 1048576 }), { name: 'x' }); } catch (error) { console.log(error.code); }`;
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: ROOT,
    env: { ...process.env, RINGBELL_ADDON: '/nonexistent.node' },
    encoding: 'utf8',
  });
  assert.is(output, 'function function false\nERR_ADDON_MISSING\n');
});

test.run();
