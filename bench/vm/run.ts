/**
 * Measures a VDUSE disk of ours against qemu-storage-daemon's vduse-blk export of the same file, side by side in virtual
 * machines: `npm run bench:vm -- [--kernel SERIES]… [--processors N]… [--aio threads|io_uring] [--mapped]
 * [--scheduler NAME] [--json] [--quick]`. Nothing else should run on the host. Exit status 1 if a guest failed, 2 if this machine lacks something.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { boot } from '../../test/vm/boot.js';
import { Cache } from '../../test/vm/cache.js';
import { UsageError } from '../../test/vm/command-line.js';
import { getKernels, SeriesUnavailable } from '../../test/vm/kernel.js';
import type { Machine } from '../../test/vm/machines.js';
import { accelerator } from '../../test/vm/qemu.js';
import { requireToRun } from '../../test/vm/requirements.js';
import { SERIES } from '../../test/vm/series.js';
import { runSession, type Session } from '../../test/vm/session.js';
import { describeMachine } from '../machine.js';
import { type GuestFigures, summarizeGuest, type VmResult } from './figures.js';
import { HostLoad, pairFile } from './host-load.js';
import { formatVmReport } from './table.js';

/** Milliseconds for a guest, and for all of them. */
const GUEST_LIMIT_MS = 15 * 60_000;
const RUN_LIMIT_MS = 60 * 60_000;
/** How long fio runs, and how often each workload is measured. */
const USUAL = { seconds: 2, rounds: 5 };
const QUICK = { seconds: 1, rounds: 2 };
/** Series that are measured unless others are named. */
const USUAL_SERIES = ['6.12', '7.2'];
const USUAL_PROCESSORS = ['1', '2'];
const USAGE =
  'npm run bench:vm -- [--kernel SERIES]… [--processors N]… [--aio threads|io_uring] [--mapped] [--scheduler NAME] [--json] [--quick]';

const guestFile = fileURLToPath(new URL('guest.js', import.meta.url));
const resultsFolder = fileURLToPath(new URL('../../../bench/results', import.meta.url));

/** A CPU that polls while it is idle: an emulated one that sleeps is woken by the 4 ms tick only. */
const machineOf = (processors: number): Machine => ({
  name: 'bench',
  processors,
  memoryMiB: 2048,
  kernelArguments: ['idle=poll'],
  qemuArguments: () => [],
  needsSimulators: false,
});

function parseCommandLine() {
  const options = {
    kernel: { type: 'string', multiple: true, default: USUAL_SERIES },
    processors: { type: 'string', multiple: true, default: USUAL_PROCESSORS },
    aio: { type: 'string', default: 'threads' },
    mapped: { type: 'boolean', default: false },
    scheduler: { type: 'string', default: '' },
    json: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
  } as const;
  try {
    const { values } = parseArgs({ options });
    for (const name of values.kernel)
      if (!SERIES.some((series) => series.name === name)) throw new Error(`no kernel ${name}`);
    for (const number of values.processors)
      if (!/^[1-9]\d?$/.test(number)) throw new Error(`no number of processors: ${number}`);
    if (!/^[a-z-]*$/.test(values.scheduler)) throw new Error(`no scheduler ${values.scheduler}`);
    if (values.aio !== 'threads' && values.aio !== 'io_uring') throw new Error(`no aio ${values.aio}`);
    return values;
  } catch (error) {
    throw new UsageError(`${(error as Error).message}\n${USAGE}`);
  }
}

async function main({ signal, folder }: Session): Promise<number> {
  const { kernel, processors, aio, mapped, scheduler, json, quick } = parseCommandLine();
  requireToRun();
  const progress = (text: string) => void process.stderr.write(`${text}\n`);
  const cache = new Cache();
  const kernels = await getKernels(kernel, cache, { update: false, signal, progress });
  const effort = quick ? QUICK : USUAL;
  const results: VmResult[] = [];
  let figures: GuestFigures | undefined;
  for (const cached of kernels)
    for (const number of processors.map(Number)) {
      if (cached instanceof SeriesUnavailable) throw cached;
      const what = `${cached.release}, ${number} CPU${number === 1 ? '' : 's'}`;
      progress(what);
      const guestFolder = join(folder, `${cached.release}-${number}`);
      const artefacts = join(guestFolder, 'share', 'artefacts');
      const load = new HostLoad('qemu-system-x86');
      const command = `${process.execPath} ${guestFile} ${effort.seconds} ${effort.rounds} ${aio} ${mapped} ${scheduler}`;
      const release = await cache.lockAllSlots(signal);
      try {
        const { status, death } = await boot(
          machineOf(number),
          cached,
          { mode: 'command', command, limitMs: GUEST_LIMIT_MS },
          guestFolder,
          (message) => {
            if (message.kind !== 'text') return;
            const [, pair, moment] = /^pair (\d+) (begin|end)$/.exec(message.text) ?? [];
            if (moment === 'begin') load.begin();
            else if (moment === 'end')
              writeFileSync(join(artefacts, pairFile(Number(pair))), `${load.end()}`);
            else progress(message.text);
          },
          signal,
        );
        if (status !== 0) throw new Error(`${what}: ${death || `exit status ${status}`}`);
      } finally {
        release();
      }
      figures = JSON.parse(readFileSync(join(artefacts, 'figures.json'), 'utf8')) as GuestFigures;
      results.push(...summarizeGuest(figures, number));
    }
  const machine = describeMachine();
  const { fio, storageDaemon } = figures!;
  const setting = { accelerator: accelerator(), fio, storageDaemon, aio, mapped };
  mkdirSync(resultsFolder, { recursive: true });
  const file = join(resultsFolder, `vm-${machine.date.replaceAll(':', '-')}.json`);
  writeFileSync(file, `${JSON.stringify({ machine, setting, effort, results })}\n`);
  const summary = results.map(({ pairs, ...result }) => result);
  process.stdout.write(
    json
      ? `${JSON.stringify({ machine, setting, effort, results: summary }, undefined, 2)}\n`
      : formatVmReport(machine, setting, results),
  );
  return 0;
}

await runSession(false, RUN_LIMIT_MS, main);
