import { setTimeout as sleep } from 'node:timers/promises';
import { statsFolders, statsPaths } from '../observability/stats-places.js';
import type { Arguments, Command } from './arguments.js';
import { LiveScreen } from './live-screen.js';
import { type Activity, StatsWatch } from './stats-watch.js';
import { topLines } from './top-report.js';

/** `ringbell top` */
export const top: Command = {
  name: 'top',
  summary: 'show what the devices of running programs are doing',
  description:
    'Shows devices and queues of other processes of this user: rates, requests in flight, latencies, notifications, and the\n' +
    'CPU time of their threads. A program shows its devices by expose(), ringbell serve by --stats.\n' +
    'On a terminal the view is renewed until Ctrl-C; elsewhere lines are printed again and again.',
  operand: { value: 'SOCKET', required: false, help: 'of one process (default: all that can be found)' },
  options: {
    interval: { value: 'SECONDS', default: '1', help: 'between two looks' },
    once: { help: 'print what was done in one interval, and end' },
    json: { help: 'print JSON: an object an interval, on a line' },
  },
  endless: true,
  async run(values, signal) {
    const plan = planOf(values);
    const ended = new AbortController();
    const { operand } = values;
    const watch = new StatsWatch(operand === undefined ? statsPaths : () => [operand]);
    const screen =
      process.stdout.isTTY && !plan.json && !plan.once ? new LiveScreen(process.stdout) : undefined;
    // A reader that has seen enough, such as head.
    process.stdout.once('error', () => ended.abort());
    const end = AbortSignal.any([signal, ended.signal]);
    let found: boolean;
    try {
      found = await look(watch, plan, screen, end);
    } finally {
      screen?.close();
      watch.close();
    }
    if (found || !plan.once) return 0;
    process.stderr.write(`ringbell: ${adviceFor(operand)}\n`);
    return 1;
  },
};

/** What the options ask for. */
interface Plan {
  milliseconds: number;
  once: boolean;
  json: boolean;
  advice: string;
}

function planOf(values: Arguments): Plan {
  return {
    milliseconds: values.seconds('interval', { minimum: 0.1, maximum: 3600 }) * 1000,
    once: values.flag('once'),
    json: values.flag('json'),
    advice: adviceFor(values.operand),
  };
}

function adviceFor(operand: string | undefined): string {
  return operand === undefined
    ? `no process shows its devices in ${statsFolders().join(' or ')}: see expose(), and ringbell serve --stats`
    : `nobody shows devices at ${operand}: see expose(), and ringbell serve --stats`;
}

/** Looks, and shows what there is, until `end` aborts: whether there was anything. */
async function look(
  watch: StatsWatch,
  { milliseconds, once, json, advice }: Plan,
  screen: LiveScreen | undefined,
  end: AbortSignal,
): Promise<boolean> {
  // What is done is what changes from one look to the next.
  const first = await watch.look();
  screen?.show(topLines(first, process.stdout, advice));
  while (!end.aborted) {
    await sleep(milliseconds, undefined, { signal: end }).catch(() => {});
    if (end.aborted) break;
    const activity = await watch.look();
    if (once && activity.processes.length === 0) return false;
    if (screen) screen.show(topLines(activity, process.stdout, advice));
    else print(activity, json, advice);
    if (once) return true;
  }
  return true;
}

function print(activity: Activity, json: boolean, advice: string): void {
  const text = json
    ? JSON.stringify({ time: new Date().toISOString(), ...activity })
    : `${topLines(activity, process.stdout, advice).join('\n')}\n`;
  process.stdout.write(`${text}\n`);
}
