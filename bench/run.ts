/**
 * Measures the engine against its rivals: `npm run bench [-- --json] [--quick] [PATTERN…]`. A pattern is a part of a
 * benchmark's name. Each benchmark runs in a process of its own; samples are kept in bench/results. Exit status 1 if a
 * benchmark failed or could not be built, 2 for a bad command line.
 */
import { fork } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildAll } from './build.js';
import type { Case } from './case.js';
import { cases } from './cases.js';
import type { Effort, Result } from './compare.js';
import { describeMachine } from './machine.js';
import { formatReport } from './table.js';

const USUAL: Effort = { seconds: 1.5, warmUpSeconds: 0.3 };
const QUICK: Effort = { seconds: 0.5, warmUpSeconds: 0.2 };
/** Milliseconds; a benchmark that takes longer is killed. */
const CASE_TIMEOUT_MS = 120_000;

const resultsFolder = fileURLToPath(new URL('../../bench/results', import.meta.url));
const childFile = fileURLToPath(new URL('child.js', import.meta.url));

/** One line of progress, rewritten in place, for somebody who watches. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** Runs one benchmark in a process of its own. Rejects if it fails, or takes too long. */
function runCase({ name }: Case, effort: Effort): Promise<Result[]> {
  return new Promise((resolve, reject) => {
    const child = fork(childFile, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'], timeout: CASE_TIMEOUT_MS });
    let results: Result[] | undefined;
    let complaint = '';
    child.stderr?.on('data', (chunk) => (complaint += chunk));
    child.on('message', (message) => (results = message as Result[]));
    child.on('close', (code, signal) => {
      if (results) resolve(results);
      else reject(new Error(`${name}: ended with ${signal ?? `status ${code}`}\n${complaint}`));
    });
    child.send({ name, effort });
  });
}

function parseCommandLine(): { json: boolean; effort: Effort; selected: Case[] } {
  const { values, positionals } = parseArgs({
    options: { json: { type: 'boolean', default: false }, quick: { type: 'boolean', default: false } },
    allowPositionals: true,
  });
  const selected = cases.filter(
    ({ name, quick }) =>
      (quick || !values.quick) &&
      (!positionals.length || positionals.some((pattern) => name.includes(pattern))),
  );
  if (!selected.length) throw new Error(`no benchmark's name contains ${positionals.join(' or ')}`);
  return { json: values.json, effort: values.quick ? QUICK : USUAL, selected };
}

async function main(): Promise<void> {
  let commandLine: ReturnType<typeof parseCommandLine>;
  try {
    commandLine = parseCommandLine();
  } catch (error) {
    process.stderr.write(`bench: ${(error as Error).message}\n`);
    process.exitCode = 2;
    return;
  }
  const { json, effort, selected } = commandLine;
  progress('building the references');
  try {
    buildAll();
  } catch (error) {
    progress('');
    process.stderr.write(`bench: ${(error as Error).message}\n`);
    process.exitCode = 1;
    return;
  }
  const machine = describeMachine();
  const results: Result[] = [];
  for (const [i, benchmark] of selected.entries()) {
    progress(`${i + 1}/${selected.length} ${benchmark.name}`);
    try {
      results.push(...(await runCase(benchmark, effort)));
    } catch (error) {
      progress('');
      process.stderr.write(`bench: ${(error as Error).message}\n`);
      process.exitCode = 1;
    }
  }
  progress('');
  mkdirSync(resultsFolder, { recursive: true });
  const file = join(resultsFolder, `${machine.date.replaceAll(':', '-')}.json`);
  writeFileSync(file, `${JSON.stringify({ machine, effort, results })}\n`);
  const summary = results.map(({ samples, ...result }) => result);
  process.stdout.write(
    json
      ? `${JSON.stringify({ machine, results: summary }, undefined, 2)}\n`
      : formatReport(machine, results),
  );
}

await main();
