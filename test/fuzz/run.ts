/**
 * Fuzzes one target: `npm run fuzz -- TARGET [--seconds N] [--seed S] [--cases N] [--json]`, or plays a case again:
 * `npm run fuzz -- --repro FILE`. Without a target it lists them; `all` takes them one after the other. A failing case is made
 * small and written to test/fuzz/repros, where npm test plays it from then on. Exit status 1 after a finding.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { campaign, replay, type Tally } from './campaign.js';
import { readRepro, writeRepro } from './repro.js';
import type { Target } from './target.js';
import { findTarget, targets } from './targets/index.js';

const repros = fileURLToPath(new URL('../../../test/fuzz/repros', import.meta.url));

const { values, positionals } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    cases: { type: 'string' },
    seed: { type: 'string' },
    repro: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
  allowPositionals: true,
});

const interruption = new AbortController();
process.once('SIGINT', () => interruption.abort());

const rate = ({ operations, elapsed }: Tally, unit: string) =>
  `${operations.toLocaleString('en')} ${unit} in ${elapsed.toFixed(1)} s, ${Math.round(operations / Math.max(elapsed, 1e-3)).toLocaleString('en')} a second`;

/** Plays one target: whether it found nothing. */
async function fuzz(target: Target): Promise<boolean> {
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(values.seed);
  const result = await campaign(target, {
    seconds: Number(values.seconds),
    seed,
    ...(values.cases === undefined ? {} : { cases: Number(values.cases) }),
    signal: interruption.signal,
    onProgress: (so) => process.stderr.write(`${target.name}: ${rate(so, target.operations)}\n`),
  });
  const { finding, reached, ...tally } = result;
  const path = finding && join(repros, `${target.name}-${seed}-${finding.index}.json`);
  if (finding && path)
    writeRepro(path, { target: target.name, failure: finding.failure, choices: finding.choices });
  if (values.json)
    process.stdout.write(
      `${JSON.stringify({ target: target.name, seed, ...tally, reached: Object.fromEntries(reached), finding, path })}\n`,
    );
  else {
    process.stdout.write(
      `${target.name}: ${tally.cases.toLocaleString('en')} cases, ${rate(tally, target.operations)}, seed ${seed}, ${finding ? '1 finding' : 'no finding, no trap'}\n`,
    );
    if (finding) process.stdout.write(`  case ${finding.index}: ${finding.failure}\n  kept in ${path}\n`);
  }
  return finding === undefined;
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
  process.stdout.write(
    'npm run fuzz -- TARGET [--seconds N] [--seed S] [--cases N] [--json] | --repro FILE\n\n',
  );
  for (const { name, about } of targets) process.stdout.write(`  ${name.padEnd(18)} ${about}\n`);
} else {
  const chosen = positionals.includes('all') ? targets : positionals.map(findTarget);
  for (const target of chosen) if (!interruption.signal.aborted) sound = (await fuzz(target)) && sound;
}
process.exitCode = sound ? 0 : 1;
