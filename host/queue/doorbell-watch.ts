import { VQ_CROSSINGS } from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import { count } from './queue-stats.js';

/** Milliseconds that a thread spins at most before it sleeps: a few times what being woken from a sleep takes. */
const SPIN_LIMIT_MS = 0.25;
/** Milliseconds; rings that are expected in longer gaps are not worth spinning for. */
const SPIN_GAP_MS = SPIN_LIMIT_MS / 2;
/** Of the time that is expected to pass until the next ring, what a thread is ready to spin. */
const SPIN_FACTOR = 8;
/** Looks between two looks at the clock; a few microseconds. */
const SPIN_LOOKS = 256;
/** Weight of the last gap between two rings in the expectation of the next. */
const GAP_WEIGHT = 1 / 8;
/** Milliseconds that count of a gap at most, so that one long rest does not hide a dense traffic. */
const GAP_LIMIT_MS = 2 * SPIN_LIMIT_MS;
/** Milliseconds of the first sleep after a ring, and of the longest: after that a ring is seen at the latest. */
const PAUSE_MINIMUM_MS = 0.05;
const PAUSE_MAXIMUM_MS = 1;

/**
 * Watches the software doorbells of the queues of one thread: rings wake nobody, so that their price is paid here, in CPU
 * time or in latency. While rings follow each other within SPIN_GAP_MS, it pays to spin until the next; when they do not, the
 * caller sleeps between looks, each time for twice as long. No ring is lost: what comes while nobody looks is there at the
 * next look.
 */
export class DoorbellWatch {
  readonly #aperture: Aperture;
  readonly #list: number;
  readonly #counters: number;
  /** Milliseconds that are expected between two rings. */
  #gapMs = GAP_LIMIT_MS;
  #lastRing = performance.now();
  #pauseMs = PAUSE_MINIMUM_MS;

  /** The list of the queues whose VQ blocks are at `vqs`, at most 32: its linear address. */
  static allocate(aperture: Aperture, vqs: readonly number[]): number {
    const list = aperture.allocate(vqs.length * Uint32Array.BYTES_PER_ELEMENT);
    aperture.u32.set(vqs, list / Uint32Array.BYTES_PER_ELEMENT);
    return list;
  }

  /** `list` is what `allocate` gave; the VQ block at `counters` counts crossings. */
  constructor(aperture: Aperture, list: number, counters: number) {
    this.#aperture = aperture;
    this.#list = list;
    this.#counters = counters;
  }

  /** Looks once at the queues whose bits `mask` has, by their place in the list: a bit for each that has been rung. */
  look(mask: number): number {
    return this.#look(mask, 0);
  }

  /**
   * Waits for one of them to be rung: their bits; 0 once `sleep`, which sleeps for so many milliseconds at most, says that
   * something else is to be done.
   */
  wait(mask: number, sleep: (limitMs: number) => boolean): number {
    let rung = this.#spin(mask);
    while (rung === 0) {
      if (sleep(this.#pauseMs)) return 0;
      this.#pauseMs = Math.min(2 * this.#pauseMs, PAUSE_MAXIMUM_MS);
      rung = this.#look(mask, 0);
    }
    return rung;
  }

  /** Looks for as long as a ring is worth waiting for. */
  #spin(mask: number): number {
    let rung = this.#look(mask, 0);
    if (rung !== 0 || this.#gapMs > SPIN_GAP_MS) return rung;
    const end = performance.now() + Math.min(this.#gapMs * SPIN_FACTOR, SPIN_LIMIT_MS);
    do rung = this.#look(mask, SPIN_LOOKS);
    while (rung === 0 && performance.now() < end);
    return rung;
  }

  #look(mask: number, spins: number): number {
    count(this.#aperture, this.#counters, VQ_CROSSINGS, 1n);
    const rung = this.#aperture.engine.doorbellWatch(this.#list, mask, spins);
    if (rung !== 0) this.#noteRing();
    return rung;
  }

  #noteRing(): void {
    const now = performance.now();
    const gapMs = Math.min(now - this.#lastRing, GAP_LIMIT_MS);
    this.#gapMs += (gapMs - this.#gapMs) * GAP_WEIGHT;
    this.#lastRing = now;
    this.#pauseMs = PAUSE_MINIMUM_MS;
  }
}
