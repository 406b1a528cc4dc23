import { getHeapStatistics } from 'node:v8';

/** Milliseconds between two samples. */
const SAMPLE_INTERVAL_MS = 1000;
/** Seconds of the shortest run that is sampled: in a shorter one, what was there before is still being collected. */
export const SLOPE_SECONDS = 10;
/** Part of a run that does not count: pages touched for the first time, code being compiled. */
const WARM_UP = 0.25;

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

/**
 * The least-squares slope that several runs have in common, each run with a level of its own: what one run leaves behind is
 * no slope of the next. The error is the slope's standard error.
 */
export function commonSlope(runs: readonly (readonly Sample[])[]): {
  slope: number | null;
  error: number | null;
  samples: number;
} {
  let covariance = 0;
  let variance = 0;
  let varianceOfBytes = 0;
  let samples = 0;
  let levels = 0;
  for (const run of runs) {
    if (run.length < 2) continue;
    const meanSeconds = run.reduce((sum, sample) => sum + sample.seconds, 0) / run.length;
    const meanBytes = run.reduce((sum, sample) => sum + sample.bytes, 0) / run.length;
    for (const { seconds, bytes } of run) {
      covariance += (seconds - meanSeconds) * (bytes - meanBytes);
      variance += (seconds - meanSeconds) ** 2;
      varianceOfBytes += (bytes - meanBytes) ** 2;
    }
    samples += run.length;
    levels++;
  }
  const freedom = samples - levels - 1;
  if (variance === 0 || freedom < 1) return { slope: null, error: null, samples };
  const slope = covariance / variance;
  const residual = Math.max(0, varianceOfBytes - slope * covariance);
  return { slope, error: Math.sqrt(residual / freedom / variance), samples };
}

/** Looks at the heap that tell what looking itself costs. */
const CALIBRATION_LOOKS = 32;

/**
 * Measures what a piece of code takes from the V8 heap. Node 20 has no counter of allocated bytes, but between two garbage
 * collections the used size of the heap is one: it only grows, by exactly what was allocated. So many short stretches of the
 * code are measured, those that a collection cut short (their heap shrank) are dropped, the cost of looking is subtracted,
 * and the median is taken.
 */
export class HeapMeter {
  readonly #perRequest: number[] = [];
  /** Bytes that one look allocates. */
  readonly #lookBytes: number;
  #before = 0;

  constructor() {
    let least = Number.POSITIVE_INFINITY;
    for (let look = 0; look < CALIBRATION_LOOKS; look++) {
      this.begin();
      const bytes = this.#used() - this.#before;
      if (bytes >= 0) least = Math.min(least, bytes);
    }
    this.#lookBytes = least;
  }

  /** Begins a stretch. */
  begin(): void {
    this.#before = this.#used();
  }

  /** Ends a stretch that carried `requests` requests. */
  end(requests: number): void {
    const bytes = this.#used() - this.#before - this.#lookBytes;
    if (bytes >= -this.#lookBytes && requests > 0) this.#perRequest.push(Math.max(0, bytes) / requests);
  }

  /** Bytes per request: the median stretch; null when there was none. */
  bytesPerRequest(): number | null {
    const sorted = this.#perRequest.toSorted((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? null;
  }

  #used(): number {
    return getHeapStatistics().used_heap_size;
  }
}
