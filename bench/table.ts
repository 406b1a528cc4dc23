import type { Result } from './compare.js';
import type { Machine } from './machine.js';

/** The report as text: the machine, then a line a comparison. */
export function formatReport(machine: Machine, results: readonly Result[]): string {
  const header = ['work', 'unit', 'ours', '', 'rival', '', 'ratio', 'quartiles'];
  const rows = results.map((result) => [
    result.work,
    result.unit,
    result.engine,
    formatFigure(result.ours),
    result.rival,
    formatFigure(result.theirs),
    result.ratio.toFixed(2),
    result.spread.map((ratio) => ratio.toFixed(2)).join(' – '),
  ]);
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const numeric = new Set([3, 5, 6]);
  const line = (row: string[]) =>
    row
      .map((cell, i) => (numeric.has(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd();
  return [
    `${machine.cpu}, ${machine.cpuCount} CPUs, ${machine.kernel} ${machine.arch}`,
    `Node ${machine.node}, V8 ${machine.v8}, ${machine.compiler}`,
    `commit ${machine.commit || 'unknown'}, ${machine.date}`,
    '',
    line(header),
    ...rows.map(line),
    '',
    'ratio: median over pairs of alternating slices; above 1 ours is ahead',
    '',
  ].join('\n');
}

/** Three significant digits or all before the point, whichever is more. */
export function formatFigure(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3);
}
