import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Milliseconds between two samples. */
const SAMPLE_INTERVAL_MS = 1000;
/** Seconds of the shortest run that is sampled: in a shorter one, what was there before is still being collected. */
export const SLOPE_SECONDS = 10;
/** Part of a run that does not count: pages touched for the first time, code being compiled. */
const WARM_UP = 0.25;
/** Correlation of neighbouring samples above which their number no longer says anything. */
const CORRELATION_MAXIMUM = 0.99;

/** What the measurements did to the memory of the process. */
export interface MemoryReport {
  /** Bytes resident when the first measurement began, and when the last one ended; worker threads included. */
  rssStart: number;
  rssEnd: number;
  /** Least-squares slope of the resident bytes over time, warm-ups left out; null for runs shorter than SLOPE_SECONDS. */
  slopeBytesPerSecond: number | null;
  /** Standard error of the slope: a slope within twice of it is noise. */
  slopeErrorBytesPerSecond: number | null;
  samples: number;
  /** Bytes that the batch path takes from the V8 heap per request; null where it was not measured. */
  heapBytesPerRequest: number | null;
}

interface Sample {
  seconds: number;
  bytes: number;
}

/** Samples the resident set during each of several runs. */
export class MemoryMonitor {
  readonly #runs: Sample[][] = [];
  #rssStart = 0;
  #rssEnd = 0;
  #timer: NodeJS.Timeout | undefined;

  /** Begins a run that will take about `seconds`. */
  start(seconds: number): void {
    // What verification left on the heap would come back to the system little by little during the run: a slope of its own.
    collectGarbage();
    this.#rssStart ||= process.memoryUsage.rss();
    if (seconds < SLOPE_SECONDS) return;
    const begin = performance.now();
    const samples: Sample[] = [];
    this.#runs.push(samples);
    this.#timer = setInterval(() => {
      const elapsed = (performance.now() - begin) / 1000;
      if (elapsed >= seconds * WARM_UP) samples.push({ seconds: elapsed, bytes: process.memoryUsage.rss() });
    }, SAMPLE_INTERVAL_MS);
  }

  /** Ends the run. */
  stop(): void {
    clearInterval(this.#timer);
    this.#rssEnd = process.memoryUsage.rss();
  }

  report(heapBytesPerRequest: number | null): MemoryReport {
    const { slope, error, samples } = commonSlope(this.#runs);
    return {
      rssStart: this.#rssStart,
      rssEnd: this.#rssEnd,
      slopeBytesPerSecond: slope,
      slopeErrorBytesPerSecond: error,
      samples,
      heapBytesPerRequest,
    };
  }
}

/** A full garbage collection, without the command-line flag that it usually takes. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  setFlagsFromString('--no-expose-gc');
  collect();
}

/**
 * The least-squares slope that several runs have in common, each run with a level of its own: what one run leaves behind is
 * no slope of the next. The error is the slope's standard error, made wider for samples that follow each other: memory under
 * a garbage collector goes up and down in saw-teeth, of which many samples tell no more than a few.
 */
export function commonSlope(runs: readonly (readonly Sample[])[]): {
  slope: number | null;
  error: number | null;
  samples: number;
} {
  const centred = runs.filter((run) => run.length > 1).map(aroundMean);
  const samples = centred.reduce((count, run) => count + run.length, 0);
  const variance = sum(centred, ({ seconds }) => seconds ** 2);
  const freedom = samples - centred.length - 1;
  if (variance === 0 || freedom < 1) return { slope: null, error: null, samples };
  const slope = sum(centred, ({ seconds, bytes }) => seconds * bytes) / variance;
  const residuals = centred.map((run) => run.map(({ seconds, bytes }) => bytes - slope * seconds));
  const squares = residuals.flat().reduce((total, residual) => total + residual ** 2, 0);
  if (squares === 0) return { slope, error: 0, samples };
  const neighbours = residuals.reduce(
    (total, run) => total + run.slice(1).reduce((part, residual, i) => part + residual * run[i]!, 0),
    0,
  );
  const correlation = Math.min(CORRELATION_MAXIMUM, Math.max(0, neighbours / squares));
  const error = Math.sqrt(((squares / freedom / variance) * (1 + correlation)) / (1 - correlation));
  return { slope, error, samples };
}

/** The samples of a run, less their means. */
function aroundMean(run: readonly Sample[]): Sample[] {
  const mean = (of: (sample: Sample) => number) =>
    run.reduce((total, sample) => total + of(sample), 0) / run.length;
  const seconds = mean((sample) => sample.seconds);
  const bytes = mean((sample) => sample.bytes);
  return run.map((sample) => ({ seconds: sample.seconds - seconds, bytes: sample.bytes - bytes }));
}

function sum(runs: readonly (readonly Sample[])[], of: (sample: Sample) => number): number {
  return runs.flat().reduce((total, sample) => total + of(sample), 0);
}
