import { stripVTControlCharacters } from 'node:util';

/** Tests that passed, failed and were skipped. */
export interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
}

/** The sum of some outcomes. */
export function sumOutcomes(outcomes: readonly Outcome[]): Outcome {
  const sum: Outcome = { passed: 0, failed: 0, skipped: 0 };
  for (const outcome of outcomes) {
    sum.passed += outcome.passed;
    sum.failed += outcome.failed;
    sum.skipped += outcome.skipped;
  }
  return sum;
}

/** `N passed, N failed, N skipped`, the last line of a run. */
export const describeOutcome = ({ passed, failed, skipped }: Outcome) =>
  `${passed} passed, ${failed} failed, ${skipped} skipped`;

/** What became of one test file. */
export interface Verdict extends Outcome {
  /** Output of the file without colours. */
  text: string;
  /** A line `skipped: why` for each test that could not run. */
  reasons: string[];
}

/** Reads uvu's own counts from the output of a test file that has ended with `status`, null after a signal. */
export function judge(output: string, status: number | null): Verdict {
  const text = stripVTControlCharacters(output);
  const count = (label: string) =>
    [...text.matchAll(new RegExp(`^\\s*${label}:\\s+(\\d+)`, 'gm'))].reduce(
      (sum, m) => sum + Number(m[1]),
      0,
    );
  // A test that cannot run here says why in a line of its own (behind uvu's dots), whether uvu skips it or it returns
  // early: skipped, not passed.
  const reasons = [...text.matchAll(/skipped: .*$/gm)].map((match) => match[0]);
  const total = count('Total');
  const unharmed = count('Passed');
  const skipped = Math.max(count('Skipped'), reasons.length);
  const passed = unharmed - (skipped - count('Skipped'));
  // A file that dies, or that tests nothing, is a failure whatever it printed.
  const died = status !== 0 && total === unharmed;
  const failed = total - unharmed + (died || total + skipped === 0 ? 1 : 0);
  return { passed, failed, skipped, text, reasons };
}

/** One line about a test file: `ok   PATH (N passed, N skipped)`, or `FAIL …`. */
export function describeVerdict(path: string, { passed, failed, skipped }: Outcome): string {
  return `${failed ? 'FAIL' : 'ok  '} ${path} (${passed} passed${skipped ? `, ${skipped} skipped` : ''})`;
}
