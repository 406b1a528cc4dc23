import type { Result, Tally } from './campaign.js';
import { type Coverage, missed, union } from './coverage.js';
import type { Target } from './target.js';

/** One campaign, as it is reported. */
export interface Report extends Result {
  target: string;
  seed: number;
  /** Where the failing case is kept. */
  path?: string;
}

/** Several campaigns together. */
export interface Sum extends Tally {
  targets: number;
  findings: number;
  coverage?: { reached: number; of: number; missed: string[] };
}

export function sumReports(reports: readonly Report[], elapsed: number): Sum {
  const total = (of: (report: Report) => number) => reports.reduce((sum, report) => sum + of(report), 0);
  const covered = reports.flatMap(({ coverage }) => coverage ?? []);
  return {
    targets: reports.length,
    cases: total(({ cases }) => cases),
    operations: total(({ operations }) => operations),
    traps: total(({ traps }) => traps),
    findings: total(({ finding }) => (finding ? 1 : 0)),
    elapsed,
    ...(covered.length ? { coverage: countCoverage(union(covered)) } : {}),
  };
}

/** A report as JSON has it. */
export function jsonReport(target: Target, { coverage, reached, ...report }: Report): object {
  return {
    ...report,
    unit: target.operations,
    reached: Object.fromEntries(reached),
    ...(coverage ? { coverage: countCoverage(coverage) } : {}),
  };
}

function countCoverage(coverage: Coverage): NonNullable<Sum['coverage']> {
  return { reached: coverage.taken.length, of: 2 * coverage.conditions.length, missed: missed(coverage) };
}

export function describeProgress(target: Target, so: Tally): string {
  return `${target.name}: ${rate(so, target.operations)}`;
}

export function describeReport(target: Target, { seed, finding, path, coverage, ...so }: Report): string {
  const ways = coverage ? `, ${describeCoverage(countCoverage(coverage))}` : '';
  const what = `${target.name}: ${count(so.cases)} cases, ${rate(so, target.operations)}, ${many(so.traps, 'trap')}${ways}, seed ${seed}`;
  if (!finding) return `${what}, no finding`;
  return `${what}, 1 finding\n  case ${finding.index}: ${finding.failure}${path ? `\n  kept in ${path}` : ''}`;
}

export function describeSum({ targets, cases, findings, traps, coverage, ...so }: Sum): string {
  const found = `${many(traps, 'trap')}, ${many(findings, 'finding')}`;
  return `${targets} targets: ${count(cases)} cases, ${rate(so, 'operations')}, ${found}${coverage ? `, ${describeCoverage(coverage)}` : ''}`;
}

function describeCoverage({ reached, of }: NonNullable<Sum['coverage']>): string {
  return `${count(reached)} of ${count(of)} ways`;
}

function rate({ operations, elapsed }: Pick<Tally, 'operations' | 'elapsed'>, unit: string): string {
  const each = Math.round(operations / Math.max(elapsed, 1e-3));
  return `${count(operations)} ${unit} in ${elapsed.toFixed(1)} s, ${count(each)} a second`;
}

function many(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}

function count(number: number): string {
  return number.toLocaleString('en');
}
