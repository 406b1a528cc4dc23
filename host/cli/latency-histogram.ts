import { bucketCount, bucketOf, bucketTop } from '../queue/latency-buckets.js';

/** A value is told within 1/128 of itself. */
const BUCKET_BITS = 7;
const BUCKETS = bucketCount(BUCKET_BITS);
/** Nanoseconds per millisecond and per microsecond. */
const NS_PER_MS = 1e6;
const NS_PER_US = 1e3;

/** Latencies in microseconds. */
export interface Latency {
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

/**
 * A histogram of latencies with logarithmic buckets, each cut into equal parts. Recording allocates nothing, which is why
 * perf_hooks' own histogram, a crossing into C++ per value, is not used.
 */
export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  /** Index 0: the longest latency, in milliseconds; a typed array, for a field of a class would be a new heap number. */
  readonly #max = new Float64Array(1);
  readonly #total = new Float64Array(1);

  /** How many values were recorded. */
  get count(): number {
    return this.#total[0]!;
  }

  /** Adds one latency, in milliseconds as performance.now counts them. */
  record(milliseconds: number): void {
    if (milliseconds > this.#max[0]!) this.#max[0] = milliseconds;
    const bucket = bucketOf(milliseconds * NS_PER_MS, BUCKET_BITS);
    this.#counts[bucket] = this.#counts[bucket]! + 1;
    this.#total[0] = this.#total[0]! + 1;
  }

  /** The smallest recorded latency, in microseconds, that at least `fraction` of the values do not exceed; 0 when empty. */
  percentile(fraction: number): number {
    const rank = Math.max(1, Math.ceil(fraction * this.count));
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      seen += this.#counts[bucket]!;
      if (seen >= rank)
        return Math.min(bucketTop(bucket, BUCKET_BITS), this.#max[0]! * NS_PER_MS) / NS_PER_US;
    }
    return 0;
  }

  /** The percentiles that a report shows. */
  latency(): Latency {
    return {
      p50: this.percentile(0.5),
      p90: this.percentile(0.9),
      p99: this.percentile(0.99),
      p999: this.percentile(0.999),
      max: (this.#max[0]! * NS_PER_MS) / NS_PER_US,
    };
  }
}
