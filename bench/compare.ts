import benny from 'benny';

/** How long to measure. */
export interface Effort {
  /** Seconds of measuring, and of running in before it. */
  seconds: number;
  warmUpSeconds: number;
}

/** What is compared with what. */
export interface Comparison {
  work: string;
  engine: string;
  rival: string;
  /** Of both figures. Of a unit that ends in '/s' more is better, of any other less. */
  unit: string;
}

/** The figures of one pair of slices, one a side. */
export interface Pair {
  ours: number;
  theirs: number;
}

/** One comparison, measured. */
export interface Result extends Comparison {
  /** Medians. */
  ours: number;
  theirs: number;
  /** Median of the ratios of pairs; above 1 we are ahead. */
  ratio: number;
  /** First and third quartile of the ratios of pairs. */
  spread: [number, number];
  samples: Pair[];
}

/**
 * Measures two sides in alternation: `ours` and `theirs` run a slice each and return its figure. The two slices of a pair follow each other within milliseconds, so that what else the
 * machine does hits both; the ratio is the median over pairs. benny repeats the pair until it has enough samples.
 */
export async function compare(
  comparison: Comparison,
  effort: Effort,
  ours: () => number,
  theirs: () => number,
): Promise<Result> {
  let oursFirst = false;
  const pair = (): Pair => {
    // In turn, so that neither side always finds what the other has left in the caches.
    oursFirst = !oursFirst;
    if (oursFirst) return { ours: ours(), theirs: theirs() };
    const figure = theirs();
    return { ours: ours(), theirs: figure };
  };
  for (const end = performance.now() + effort.warmUpSeconds * 1000; performance.now() < end; ) pair();
  const samples: Pair[] = [];
  // One pair is a sample: benny need not repeat it to outdo the resolution of its clock.
  const cases = { delay: 0, minTime: 0.001, minSamples: 5, maxTime: effort.seconds };
  await benny.suite(
    `${comparison.work}, ${comparison.engine} against ${comparison.rival}`,
    benny.configure({ cases }),
    benny.add('pair of slices', () => {
      samples.push(pair());
    }),
  );
  return { ...comparison, ...summarize(samples, comparison.unit), samples };
}

/** Medians and quartiles of pairs of figures in `unit`. */
export function summarize(
  samples: readonly Pair[],
  unit: string,
): Pick<Result, 'ours' | 'theirs' | 'ratio' | 'spread'> {
  const moreIsBetter = unit.endsWith('/s');
  const ratios = samples.map(({ ours, theirs }) => (moreIsBetter ? ours / theirs : theirs / ours));
  return {
    ours: quantile(
      samples.map(({ ours }) => ours),
      0.5,
    ),
    theirs: quantile(
      samples.map(({ theirs }) => theirs),
      0.5,
    ),
    ratio: quantile(ratios, 0.5),
    spread: [quantile(ratios, 0.25), quantile(ratios, 0.75)],
  };
}

/** The value below which a share of `q` of the values lies: the nearest of them. */
export function quantile(values: number[], q: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}
