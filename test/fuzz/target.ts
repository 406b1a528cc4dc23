import type { Choices } from './choices.js';

/**
 * Plays one case: does what its choices say, step by step, and throws where the outcome is not the model's. Returns how many
 * operations that were. A case leaves nothing behind that another could see.
 */
export type Play = (choices: Choices) => number | Promise<number>;

/** One parser or protocol under fuzz. */
export interface Target {
  /** As on the command line. */
  readonly name: string;
  /** What is played, against what it is checked. */
  readonly about: string;
  /** What an operation is, in the plural. */
  readonly operations: string;
  /** Cases that every run of the tests plays, always the same: a second of them. */
  readonly tested: number;
  /** Makes whatever all cases use. */
  start(): Promise<Stage>;
}

/** A target that is ready to play. */
export interface Stage {
  readonly play: Play;
  /** How often each outcome has been seen, by its name: a campaign that reaches few rules proves little. */
  readonly reached: ReadonlyMap<string, number>;
  close(): Promise<void>;
}

/** Counts outcomes by name. */
export class Reached extends Map<string, number> {
  count(outcome: string, times = 1): void {
    this.set(outcome, (this.get(outcome) ?? 0) + times);
  }
}
