import type { LatencyRecorder } from '../queue/latency-recorder.js';

/** No moment of `performance.now`. */
const NEVER = -1;

/** Times requests of a driven queue, one at a time, from before they are offered until they have been reaped. */
export class RequestTimer {
  readonly #recorder: LatencyRecorder;
  #since = NEVER;
  #key = 0;

  constructor(recorder: LatencyRecorder) {
    this.#recorder = recorder;
  }

  /** A submission begins: since when its first request is timed, if that is so. */
  get start(): number {
    return this.#since === NEVER && this.#recorder.due() ? performance.now() : NEVER;
  }

  /** That request is on the ring; `key` tells it from others there. */
  offered(since: number, key: number): void {
    if (since === NEVER) return;
    this.#recorder.begin();
    this.#since = since;
    this.#key = key;
  }

  /** What is on the ring will not come back: the queue is reset. */
  forget(): void {
    this.#since = NEVER;
  }

  /** Looks for it among what was reaped: `count` keys in `words`, from `first`, `stride` words apart. */
  reaped(words: Int32Array | Uint32Array, first: number, stride: number, count: number): void {
    if (this.#since === NEVER) return;
    for (let word = first, end = first + count * stride; word < end; word += stride) {
      if (words[word] !== this.#key) continue;
      this.#recorder.record(performance.now() - this.#since, 1);
      this.#since = NEVER;
      return;
    }
  }
}
