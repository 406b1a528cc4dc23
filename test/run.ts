/**
 * Runs test files, each in a process of its own: `node dist/test/run.js [--bail] [pattern]`. A pattern is a part of the
 * file's path. Ends with one line `N passed, N failed, N skipped` and exit status 1 if anything failed. The files in vm/
 * need a kernel of their own: vm/run.ts.
 */
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { describeOutcome, describeVerdict, type Outcome, sumOutcomes } from './outcome.js';
import { runTestFile } from './test-file.js';

const root = fileURLToPath(new URL('.', import.meta.url));

const { values, positionals } = parseArgs({ options: { bail: { type: 'boolean' } }, allowPositionals: true });
const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.test.js') && !file.startsWith('vm/'))
  .filter((file) => positionals.every((pattern) => file.includes(pattern)))
  .sort();

const outcomes: Outcome[] = [];
const queue = [...files];
async function work(): Promise<void> {
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const verdict = await runTestFile(root + file);
    outcomes.push(verdict);
    const lines = [describeVerdict(relative(process.cwd(), root + file), verdict), ...verdict.reasons];
    process.stdout.write(`${lines.join('\n    ')}\n`);
    if (verdict.failed) process.stdout.write(verdict.text);
    if (values.bail && verdict.failed) queue.length = 0;
  }
}
await Promise.all(Array.from({ length: Math.min(2, availableParallelism()) }, work));
if (!files.length) process.stdout.write(`no test file matches ${positionals.join(' ')}\n`);
const sum = sumOutcomes(outcomes);
process.stdout.write(`${describeOutcome(sum)}\n`);
process.exit(sum.failed || !files.length ? 1 : 0);
