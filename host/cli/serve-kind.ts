import type { Model } from '../index.js';
import type { Arguments, Option } from './arguments.js';
import type { ServeReport } from './serve-report.js';

/** A model that is ready to be served. */
export interface OpenedModel {
  readonly model: Model;
  /** What is served, in a word or two, once it is; and the same for programs. */
  text(): string;
  facts(): object;
  /** Has the report say what happens to it. */
  follow?(report: ServeReport): void;
  /** Gives up what it holds. */
  close(): Promise<void>;
}

/** A kind of device that `ringbell serve` serves. */
export interface ServedKind {
  /** As it is named on the command line. */
  readonly name: string;
  /** Virtqueues that it has unless more are asked for. */
  readonly queues: number;
  /** What it is told besides what every kind is. */
  readonly options: Record<string, Option>;
  /** Reads these: what opens the model. Throws UsageError for what cannot be done. */
  plan(values: Arguments): (signal: AbortSignal) => Promise<OpenedModel>;
}
