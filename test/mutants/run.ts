/**
 * Puts each seeded bug into a copy of the engine and lets what should find it look for it: `npm run mutants [-- PART OF A
 * NAME]`. Prints what was caught by what. Exit status 1 if a bug was not.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findTarget, targets } from '../fuzz/targets/index.js';
import { type Mutant, mutants } from './mutants.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
/** What a copy needs of its own, because the engine is compiled from it, or lies in it. */
const COPIED = ['assembly', 'dist', 'test'];
const LINKED = ['asconfig.json', 'docs', 'host', 'node_modules', 'package.json', 'prebuilds'];
/** How many times the cases of a test run are enough to find what the target is said to find. */
const CASES_FACTOR = 20;

function copyOfRepository(): string {
  const copy = mkdtempSync(join(tmpdir(), 'ringbell-mutants-'));
  for (const name of COPIED) cpSync(join(root, name), join(copy, name), { recursive: true });
  for (const name of LINKED) symlinkSync(join(root, name), join(copy, name));
  return copy;
}

/** Command that exits with a status other than 0 once it has found the bug. */
function detector(caughtBy: string): string[] {
  if (caughtBy === 'interleavings') return ['dist/test/interleaving/run.js'];
  if (targets.some(({ name }) => name === caughtBy)) {
    const cases = String(findTarget(caughtBy).tested * CASES_FACTOR);
    return ['dist/test/fuzz/run.js', caughtBy, '--seed', '1', '--cases', cases, '--seconds', '120'];
  }
  return ['dist/test/run.js', caughtBy.replace('npm test -- ', '')];
}

/** Lets what should find a bug look for it, in the copy at `copy`, which is as before afterwards. */
function judge(copy: string, { name, file, from, to, caughtBy }: Mutant): 'caught' | 'MISSED' | 'BROKEN' {
  const path = join(copy, 'assembly', file);
  const sound = readFileSync(path, 'utf8');
  if (sound.split(from).length !== 2) throw new Error(`${name}: ${file} does not have its text once`);
  writeFileSync(
    path,
    sound.replace(from, () => to),
  );
  try {
    const compiler = join('node_modules', 'assemblyscript', 'bin', 'asc.js');
    const compiled = spawnSync(process.execPath, [compiler, 'assembly/index.ts', '--target', 'release'], {
      cwd: copy,
    });
    // Whoever changes the engine sees that a bug has to be put in anew.
    if (compiled.status !== 0) return 'BROKEN';
    return spawnSync(process.execPath, detector(caughtBy), { cwd: copy }).status === 1 ? 'caught' : 'MISSED';
  } finally {
    writeFileSync(path, sound);
  }
}

const chosen = mutants.filter(({ name }) => process.argv.slice(2).every((part) => name.includes(part)));
const copy = copyOfRepository();
let caught = 0;
try {
  for (const mutant of chosen) {
    const verdict = judge(copy, mutant);
    if (verdict === 'caught') caught++;
    process.stdout.write(`${verdict}  ${mutant.caughtBy.padEnd(16)} ${mutant.name}\n`);
  }
} finally {
  rmSync(copy, { recursive: true });
}
process.stdout.write(`${caught} of ${chosen.length} seeded bugs caught\n`);
process.exitCode = caught === chosen.length ? 0 : 1;
