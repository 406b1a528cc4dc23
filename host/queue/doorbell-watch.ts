import { VQ_CROSSINGS } from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import { count } from './queue-stats.js';

/** Milliseconds that a thread spins at most before it sleeps. */
const SPIN_LIMIT_MS = 1;
/** Milliseconds; rings that are expected in longer gaps are not worth spinning for. */
const SPIN_GAP_MS = 0.2;
/** Of the time that is expected to pass until the next ring, what a thread is ready to spin. */
const SPIN_FACTOR = 8;
/** Looks between two looks at the clock; a few microseconds. */
const SPIN_LOOKS = 256;
/** Waits at most in which no spin is tried, after spins that have found nothing. */
const REST_LIMIT = 64;
/** Weight of the last gap between two rings in the expectation of the next. */
const GAP_WEIGHT = 1 / 8;
/** Milliseconds that count of a gap at most, so that one long rest does not hide a dense traffic. */
const GAP_LIMIT_MS = 2 * SPIN_GAP_MS;
/** Milliseconds of the first sleep after a ring, and of the longest: after that a ring is seen at the latest. */
const PAUSE_MINIMUM_MS = 0.05;
const PAUSE_MAXIMUM_MS = 1;

/**
 * Watches the software doorbells of the queues of one thread: rings wake nobody, so that their price is paid here, in CPU
 * time or in latency. While rings follow each other within SPIN_GAP_MS, it pays to spin until the next; when they do not, the
 * caller sleeps between looks, each time for twice as long. Nor does it pay on a CPU that the driver waits for: after a spin
 * that has found nothing none is tried for one wait, then for two, four and so on. No ring is lost: what comes while nobody looks is there at the
 * next look.
 */
export class DoorbellWatch {
  readonly #aperture: Aperture;
  readonly #list: number;
  readonly #counters: number;
  /** Milliseconds that are expected between two rings. */
  #gapMs = GAP_LIMIT_MS;
  /** When the doorbell was last rung, as far as that is known, and when it was last looked at in vain. */
  #lastRing = performance.now();
  #lastLook = this.#lastRing;
  #pauseMs = PAUSE_MINIMUM_MS;
  /** Waits that are left without a spin, and how many there will be after the next that finds nothing. */
  #rest = 0;
  #nextRest = 1;

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
    if (this.#rest > 0) {
      this.#rest--;
      return rung;
    }
    const end = this.#lastLook + Math.min(this.#gapMs * SPIN_FACTOR, SPIN_LIMIT_MS);
    while (rung === 0 && this.#lastLook < end) rung = this.#look(mask, SPIN_LOOKS);
    this.#rest = rung === 0 ? this.#nextRest : 0;
    this.#nextRest = rung === 0 ? Math.min(2 * this.#nextRest, REST_LIMIT) : 1;
    return rung;
  }

  #look(mask: number, spins: number): number {
    count(this.#aperture, this.#counters, VQ_CROSSINGS, 1n);
    const rung = this.#aperture.engine.doorbellWatch(this.#list, mask, spins);
    const now = performance.now();
    if (rung !== 0) this.#noteRing(now);
    this.#lastLook = now;
    return rung;
  }

  #noteRing(now: number): void {
    // At some moment since the last look. Taken for the moment that it was seen, rings that are found after a sleep would
    // never seem denser than the sleeps are.
    const time = (this.#lastLook + now) / 2;
    this.#gapMs += (Math.min(time - this.#lastRing, GAP_LIMIT_MS) - this.#gapMs) * GAP_WEIGHT;
    this.#lastRing = time;
    this.#pauseMs = PAUSE_MINIMUM_MS;
  }
}
