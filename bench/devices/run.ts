/**
 * What devices cost that are idle, and what they leave behind:
 * `npm run bench:devices [-- --devices N] [--seconds N] [--creations N] [--json]`. 100 idle devices of each kind for 10 seconds, then 1,000
 * devices of all kinds made and closed, unless other numbers are given; 0 leaves a part out. Exit status 1 if something was left behind, 2 for a bad command line.
 */
import { parseArgs } from 'node:util';
import { formatBytes } from '../../host/cli/units.js';
import { describeMachine } from '../machine.js';
import { type CreationsResult, creations, leaks } from './creations.js';
import { type IdleResult, idle } from './idle.js';
import { kinds } from './kinds.js';

interface Plan {
  devices: number;
  seconds: number;
  creations: number;
  json: boolean;
}

function planOf(): Plan {
  const { values } = parseArgs({
    options: {
      devices: { type: 'string', default: '100' },
      seconds: { type: 'string', default: '10' },
      creations: { type: 'string', default: '1000' },
      json: { type: 'boolean', default: false },
    },
  });
  const count = (name: 'devices' | 'seconds' | 'creations') => {
    if (!/^\d{1,6}$/.test(values[name]))
      throw new Error(`--${name} '${values[name]}': must be a whole number`);
    return Number(values[name]);
  };
  return {
    devices: count('devices'),
    seconds: count('seconds'),
    creations: count('creations'),
    json: values.json,
  };
}

/** One line of progress, rewritten in place, for somebody who watches. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

function idleLine({
  kind,
  devices,
  seconds,
  cpuPercent,
  residentBytes,
  fds,
  threads,
  mappings,
}: IdleResult): string {
  const each = `${formatBytes(residentBytes)}, ${fds.toFixed(1)} fds, ${threads.toFixed(1)} threads, ${mappings.toFixed(1)} mappings a device`;
  return `${devices} × ${kind}: ${cpuPercent.toFixed(1)} % CPU over ${seconds} s; ${each}`;
}

function creationLines({ devices, seconds, before, after }: CreationsResult): string[] {
  const row = (name: string, from: number, to: number) => `  ${name.padEnd(10)} ${from} → ${to}`;
  return [
    `${devices} devices made and closed in ${seconds.toFixed(0)} s`,
    row('fds', before.fds, after.fds),
    row('threads', before.threads, after.threads),
    row('mappings', before.mappings, after.mappings),
    `  ${'resident'.padEnd(10)} ${formatBytes(before.residentBytes)} → ${formatBytes(after.residentBytes)}`,
  ];
}

async function main(): Promise<void> {
  let plan: Plan;
  try {
    plan = planOf();
  } catch (error) {
    process.stderr.write(`bench:devices: ${(error as Error).message}\n`);
    process.exitCode = 2;
    return;
  }
  const idleResults: IdleResult[] = [];
  for (const kind of plan.devices > 0 ? kinds : []) {
    progress(`${plan.devices} × ${kind.name}`);
    idleResults.push(await idle(kind, plan.devices, plan.seconds));
  }
  const made =
    plan.creations > 0
      ? await creations(plan.creations, (done) => progress(`${done} of ${plan.creations} devices`))
      : undefined;
  progress('');
  const text = plan.json
    ? JSON.stringify({ machine: describeMachine(), idle: idleResults, creations: made }, undefined, 2)
    : [...idleResults.map(idleLine), ...(made ? creationLines(made) : [])].join('\n');
  process.stdout.write(`${text}\n`);
  if (made && leaks(made)) process.exitCode = 1;
}

await main();
