import type { Image } from './image.js';
import type { Machine } from './machine.js';
import type { Result } from './measurement.js';
import { type MemoryReport, SLOPE_SECONDS } from './memory-monitor.js';
import { type Column, styled, tableLines } from './terminal.js';
import { formatBytes, formatCount, formatMicroseconds, formatRatio } from './units.js';
import type { ReadVerification, WriteVerification } from './verification.js';

/** What `ringbell demo --json` prints. */
export interface DemoReport {
  machine: Machine;
  image: Image & { sha256: string };
  settings: {
    queues: number;
    queueDepth: number;
    blockBytes: number;
    secondsEach: number;
    /** The image was mapped and served wholly in WASM; false: by vectored file I/O. */
    mapped: boolean;
  };
  verified: { read: ReadVerification; written: WriteVerification };
  results: Result[];
  memory: MemoryReport;
}

const COLUMNS: readonly Column[] = [
  { title: 'mode', align: 'left' },
  { title: 'operation', align: 'left' },
  { title: 'IOPS', align: 'right' },
  { title: 'throughput', align: 'right' },
  { title: 'p50 µs', align: 'right' },
  { title: 'p90', align: 'right' },
  { title: 'p99', align: 'right' },
  { title: 'p99.9', align: 'right' },
  { title: 'max', align: 'right' },
  { title: 'notifications/req', align: 'right' },
  { title: 'crossings/req', align: 'right' },
];

/** The report for people. */
export function reportLines(
  report: DemoReport,
  stream: { isTTY?: boolean; write(text: string): boolean },
): string[] {
  const { machine, image, settings, verified, results } = report;
  const bold = (text: string) => styled(stream, 'bold', text);
  const [titles, ...rows] = tableLines(COLUMNS, results.map(cells));
  return [
    `${bold('image')}     ${image.path}: ${formatBytes(image.bytes)}, ${image.contents}`,
    `${bold('read')}      all ${formatBytes(verified.read.bytes)} through the rings: ${styled(stream, 'green', 'equal to the file')}`,
    `          SHA-256 ${verified.read.sha256}`,
    `${bold('written')}   ${verified.written.requests} requests, ${formatBytes(verified.written.bytes)}, ${image.kind === 'given' ? 'on a scratch image, ' : ''}flushed and read back: ${styled(stream, 'green', 'equal')}`,
    '',
    `${formatBytes(settings.blockBytes)} at random, queue depth ${settings.queueDepth}, ${settings.queues === 1 ? 'one queue' : `${settings.queues} queues`}, ${Number(settings.secondsEach.toFixed(1))} s each, batch calls`,
    '',
    bold(titles!),
    ...rows,
    '',
    ...memoryLines(report.memory),
    `${machine.cpu}, ${machine.cpus} processors, Linux ${machine.kernel}, Node.js ${machine.node}, ringbell ${machine.ringbell}`,
  ];
}

function cells(result: Result): string[] {
  const { latency } = result;
  return [
    result.mode,
    result.operation,
    formatCount(result.iops),
    `${formatBytes(result.bytesPerSecond)}/s`,
    ...[latency.p50, latency.p90, latency.p99, latency.p999, latency.max].map(formatMicroseconds),
    formatRatio(result.notificationsPerRequest),
    formatRatio(result.crossingsPerRequest),
  ];
}

function memoryLines(memory: MemoryReport): string[] {
  const slope = memory.slopeBytesPerSecond;
  const error = memory.slopeErrorBytesPerSecond;
  const trend =
    slope === null || error === null
      ? `no slope in less than --seconds ${SLOPE_SECONDS}`
      : `slope ${signedBytes(slope)}/s ± ${formatBytes(error)}/s (${Math.abs(slope) <= 2 * error ? 'flat within noise' : slope > 0 ? 'growing' : 'shrinking'}, ${memory.samples} samples)`;
  const lines = [
    `resident  ${formatBytes(memory.rssStart)} at the start, ${formatBytes(memory.rssEnd)} at the end, ${trend}`,
  ];
  if (memory.heapBytesPerRequest !== null)
    lines.push(
      `V8 heap   ${Number(memory.heapBytesPerRequest.toFixed(3))} bytes per request on the batch path (median growth between two collections)`,
    );
  return lines;
}

function signedBytes(bytes: number): string {
  return `${bytes < 0 ? '−' : '+'}${formatBytes(Math.abs(bytes))}`;
}
