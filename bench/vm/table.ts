import type { Machine } from '../machine.js';
import { formatFigure } from '../table.js';
import type { Sample, SystemCalls, VmResult } from './figures.js';

/** What goes for all results of a run. */
export interface VmSetting {
  accelerator: string;
  /** Names and versions. */
  fio: string;
  storageDaemon: string;
  /** aio of its file driver. */
  aio: string;
  /** Whether our file is mapped, rather than read and written by vectored I/O. */
  mapped: boolean;
}

const HEADER = [
  ...[
    'kernel',
    'CPUs',
    'scheduler',
    'workload',
    'server',
    'IOPS',
    'ratio',
    'from – to',
    'others',
    'p50 µs',
    'p99 µs',
  ],
  ...['batch', 'interrupts', 'kicks', 'waits', 'preempted', 'syscalls', 'CPU µs'],
];
const FIRST_NUMERIC = HEADER.indexOf('IOPS');

/** The report as text: the machine, then two lines a workload; what stands behind p99 is per request, on average. */
export function formatVmReport(machine: Machine, setting: VmSetting, results: readonly VmResult[]): string {
  const rows = results.flatMap((result) => [
    [
      ...[result.kernel, `${result.processors}`, result.scheduler],
      ...[`${result.operation}, depth ${result.depth}`, 'ringbell'],
      ...[formatFigure(result.ours.iops), result.ratio.toFixed(2)],
      result.spread.map((ratio) => ratio.toFixed(2)).join(' – '),
      result.othersCores.toFixed(2),
      ...costs(result.ours, result.oursSystemCalls),
    ],
    [
      ...['', '', '', '', 'qemu-storage-daemon', formatFigure(result.theirs.iops), '', '', ''],
      ...costs(result.theirs, result.theirsSystemCalls),
    ],
  ]);
  const widths = HEADER.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (i >= FIRST_NUMERIC ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd();
  return [
    `${machine.cpu}, ${machine.cpuCount} CPUs, ${machine.kernel} ${machine.arch}; guests under ${setting.accelerator}`,
    `Node ${machine.node}${setting.mapped ? ', file mapped' : ''}, ${setting.storageDaemon} (aio=${setting.aio}), ${setting.fio}`,
    `commit ${machine.commit || 'unknown'}, ${machine.date}`,
    '',
    line(HEADER),
    ...rows.map(line),
    '',
    'ratio: median over pairs of alternating runs, in IOPS; above 1 ringbell is ahead',
    'others: cores of the host that were busy with something else; from interrupts on: for each request',
    '',
  ].join('\n');
}

function costs(sample: Sample, systemCalls: SystemCalls): string[] {
  const calls = systemCalls && Object.values(systemCalls).reduce((sum, count) => sum + count, 0);
  const each = (value: number | null) => value?.toFixed(2) ?? '–';
  return [
    ...[formatFigure(sample.median), formatFigure(sample.p99), sample.batch?.toFixed(1) ?? '–'],
    ...[sample.interrupts, sample.kicks, sample.waits, sample.preemptions, calls].map(each),
    formatFigure(sample.cpu),
  ];
}
