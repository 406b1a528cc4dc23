import {
  LATENCY_BLOCK_SIZE,
  LATENCY_BUCKET_BITS,
  LATENCY_BUCKETS,
  LATENCY_COUNTS,
  LATENCY_SUM,
} from '../../assembly/layout.js';
import { bucketOf, bucketTop } from './latency-buckets.js';

const NS_PER_MS = 1e6;
/** Between two requests, or bursts, that are timed: calls that begin one and are not. */
const SAMPLE_INTERVAL = 8;

/** How long requests took, of those that were timed. */
export interface LatencySnapshot {
  /** How many were timed since the queue was made. */
  readonly samples: number;
  /** Of all of them, nanoseconds. */
  readonly sum: number;
  /** Those that took at most so many nanoseconds, and more than the entry before says: [nanoseconds, samples]. */
  readonly buckets: readonly (readonly [nanoseconds: number, samples: number])[];
}

/**
 * Times some of a queue's requests while somebody wants to know how long they take: so few of them that nobody notices. While
 * nobody does, it costs a load and a branch. One thread times, others may read.
 */
export class LatencyRecorder {
  readonly #switch: Int32Array;
  readonly #at: number;
  readonly #sum: BigUint64Array;
  readonly #counts: Uint32Array;
  /** Calls of `due` that still say no. */
  #left = 0;

  /** One in memory of its own. */
  static create(): LatencyRecorder {
    return new LatencyRecorder(new Int32Array(1), 0, new ArrayBuffer(LATENCY_BLOCK_SIZE), 0);
  }

  /** Word `at` of `toggle` is its switch; a LATENCY block lies at `offset` in `buffer`. */
  constructor(toggle: Int32Array, at: number, buffer: ArrayBufferLike, offset: number) {
    this.#switch = toggle;
    this.#at = at;
    this.#sum = new BigUint64Array(buffer, offset + LATENCY_SUM, 1);
    this.#counts = new Uint32Array(buffer, offset + LATENCY_COUNTS, LATENCY_BUCKETS);
  }

  /** Begins or ends to time requests. What was recorded stays. */
  set on(on: boolean) {
    Atomics.store(this.#switch, this.#at, on ? 1 : 0);
  }

  /** Whether what begins now is to be timed. It is asked once for each. */
  due(): boolean {
    // A plain load: what is switched on is noticed some time.
    if (this.#switch[this.#at] === 0) return false;
    if (this.#left === 0) return true;
    this.#left--;
    return false;
  }

  /** Something that was due has begun: the next ones are not. */
  begin(): void {
    this.#left = SAMPLE_INTERVAL;
  }

  /** It took that long, and was `requests` requests. */
  record(milliseconds: number, requests: number): void {
    const ns = milliseconds * NS_PER_MS;
    const bucket = bucketOf(ns, LATENCY_BUCKET_BITS);
    this.#counts[bucket] = this.#counts[bucket]! + requests;
    this.#sum[0] = BigInt.asUintN(64, this.#sum[0]! + BigInt(Math.round(ns) * requests));
  }

  /** What was recorded so far; undefined for nothing. */
  snapshot(): LatencySnapshot | undefined {
    const buckets: [number, number][] = [];
    let samples = 0;
    for (let bucket = 0; bucket < LATENCY_BUCKETS; bucket++) {
      const count = this.#counts[bucket]!;
      if (count === 0) continue;
      buckets.push([bucketTop(bucket, LATENCY_BUCKET_BITS), count]);
      samples += count;
    }
    return samples === 0 ? undefined : { samples, sum: Number(this.#sum[0]), buckets };
  }
}
