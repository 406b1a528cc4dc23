import { GATE_BUSY, GATE_OPEN, GATE_STOPPED, VQ_GATE, VQ_GATE_CLOSED } from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import type { Engine } from '../aperture/engine.js';

/**
 * The gate between the one thread that runs a queue and the one thread that controls it. Two words of the queue's block:
 * VQ_GATE says who owns the queue, VQ_GATE_CLOSED how many reasons there are to stay out.
 *
 *            enter: CAS                     pause: CAS
 *   BUSY  <-------------  OPEN  ------------------------->  STOPPED
 *         ------------->        <-------------------------
 *            leave: CAS                     resume: store
 *
 * Ownership is VQ_GATE alone: each transition is one sequentially consistent operation, so whoever leaves a state
 * releases everything that it wrote to the queue, and whoever enters the next acquires it. VQ_GATE_CLOSED keeps a busy
 * datapath from winning the race for VQ_GATE for ever, and tells a spinning one (blkPoll) to come out. The wake-up cannot
 * be lost: `pause` adds to VQ_GATE_CLOSED before it looks at VQ_GATE, `leave` stores VQ_GATE before it looks at
 * VQ_GATE_CLOSED; in the one order that all threads agree on, at least one of them sees the other.
 */
export class Gate {
  readonly #engine: Engine;
  readonly #vq: number;
  readonly #i32: Int32Array;
  readonly #gate: number;
  readonly #closed: number;

  /** `vq` is the linear address of the queue's block. */
  constructor(aperture: Aperture, vq: number) {
    this.#engine = aperture.engine;
    this.#vq = vq;
    this.#i32 = aperture.i32;
    this.#gate = (vq + VQ_GATE) / 4;
    this.#closed = (vq + VQ_GATE_CLOSED) / 4;
  }

  // The datapath's side, in assembly/gate.ts.

  /** Enters the queue for one burst: false while it is closed. */
  enter(): boolean {
    return this.#engine.gateEnter(this.#vq) !== 0;
  }

  /** Leaves after the burst. A gate that was forced to STOPPED meanwhile stays so. */
  leave(): void {
    this.#engine.gateLeave(this.#vq);
  }

  // The control plane's side.

  /** Closes the gate before anything runs: what a fresh block starts with. */
  close(): void {
    Atomics.store(this.#i32, this.#closed, 1);
    Atomics.store(this.#i32, this.#gate, GATE_STOPPED);
  }

  /**
   * Takes the queue from its thread, waiting for the burst in progress to end: false if it did not end within `limitMs`,
   * in which case the queue still counts as closed and `force` is all that is left. Pauses nest.
   */
  pause(limitMs: number): boolean {
    Atomics.add(this.#i32, this.#closed, 1);
    const deadline = performance.now() + limitMs;
    for (;;) {
      const state = Atomics.compareExchange(this.#i32, this.#gate, GATE_OPEN, GATE_STOPPED);
      if (state !== GATE_BUSY) return true;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      Atomics.wait(this.#i32, this.#gate, GATE_BUSY, left);
    }
  }

  /**
   * Undoes one `pause` (or `close`). The last one opens the gate and returns true: the caller then writes the queue's wake
   * eventfd, because its thread may have gone to sleep over the closed gate.
   */
  resume(): boolean {
    if (Atomics.load(this.#i32, this.#closed) > 1) {
      Atomics.sub(this.#i32, this.#closed, 1);
      return false;
    }
    // Open first: the datapath looks at VQ_GATE_CLOSED before VQ_GATE, and must not find the count at 0 and the gate shut.
    Atomics.store(this.#i32, this.#gate, GATE_OPEN);
    Atomics.store(this.#i32, this.#closed, 0);
    return true;
  }

  /** Takes the queue from a thread that is no more. Only after its end is certain, or the device is given up. */
  force(): void {
    Atomics.store(this.#i32, this.#gate, GATE_STOPPED);
    Atomics.notify(this.#i32, this.#gate);
  }

  /** Whether something keeps the datapath out. */
  get closed(): boolean {
    return Atomics.load(this.#i32, this.#closed) !== 0;
  }
}
