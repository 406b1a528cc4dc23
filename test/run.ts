/**
 * Runs test files, each in a process of its own: `node dist/test/run.js [--bail] [pattern]`. A pattern is a part of the
 * file's path. Ends with one line `N passed, N failed, N skipped` and exit status 1 if anything failed.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, stripVTControlCharacters } from 'node:util';

/** Milliseconds; a file that takes longer is killed and counts as failed. */
const FILE_TIMEOUT_MS = 180_000;
const root = fileURLToPath(new URL('.', import.meta.url));

const { values, positionals } = parseArgs({ options: { bail: { type: 'boolean' } }, allowPositionals: true });
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.js') && positionals.every((pattern) => file.includes(pattern)))
  .sort();

interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
}

/** Runs one file and reads uvu's own counts from its output. */
function runFile(file: string): Promise<Outcome> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ['--expose-gc', root + file], {
      env: { ...process.env, FORCE_COLOR: '0' },
    });
    let output = '';
    const timer = setTimeout(() => {
      output += `\nkilled after ${FILE_TIMEOUT_MS / 1000} s\n`;
      child.kill('SIGKILL');
    }, FILE_TIMEOUT_MS);
    child.stdout.on('data', (chunk) => (output += chunk));
    child.stderr.on('data', (chunk) => (output += chunk));
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const text = stripVTControlCharacters(output);
      const count = (label: string) =>
        [...text.matchAll(new RegExp(`^\\s*${label}:\\s+(\\d+)`, 'gm'))].reduce(
          (sum, m) => sum + Number(m[1]),
          0,
        );
      // A test that cannot run here says why in a line of its own (behind uvu's dots), whether uvu skips it or it returns
      // early: skipped, not passed.
      const reasons = [...text.matchAll(/skipped: .*$/gm)].map((match) => match[0]);
      const total = count('Total');
      const unharmed = count('Passed');
      const skipped = Math.max(count('Skipped'), reasons.length);
      const passed = unharmed - (skipped - count('Skipped'));
      // A file that dies, or that tests nothing, is a failure whatever it printed.
      const died = code !== 0 && total === unharmed;
      const failed = total - unharmed + (died || total + skipped === 0 ? 1 : 0);
      const counts = `${passed} passed${skipped ? `, ${skipped} skipped` : ''}`;
      const lines = [
        `${failed ? 'FAIL' : 'ok  '} ${relative(process.cwd(), root + file)} (${counts})`,
        ...reasons,
      ];
      process.stdout.write(`${lines.join('\n    ')}\n`);
      if (failed) process.stdout.write(`${text}\n${signal ? `ended by ${signal}` : `exit status ${code}`}\n`);
      resolve({ passed, failed, skipped });
    });
  });
}

const sum: Outcome = { passed: 0, failed: 0, skipped: 0 };
const queue = [...files];
async function work(): Promise<void> {
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const outcome = await runFile(file);
    sum.passed += outcome.passed;
    sum.failed += outcome.failed;
    sum.skipped += outcome.skipped;
    if (values.bail && sum.failed) queue.length = 0;
  }
}
await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, work));
if (!files.length) process.stdout.write(`no test file matches ${positionals.join(' ')}\n`);
process.stdout.write(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped\n`);
process.exit(sum.failed || !files.length ? 1 : 0);
