import { getHeapStatistics } from 'node:v8';

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
