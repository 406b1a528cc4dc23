import type { ProcessActivity, QueueActivity } from './activity.js';
import type { Activity } from './stats-watch.js';
import { type Column, styled, tableLines } from './terminal.js';
import { formatBytes, formatCount, formatMicroseconds, formatRatio } from './units.js';

const QUEUE_COLUMNS: readonly Column[] = [
  { title: 'pid', align: 'right' },
  { title: 'device', align: 'left' },
  { title: 'side', align: 'left' },
  { title: 'state', align: 'left' },
  { title: 'queue', align: 'right' },
  { title: 'requests/s', align: 'right' },
  { title: 'read/s', align: 'right' },
  { title: 'written/s', align: 'right' },
  { title: 'depth', align: 'right' },
  { title: 'p50 µs', align: 'right' },
  { title: 'p99', align: 'right' },
  { title: 'notifications/req', align: 'right' },
  { title: 'suppressed', align: 'right' },
  { title: 'CPU', align: 'right' },
];

const THREAD_COLUMNS: readonly Column[] = [
  { title: 'pid', align: 'right' },
  { title: 'thread', align: 'right' },
  { title: 'CPU', align: 'right' },
  { title: 'runs', align: 'left' },
];

/** Lines that show what was done, for `stream`. `advice` is what to do where there is nothing to see. */
export function topLines(
  { processes, silent }: Activity,
  stream: { isTTY?: boolean; write(text: string): boolean },
  advice: string,
): string[] {
  const queues = processes.flatMap((process) => process.queues);
  const devices = new Set(
    processes.flatMap(({ pid, queues }) => queues.map(({ device, side }) => `${pid} ${side} ${device}`)),
  );
  const rate = queues.reduce((sum, queue) => sum + queue.requestsPerSecond, 0);
  const [queueTitles, ...queueRows] = tableLines(
    QUEUE_COLUMNS,
    processes.flatMap((process) => process.queues.map((queue) => queueCells(process, queue))),
  );
  const [threadTitles, ...threadRows] = tableLines(
    THREAD_COLUMNS,
    processes.flatMap(({ pid, threads }) =>
      threads.map(({ thread, cpu, runs }) => [`${pid}`, `${thread}`, percent(cpu), runs]),
    ),
  );
  const bold = (text: string) => styled(stream, 'bold', text);
  return [
    [
      plural(processes.length, 'process', 'processes'),
      plural(devices.size, 'device', 'devices'),
      plural(queues.length, 'queue', 'queues'),
      `${formatCount(rate)} requests/s`,
    ].join(' · '),
    ...(processes.length === 0 ? ['', advice] : []),
    ...(queues.length === 0 ? [] : ['', bold(queueTitles!), ...queueRows]),
    ...(threadRows.length === 0 ? [] : ['', bold(threadTitles!), ...threadRows]),
    ...(silent.length === 0 ? [] : ['', ...silent.map(({ path, why }) => `${path}: ${why}`)]),
  ];
}

function queueCells({ pid }: ProcessActivity, queue: QueueActivity): string[] {
  const { latency } = queue;
  const orDash = (value: number | null | undefined, format: (value: number) => string) =>
    value === null || value === undefined ? '-' : format(value);
  return [
    `${pid}`,
    queue.device,
    queue.side,
    queue.state,
    `${queue.queue}`,
    formatCount(queue.requestsPerSecond),
    formatBytes(Math.round(queue.bytesReadPerSecond)),
    formatBytes(Math.round(queue.bytesWrittenPerSecond)),
    `${queue.inFlight}`,
    orDash(latency?.p50, formatMicroseconds),
    orDash(latency?.p99, formatMicroseconds),
    orDash(queue.notificationsPerRequest, formatRatio),
    orDash(queue.suppressed, percent),
    orDash(queue.cpu, percent),
  ];
}

function percent(fraction: number): string {
  return `${(fraction * 100).toFixed(fraction < 0.0995 ? 1 : 0)} %`;
}

function plural(count: number, one: string, more: string): string {
  return `${count} ${count === 1 ? one : more}`;
}
