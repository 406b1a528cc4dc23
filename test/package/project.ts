import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { ROOT } from '../docs/markdown.js';

const npm = ['npm', '--loglevel=error', '--no-audit', '--no-fund', '--no-update-notifier'].join(' ');
/** Milliseconds of one step. */
const STEP_MS = 120_000;

/** Has `ringbell new-model` write a project, installs the package as it is published there, and builds, tests and measures. */
export function tryNewModel(language: string): void {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-project-'));
  try {
    const sh = (command: string, cwd: string) =>
      execFileSync('sh', ['-c', command], { cwd, encoding: 'utf8', timeout: STEP_MS });
    sh(`${npm} pack --ignore-scripts --pack-destination "${folder}"`, ROOT);
    const tarball = readdirSync(folder).find((file) => file.endsWith('.tgz'))!;
    const write = (main: string, name: string) =>
      sh(`node "${main}" new-model counter --directory ${name} --language ${language}`, folder);
    write(join(ROOT, 'dist/host/cli/main.js'), 'counter');
    const project = join(folder, 'counter');
    sh(`${npm} install --prefer-offline --save ../${tarball}`, project);
    // The published package has all of the template, too.
    write(join(project, 'node_modules/ringbell/dist/host/cli/main.js'), 'again');
    assert.equal(
      readdirSync(join(folder, 'again'), { recursive: true }).sort(),
      readdirSync(project, { recursive: true })
        .filter((name) => !/^(node_modules|package-lock\.json)/.test(name as string))
        .sort(),
    );
    sh(`${npm} run build`, project);
    const { scripts } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'));
    // Which reporter is used otherwise depends on the version of Node.js.
    assert.match(sh(scripts.test.replace('--test', '--test --test-reporter=tap'), project), /^# fail 0$/m);
    assert.match(sh(`${npm} run bench`, project), /^ratio: \d+\.\d\d$/m);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
