import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Bus } from '../../host/index.js';
import { type Kind, make } from './kinds.js';
import { readProcessState } from './process-state.js';

/** What devices cost that nobody uses. */
export interface IdleResult {
  /** Of what kind they are. */
  readonly kind: string;
  readonly devices: number;
  readonly seconds: number;
  /** Of one CPU, while they were idle: utime and stime of /proc/self/stat. */
  readonly cpuPercent: number;
  /** Of each device. */
  readonly residentBytes: number;
  readonly fds: number;
  readonly threads: number;
  readonly mappings: number;
}

/**
 * Shares of the time measured that are waited for, at most so many, before it begins: V8 shrinks each thread's heap some seconds
 * after the thread has come to rest, once.
 */
const CALM_SHARE = 0.5;
const CALM_WAITS = 24;
/** Of one CPU: less is calm. */
const CALM_PERCENT = 0.1;
/** Fields of /proc/self/stat behind the name, which may hold blanks; USER_HZ. */
const [UTIME, STIME] = [11, 12];
const TICKS_PER_SECOND = 100;

/** Has `devices` devices of a kind for `seconds` seconds, which have answered one request each if they are driven. */
export async function idle(kind: Kind, devices: number, seconds: number): Promise<IdleResult> {
  const bus = new Bus();
  // What is there once for all devices belongs to none.
  await (await make(kind, 'first', bus)).close();
  const before = await readProcessState();
  const made = [];
  for (let index = 0; index < devices; index++) made.push(await make(kind, `device${index}`, bus));
  const after = await readProcessState();
  for (let left = CALM_WAITS; left > 0; left--)
    if ((await cpuPercentOf(seconds * CALM_SHARE)) < CALM_PERCENT) break;
  const cpuPercent = await cpuPercentOf(seconds);
  for (const each of made) await each.close();
  await bus.close();
  const each = (key: keyof typeof after) => (after[key] - before[key]) / devices;
  return {
    ...{ kind: kind.name, devices, seconds, cpuPercent },
    ...{
      residentBytes: each('residentBytes'),
      fds: each('fds'),
      threads: each('threads'),
      mappings: each('mappings'),
    },
  };
}

/** What this process uses of a CPU in the next `seconds` seconds. */
async function cpuPercentOf(seconds: number): Promise<number> {
  const [cpu, start] = [cpuSeconds(), performance.now()];
  await sleep(seconds * 1000);
  return ((cpuSeconds() - cpu) / ((performance.now() - start) / 1000)) * 100;
}

/** Seconds of CPU that this process has used. */
function cpuSeconds(): number {
  const stat = readFileSync('/proc/self/stat', 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[UTIME]) + Number(fields[STIME])) / TICKS_PER_SECOND;
}
