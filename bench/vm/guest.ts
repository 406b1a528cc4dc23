/**
 * The guest's part of `npm run bench:vm`: serves one file twice, by us and by qemu-storage-daemon, and lets fio loose on both
 * in turn. Takes SECONDS ROUNDS AIO MAPPED [SCHEDULER]; leaves figures.json among the artefacts. It says on standard output when a pair of runs begins and
 * ends, and the host answers with a file that says how busy it was otherwise: what was disturbed is measured again.
 */
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { basename, join } from 'node:path';
import { artefacts, scratch, until } from '../../test/vm/fixture.js';
import { type DiskServer, startRingbell, startStorageDaemon } from './disk-server.js';
import type { Costs, GuestFigures, Pair, Sample, SystemCalls } from './figures.js';
import { runFio, type Workload } from './fio.js';
import { DISTURBED_CORES, pairFile } from './host-load.js';
import { readProcessTimes } from './process-times.js';
import { countSystemCalls } from './system-calls.js';

/** Bytes of the disk. */
const DISK_BYTES = 128 * 2 ** 20;
const WORKLOADS: readonly Workload[] = [1, 32].flatMap((depth) =>
  (['randread', 'randwrite'] as const).map((operation) => ({ operation, depth })),
);
/** Attempts at a pair; the last one counts, however disturbed. */
const ATTEMPTS = 3;

const [seconds, rounds] = process.argv.slice(2, 4).map(Number) as [number, number];
const aio = process.argv[4] as 'threads' | 'io_uring';
const mapped = process.argv[5] === 'true';
const scheduler = process.argv[6];

/** Runs a workload on one server, and divides what that took by requests. */
async function sample(server: DiskServer, workload: Workload): Promise<Sample> {
  const times = readProcessTimes(server.pid);
  const stats = await server.stats();
  const { requests, ...result } = await runFio(server.path, workload, seconds);
  const statsAfter = await server.stats();
  const timesAfter = readProcessTimes(server.pid);
  const own = (name: 'requests' | 'bursts' | 'interrupts' | 'kicks') =>
    stats && statsAfter ? statsAfter[name] - stats[name] : null;
  const each = (count: number | null) => (count === null ? null : count / requests);
  const bursts = own('bursts');
  const costs: Costs = {
    batch: bursts && own('requests')! / bursts,
    interrupts: each(own('interrupts')),
    kicks: each(own('kicks')),
    waits: (timesAfter.waits - times.waits) / requests,
    preemptions: (timesAfter.preemptions - times.preemptions) / requests,
    cpu: (timesAfter.cpu - times.cpu) / requests,
  };
  return { ...result, ...costs };
}

async function countFor(server: DiskServer, workload: Workload): Promise<SystemCalls> {
  let requests = 0;
  const calls = await countSystemCalls(server.pid, async () => {
    ({ requests } = await runFio(server.path, workload, 1));
  });
  if (!calls) return null;
  // What less than one request in a thousand made is not of the data path.
  const each = Object.entries(calls).map(([name, count]) => [name, count / requests] as const);
  return Object.fromEntries(each.filter(([, count]) => count >= 0.001));
}

let pairs = 0;

/** Measures both servers, `oursFirst` or not, until the host was quiet. */
async function measurePair(
  ours: DiskServer,
  theirs: DiskServer,
  workload: Workload,
  oursFirst: boolean,
): Promise<Pair> {
  for (let attempt = 1; ; attempt++) {
    const pair = pairs++;
    process.stdout.write(`pair ${pair} begin\n`);
    const first = await sample(oursFirst ? ours : theirs, workload);
    const second = await sample(oursFirst ? theirs : ours, workload);
    process.stdout.write(`pair ${pair} end\n`);
    const file = join(artefacts(), pairFile(pair));
    await until(`the host's word on pair ${pair}`, () => existsSync(file) && readFileSync(file).length);
    const othersCores = Number(readFileSync(file, 'latin1'));
    if (othersCores > DISTURBED_CORES && attempt < ATTEMPTS) continue;
    const both = oursFirst ? { ours: first, theirs: second } : { ours: second, theirs: first };
    return { ...workload, othersCores, ...both };
  }
}

/** Gives a disk its I/O scheduler, unless the kernel shall choose: the one that it has then. */
function selectScheduler(path: string): string {
  const file = `/sys/block/${basename(path)}/queue/scheduler`;
  if (scheduler) writeFileSync(file, scheduler);
  return /\[(.+)\]/.exec(readFileSync(file, 'latin1'))?.[1] ?? 'none';
}

const firstLine = (command: string) =>
  execFileSync(command, ['--version'], { encoding: 'utf8' }).split('\n')[0]!;

const file = join(scratch(), 'disk.img');
writeFileSync(file, randomBytes(DISK_BYTES));
const ours = await startRingbell('ringbell0', file, mapped);
const theirs = await startStorageDaemon('qemu0', file, aio);
selectScheduler(theirs.path);
const figures: GuestFigures = {
  release: release(),
  fio: firstLine('fio'),
  storageDaemon: firstLine('qemu-storage-daemon'),
  scheduler: selectScheduler(ours.path),
  pairs: [],
  systemCalls: [],
};
// The first round is for caches and compilers.
for (let round = 0; round <= rounds; round++)
  for (const workload of WORKLOADS) {
    const pair = await measurePair(ours, theirs, workload, round % 2 === 0);
    if (round > 0) figures.pairs.push(pair);
  }
for (const workload of WORKLOADS)
  figures.systemCalls.push({
    ...workload,
    ours: await countFor(ours, workload),
    theirs: await countFor(theirs, workload),
  });
writeFileSync(join(artefacts(), 'figures.json'), JSON.stringify(figures));
await ours.close();
await theirs.close();
