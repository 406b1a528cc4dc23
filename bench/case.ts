import type { Effort, Result } from './compare.js';

/** One benchmark: run in a process of its own, so that no other has warmed up or spoilt its code. */
export interface Case {
  /** What it measures: subject, colon, details. A pattern on the command line is a part of it. */
  readonly name: string;
  /** Part of a quick run. */
  readonly quick: boolean;
  run(effort: Effort): Promise<Result[]>;
}
