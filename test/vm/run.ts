/**
 * Runs the guest tests on real kernels: `npm run test:vm -- [--kernel SERIES]… [--machine NAME]… [--json] [--keep] [--update]
 * [PATTERN]…`. Boots one virtual machine for each series and machine, in which each file of the machine's folder runs in a
 * process of its own, then the `*.host.test.ts` of that folder here, on what the guest left. Ends with one line
 * `N passed, N failed, N skipped`; exit status 1 if anything failed, 2 if this machine lacks something.
 *
 * `--json` gives the report as JSON on standard output, `--keep` keeps consoles and artefacts, `--update` looks for newer
 * kernels.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { judge } from '../outcome.js';
import { runTestFile } from '../test-file.js';
import { boot } from './boot.js';
import { Cache, type CachedKernel, SLOTS } from './cache.js';
import type { Message } from './channel.js';
import { parseTestCommandLine, type TestCommandLine } from './command-line.js';
import { getKernels, SeriesUnavailable } from './kernel.js';
import type { Machine } from './machines.js';
import { accelerator } from './qemu.js';
import { type BootReport, Report } from './report.js';
import { requireToRun } from './requirements.js';
import type { Series } from './series.js';
import { runSession, type Session } from './session.js';

/** Milliseconds for everything, the packages included. */
const RUN_LIMIT_MS = 65 * 60_000;
const HERE = fileURLToPath(new URL('.', import.meta.url));

const guestTest = (file: string) => !isHostTest(file);
const isHostTest = (file: string) => file.endsWith('.host.test.js');
const nounOf = (file: string) => file.replace(/\.test\.js$/, '');

/** Test files of a machine that match the patterns, relative to this folder. */
function filesOf(machine: Machine, patterns: readonly string[]): string[] {
  const folder = join(HERE, machine.name);
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js'))
    .map((file) => join(machine.name, file))
    .filter((file) => patterns.every((pattern) => file.includes(pattern)))
    .sort();
}

/** Runs the files of one machine on one kernel. */
async function runMachine(
  series: Series,
  machine: Machine,
  kernel: CachedKernel | SeriesUnavailable,
  files: readonly string[],
  cache: Cache,
  report: Report,
  session: Session,
): Promise<void> {
  const result: BootReport = {
    series: series.name,
    release: kernel instanceof SeriesUnavailable ? '' : kernel.release,
    machine: machine.name,
    accelerator: accelerator(),
    bootMs: 0,
    durationMs: 0,
    files: [],
    death: '',
  };
  report.begin(result);
  if (kernel instanceof SeriesUnavailable)
    return report.withoutRun(
      result,
      files.map(nounOf),
      series.required ? 'failed' : 'skipped',
      kernel.message,
    );
  if (machine.needsSimulators && kernel.simulators !== true)
    return report.withoutRun(result, files.map(nounOf), 'skipped', kernel.simulators);

  const folder = join(session.folder, `${series.name}-${machine.name}`);
  const guestFiles = files.filter(guestTest);
  const waiting = new Set(guestFiles);
  let output = '';
  let startedAt = 0;
  const told = (message: Message) => {
    if (message.kind === 'text') {
      output += `${message.text}\n`;
      report.lines(result, message.text);
    } else if (message.kind === 'ready') {
      result.bootMs = Date.now() - bootedAt;
    } else if (message.kind === 'begin') {
      output = '';
      startedAt = Date.now();
      report.lines(result, message.file);
    } else if (message.kind === 'end') {
      waiting.delete(message.file);
      const { passed, failed, skipped, reasons } = judge(output, message.status);
      const durationMs = Date.now() - startedAt;
      report.file(result, { file: nounOf(message.file), passed, failed, skipped, reasons, durationMs });
    }
  };
  const release = await cache.lockSlot(session.signal, (text) => report.lines(result, text));
  const bootedAt = Date.now();
  try {
    const plan = { mode: 'files', files: guestFiles } as const;
    const { death } = await boot(machine, kernel, plan, folder, told, session.signal);
    result.death = death;
  } finally {
    release();
    result.durationMs = Date.now() - bootedAt;
  }
  if (result.death) {
    report.lines(result, `the guest died: ${result.death}`);
    const [current, ...others] = waiting;
    if (current) report.withoutRun(result, [nounOf(current)], 'failed', 'the guest died here');
    report.withoutRun(result, others.map(nounOf), 'failed', 'the guest had died');
    return report.withoutRun(result, files.filter(isHostTest).map(nounOf), 'failed', 'the guest had died');
  }
  for (const file of files.filter(isHostTest)) {
    const at = Date.now();
    const { text, passed, failed, skipped, reasons } = await runTestFile(join(HERE, file), {
      RINGBELL_VM_ARTEFACTS: join(folder, 'share', 'artefacts'),
      RINGBELL_VM_SERIES: series.name,
    });
    report.lines(result, text.trimEnd());
    report.file(result, {
      file: nounOf(file),
      passed,
      failed,
      skipped,
      reasons,
      durationMs: Date.now() - at,
    });
  }
}

async function runAll(commandLine: TestCommandLine, session: Session): Promise<number> {
  requireToRun();
  // JSON has standard output for itself.
  const stream = commandLine.json ? process.stderr : process.stdout;
  const report = new Report((text) => stream.write(text));
  const machines = commandLine.machines
    .map((machine) => ({ machine, files: filesOf(machine, commandLine.patterns) }))
    .filter(({ files }) => files.some(guestTest));
  if (!machines.length) {
    report.note(`no guest test matches ${commandLine.patterns.join(' ')}`);
    return 1;
  }
  const cache = new Cache();
  const names = commandLine.series.map(({ name }) => name);
  const progress = (text: string) => report.note(text);
  const kernels = await getKernels(names, cache, {
    update: commandLine.update,
    signal: session.signal,
    progress,
  });
  // The default machine, which has most of the tests, of every series first: no processor is idle at the end.
  const boots = machines.flatMap(({ machine, files }) =>
    commandLine.series.map((series, index) => ({ series, machine, kernel: kernels[index]!, files })),
  );
  const errors: unknown[] = [];
  const work = async () => {
    for (let next = boots.shift(); next && !session.signal.aborted; next = boots.shift()) {
      const { series, machine, kernel, files } = next;
      await runMachine(series, machine, kernel, files, cache, report, session).catch((error) =>
        errors.push(error),
      );
    }
  };
  await Promise.all(Array.from({ length: SLOTS }, work));
  report.summarize();
  if (commandLine.json) process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
  session.signal.throwIfAborted();
  if (errors.length) throw errors[0];
  return report.outcome.failed ? 1 : 0;
}

const keep = process.argv.includes('--keep');
await runSession(keep, RUN_LIMIT_MS, (session) =>
  runAll(parseTestCommandLine(process.argv.slice(2)), session),
);
