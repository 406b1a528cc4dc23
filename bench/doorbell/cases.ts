import type { Case } from '../case.js';
import { type Effort, type Pair, type Result, summarize } from '../compare.js';
import { Driver, type Slice } from './driver.js';

/** Kicks a second. */
const RATES = [1_000, 10_000, 100_000];
const QUICK_RATE = 10_000;
/** Pairs of slices, one a side. */
const PAIRS = 7;
/** Slices that the seconds of an effort are divided into. */
const SLICES = 3;

/** Figures of a slice, with their units and what they are. */
const FIGURES: readonly [keyof Slice, string, string][] = [
  ['p50', 'µs', 'until seen, p50'],
  ['p99', 'µs', 'until seen, p99'],
  ['deviceCpu', '% of a CPU', 'device thread'],
  ['driverCpu', '% of a CPU', 'kicks, driver thread'],
  ['kickCost', 'ns', 'a kick and a look at the clock, p50'],
];

async function measure(
  name: string,
  effort: Effort,
  rate: number,
  figures: readonly (typeof FIGURES)[number][],
): Promise<Result[]> {
  const driver = new Driver();
  const seconds = effort.seconds / SLICES;
  const pairs: { ours: Slice; theirs: Slice }[] = [];
  try {
    for (const way of ['doorbell', 'eventfd'] as const) await driver.slice(way, rate, effort.warmUpSeconds);
    for (let pair = 0; pair < PAIRS; pair++) {
      const ours = await driver.slice('doorbell', rate, seconds);
      pairs.push({ ours, theirs: await driver.slice('eventfd', rate, seconds) });
    }
  } finally {
    await driver.close();
  }
  return figures.map(([figure, unit, what]) => {
    const samples = pairs.map(({ ours, theirs }): Pair => ({ ours: ours[figure], theirs: theirs[figure] }));
    const comparison = { work: `${name}: ${what}`, engine: 'software doorbell', rival: 'eventfd', unit };
    return { ...comparison, ...summarize(samples, unit), samples };
  });
}

/** A software doorbell that a queue thread watches, against the eventfd that wakes it: two threads, kicks at random. */
export const doorbellCases: Case[] = [
  ...RATES.map((rate): Case => {
    const name = `doorbell: ${rate.toLocaleString('en-US')} kicks/s`;
    return { name, quick: rate === QUICK_RATE, run: (effort) => measure(name, effort, rate, FIGURES) };
  }),
  {
    name: 'doorbell: no kicks',
    quick: false,
    run: (effort) =>
      measure(
        'doorbell: no kicks',
        effort,
        0,
        FIGURES.filter(([figure]) => figure === 'deviceCpu'),
      ),
  },
];
