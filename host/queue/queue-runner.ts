import {
  COUNT_MASK,
  NOTIFY_DUE,
  VERDICT_MEMORY_LOST,
  VERDICT_TRAP,
  VQ_CROSSINGS,
  VQ_MISS,
  VQ_TRAPS,
  VQ_VERDICT,
} from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import { RuntimeError } from '../aperture/web-assembly.js';
import type { Datapath } from './datapath.js';
import type { Interrupter } from './interrupter.js';
import type { QueueBlock } from './queue-block.js';
import { count } from './queue-stats.js';

/**
 * How a passage through the gate ended: 'served' some chains, and there may be more; 'idle', there are none; 'closed', the control plane has the
 * queue; 'stalled', the queue waits for a mapping or is broken, and the control plane has been told.
 */
export type Passage = 'served' | 'idle' | 'closed' | 'stalled';

/** The part of running a queue that threads and event loops share: one passage through the gate at a time. */
export class QueueRunner {
  readonly #aperture: Aperture;
  readonly #block: QueueBlock;
  readonly #datapath: Datapath;
  readonly #interrupter: Interrupter;
  readonly #sigbusFlag: number;
  /** Bursts can be timed: the data path does not time its requests itself. */
  readonly #timed: boolean;
  /** Indices of words of the block. */
  readonly #verdict: number;
  readonly #miss: number;
  readonly #attention: () => void;
  readonly #burst = (): boolean => {
    this.#block.flight?.stamp();
    const result = this.#timed && this.#block.latency.due() ? this.#timedBurst() : this.#datapath.burst();
    if (result & NOTIFY_DUE || this.#interrupter.owed) {
      count(this.#aperture, this.#block.vq, VQ_CROSSINGS, 1n);
      this.#interrupter.interrupt();
    }
    return (result & COUNT_MASK) > 0 && !this.#datapath.drained;
  };
  readonly #arm = (): boolean => {
    count(this.#aperture, this.#block.vq, VQ_CROSSINGS, 1n);
    return this.#aperture.engine.deviceArm(this.#block.vq) > 0;
  };
  readonly #disarm = (): boolean => {
    count(this.#aperture, this.#block.vq, VQ_CROSSINGS, 1n);
    this.#aperture.engine.deviceDisarm(this.#block.vq);
    return true;
  };

  /**
   * `sigbusFlag` is the linear address of the aperture's SIGBUS counter; `attention` tells the control plane to look at
   * the queue.
   */
  constructor(
    block: QueueBlock,
    datapath: Datapath,
    interrupter: Interrupter,
    sigbusFlag: number,
    attention: () => void,
  ) {
    this.#aperture = block.aperture;
    this.#block = block;
    this.#datapath = datapath;
    this.#timed = datapath.burstOnce !== undefined;
    this.#interrupter = interrupter;
    this.#sigbusFlag = sigbusFlag / 4;
    this.#verdict = (block.vq + VQ_VERDICT) / 4;
    this.#miss = (block.vq + VQ_MISS) / 4;
    this.#attention = attention;
  }

  /** One burst. */
  run(): Passage {
    return this.#pass(this.#burst);
  }

  /** Asks for kicks and looks once more: 'idle' means that it is safe to sleep. */
  arm(): Passage {
    return this.#pass(this.#arm);
  }

  /** Asks for no kicks while the queue is being polled anyway. With EVENT_IDX a stale avail_event does so by itself. */
  disarm(): Passage {
    return this.#block.eventIdx ? 'idle' : this.#pass(this.#disarm);
  }

  #timedBurst(): number {
    const { latency } = this.#block;
    const start = performance.now();
    const result = this.#datapath.burstOnce!();
    const chains = result & COUNT_MASK;
    // Nothing was there: who wants to wait for it waits, and the next passage is timed.
    if (chains === 0) return this.#datapath.burst();
    latency.record(performance.now() - start, chains);
    latency.begin();
    return result;
  }

  /** `inside` is one of the functions above: a closure made for each passage would be garbage, and never compiled well. */
  #pass(inside: () => boolean): Passage {
    const { gate, vq } = this.#block;
    if (!gate.enter()) return 'closed';
    let busy = false;
    let unsound = true;
    // Unsound from the start: whoever noticed it has told the control plane.
    const told = this.#unsound();
    try {
      // Before, too: each lost page costs a mapping of its own, of which a process has only so many.
      if (!told && !this.#memoryLost()) busy = inside();
      if (this.#memoryLost()) this.#aperture.engine.deviceBreak(vq, VERDICT_MEMORY_LOST);
    } catch (error) {
      // A driver can take memory away at any moment (mprotect is not ours to forbid): a trap is its fault, not a bug.
      if (!(error instanceof RuntimeError)) throw error;
      this.#aperture.engine.deviceBreak(vq, VERDICT_TRAP);
      count(this.#aperture, vq, VQ_TRAPS, 1n);
    } finally {
      unsound = this.#unsound();
      gate.leave();
    }
    // Told outside the gate: the control plane takes the queue at once.
    if (unsound && !told) this.#attention();
    if (unsound) return 'stalled';
    return busy ? 'served' : 'idle';
  }

  // Plain loads, because V8 calls a function for each atomic one. Of the block's words, nobody else writes any while this
  // thread is inside the gate. What this thread has lost it has counted itself, and a page that another one has lost may be
  // read as zeroes before that one has counted it, however it is looked for: the look behind the next burst tells then.

  #memoryLost(): boolean {
    return this.#aperture.i32[this.#sigbusFlag] !== 0;
  }

  #unsound(): boolean {
    const { i32 } = this.#aperture;
    return (i32[this.#verdict]! | i32[this.#miss]!) !== 0;
  }
}
