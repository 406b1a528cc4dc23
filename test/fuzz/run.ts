/**
 * Fuzzes targets: `npm run fuzz -- TARGET… [--seconds N] [--seed S] [--cases N] [--jobs N] [--coverage] [--json]`, or plays a
 * case again: `npm run fuzz -- --repro FILE`. Without a target it lists them; `all` are all of them. Each target is played in a process of
 * its own, N of them at a time, and one after the other without --jobs. A failing case is made small and written to
 * test/fuzz/repros, where npm test plays it from then on. Ctrl-C ends the campaigns that run, and says how far they came.
 * Exit status 1 after a finding.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { replay } from './campaign.js';
import {
  describeProgress,
  describeReport,
  describeSum,
  jsonReport,
  type Report,
  sumReports,
} from './report.js';
import { readRepro, writeRepro } from './repro.js';
import { findTarget, targets } from './targets/index.js';
import { campaignInWorker } from './worker.js';

const repros = fileURLToPath(new URL('../../../test/fuzz/repros', import.meta.url));
const USAGE =
  'npm run fuzz -- TARGET… | all [--seconds N] [--seed S] [--cases N] [--jobs N] [--coverage] [--json]\n' +
  'npm run fuzz -- --repro FILE\n\n';

const { values, positionals } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    cases: { type: 'string' },
    seed: { type: 'string' },
    jobs: { type: 'string', default: '1' },
    repro: { type: 'string' },
    coverage: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
  allowPositionals: true,
});

const interruption = new AbortController();
process.on('SIGINT', () => interruption.abort());

/** Plays one target and reports it. */
async function fuzz(name: string): Promise<Report> {
  const target = findTarget(name);
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed);
  const result = await campaignInWorker(name, {
    seconds: Number(values.seconds),
    seed,
    ...(values.cases === undefined ? {} : { cases: Number(values.cases) }),
    coverage: values.coverage,
    signal: interruption.signal,
    onProgress: (so) => process.stderr.write(`${describeProgress(target, so)}\n`),
  });
  const { finding } = result;
  // Of a process that was ended there is no case to play again.
  const path = finding?.choices.length ? join(repros, `${name}-${seed}-${finding.index}.json`) : undefined;
  if (finding && path) writeRepro(path, { target: name, failure: finding.failure, choices: finding.choices });
  const report = { target: name, seed, ...result, ...(path ? { path } : {}) };
  process.stdout.write(
    values.json ? `${JSON.stringify(jsonReport(target, report))}\n` : `${describeReport(target, report)}\n`,
  );
  return report;
}

/** Plays targets, so many at a time: whether none has a finding. */
async function fuzzAll(names: readonly string[]): Promise<boolean> {
  const begun = performance.now();
  const left = [...names];
  const reports: Report[] = [];
  const lane = async () => {
    for (let name = left.shift(); name !== undefined && !interruption.signal.aborted; name = left.shift())
      reports.push(await fuzz(name));
  };
  await Promise.all(Array.from({ length: Number(values.jobs) }, lane));
  if (names.length > 1) {
    const sum = sumReports(reports, (performance.now() - begun) / 1000);
    process.stdout.write(values.json ? `${JSON.stringify({ sum })}\n` : `${describeSum(sum)}\n`);
  }
  return reports.every(({ finding }) => finding === undefined);
}

/** Plays a case from its file: whether nothing is wrong. */
async function playAgain(path: string): Promise<boolean> {
  const repro = readRepro(path);
  const stage = await findTarget(repro.target).start();
  const failure = await replay(stage, repro.choices);
  await stage.close();
  process.stdout.write(failure ? `${repro.target}: ${failure}\n` : `${repro.target}: nothing is wrong\n`);
  return failure === undefined;
}

let sound = true;
if (values.repro !== undefined) sound = await playAgain(values.repro);
else if (positionals.length === 0) {
  process.stdout.write(USAGE);
  for (const { name, about } of targets) process.stdout.write(`  ${name.padEnd(18)} ${about}\n`);
} else sound = await fuzzAll(positionals.includes('all') ? targets.map(({ name }) => name) : positionals);
process.exit(sound ? 0 : 1);
