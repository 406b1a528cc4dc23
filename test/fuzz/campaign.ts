import { setImmediate as turn } from 'node:timers/promises';
import { inspect } from 'node:util';
import { RuntimeError } from '../../host/aperture/web-assembly.js';
import { Choices } from './choices.js';
import { CountedEngine, type Coverage } from './coverage.js';
import { minimise } from './minimise.js';
import type { Stage, Target } from './target.js';

/** Milliseconds between two looks at the clock and the event loop. */
const SLICE_MS = 50;
/** Milliseconds between two reports. */
const PROGRESS_MS = 10_000;

export interface CampaignOptions {
  /** Seconds to play for. */
  seconds: number;
  seed: number;
  /** Cases to play at most. */
  cases?: number;
  /** Whether to count which ways the engine has gone. */
  coverage?: boolean;
  /** Ends the campaign early. */
  signal?: AbortSignal;
  /** Told every ten seconds. */
  onProgress?: (so: Tally) => void;
}

/** How far a campaign has come. */
export interface Tally {
  cases: number;
  operations: number;
  /** Traps of the engine: each is a finding, and a campaign ends with its first one. */
  traps: number;
  /** Seconds. */
  elapsed: number;
}

export interface Finding {
  /** Number of the case in its sequence. */
  index: number;
  failure: string;
  /** The fewest choices that still fail. */
  choices: number[];
}

export interface Result extends Tally {
  reached: ReadonlyMap<string, number>;
  coverage?: Coverage;
  finding?: Finding;
}

/** Plays cases of a target until one fails or time is up. */
export async function campaign(target: Target, options: CampaignOptions): Promise<Result> {
  const counted = options.coverage ? await CountedEngine.build() : undefined;
  const stage = await target.start();
  try {
    const played = await play(stage, options);
    return { ...played, reached: stage.reached, ...(counted ? { coverage: counted.coverage() } : {}) };
  } finally {
    counted?.close();
    await stage.close();
  }
}

async function play(stage: Stage, options: CampaignOptions): Promise<Tally & { finding?: Finding }> {
  const { seed, cases: most = Number.POSITIVE_INFINITY, signal, onProgress } = options;
  const choices = new Choices();
  const begun = performance.now();
  const tally: Tally = { cases: 0, operations: 0, traps: 0, elapsed: 0 };
  let report = begun + PROGRESS_MS;
  while (tally.elapsed < options.seconds && tally.cases < most && !signal?.aborted) {
    const slice = performance.now() + SLICE_MS;
    do {
      try {
        const played = stage.play(choices.seed(seed, tally.cases));
        tally.operations += typeof played === 'number' ? played : await played;
      } catch (error) {
        tally.traps = error instanceof RuntimeError ? 1 : 0;
        tally.elapsed = (performance.now() - begun) / 1000;
        return { ...tally, finding: await describe(stage, seed, tally.cases) };
      }
      tally.cases++;
    } while (performance.now() < slice && tally.cases < most);
    tally.elapsed = (performance.now() - begun) / 1000;
    if (performance.now() > report) {
      report += PROGRESS_MS;
      onProgress?.(tally);
    }
    await turn();
  }
  return tally;
}

/** Plays a failing case again with its choices written down, and makes them few. */
async function describe(stage: Stage, seed: number, index: number): Promise<Finding> {
  const recording = new Choices().seed(seed, index).record();
  if (!(await failureOf(() => stage.play(recording))))
    return { index, failure: 'a case that failed once and not again', choices: recording.recorded ?? [] };
  const choices = await minimise(
    recording.recorded ?? [],
    async (candidate) => (await replay(stage, candidate)) !== undefined,
  );
  return { index, failure: (await replay(stage, choices)) ?? '', choices };
}

/** Plays the case that `choices` are: what is wrong, if anything. */
export async function replay(stage: Stage, choices: readonly number[]): Promise<string | undefined> {
  return failureOf(() => stage.play(new Choices().replay(choices)));
}

async function failureOf(play: () => unknown): Promise<string | undefined> {
  try {
    await play();
    return undefined;
  } catch (error) {
    if (error instanceof RuntimeError) return `trap: ${error.message}`;
    if (!(error instanceof Error)) return String(error);
    const { expects, actual } = error as { expects?: unknown; actual?: unknown };
    return expects === undefined && actual === undefined
      ? error.message
      : `${error.message}: ${inspect(actual)} instead of ${inspect(expects)}`;
  }
}
