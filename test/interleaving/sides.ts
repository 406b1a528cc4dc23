import * as layout from '../../assembly/layout.js';
import type { Engine } from '../../host/aperture/engine.js';
import type { Ring } from '../engine/fixture.js';

/** What a side does between two calls of the engine. */
export type Step =
  | {
      readonly kind: 'call';
      readonly call: (engine: Engine) => number | undefined;
      readonly after: (result: number) => void;
    }
  /** Writes the other side's eventfd. */
  | { readonly kind: 'signal' }
  /** Sleeps until its own eventfd was written, and reads it. */
  | { readonly kind: 'wait' }
  | { readonly kind: 'end' };

/** One side's loop over the engine, as its host has it (host/queue/queue-loop.ts, host/drivers). All of its state is numbers. */
export interface Side {
  /** Where the loop is, and what it counts. */
  state: number[];
  /** Private memory of the engine that outlives a call: linear, bytes. */
  readonly memory: readonly [number, number][];
  /** What is next. */
  next(): Step;
  /** A signal was sent, or a wait is over. */
  passed(): void;
}

/** Counters, which nothing depends on, are left out of a block. */
function block(at: number): [number, number][] {
  return [[at, layout.VQ_REQUESTS]];
}

// State of the driver: where it is, requests submitted, requests completed as bits.
const SUBMIT = 0;
const KICK = 1;
const REAP = 2;
const ARM = 3;
const SLEEP = 4;
const DISARM = 5;
const END = 6;

/** Submits requests one by one, and sleeps when there is nothing to reap. */
export class DriverLoop implements Side {
  state = [SUBMIT, 0, 0];
  readonly memory: [number, number][];
  readonly #ring: Ring;
  readonly #requests: number;

  constructor(ring: Ring, requests: number) {
    this.#ring = ring;
    this.#requests = requests;
    const slots = ring.u32(ring.dq + layout.DQ_SLOTS);
    this.memory = [
      ...block(ring.dq),
      [ring.u32(ring.dq + layout.DQ_SLOT_STATE), slots * layout.SLOT_STATE_SIZE],
      [ring.u32(ring.dq + layout.DQ_FREE_STACK), slots * 2],
      [ring.u32(ring.dq + layout.DQ_ORDER), slots * 2],
    ];
  }

  next(): Step {
    const { dq, submissions, completions } = this.#ring;
    const [at, submitted, completed] = this.state as [number, number, number];
    const go = (to: number) => {
      this.state = [to, this.state[1]!, this.state[2]!];
    };
    switch (at) {
      case SUBMIT:
        return {
          kind: 'call',
          call: (engine) => engine.blkSubmit(dq, submissions + submitted * layout.SUBMISSION_SIZE, 1),
          after: (result) => {
            const taken = result & layout.COUNT_MASK;
            this.state = [result & layout.NOTIFY_DUE ? KICK : REAP, submitted + taken, completed];
          },
        };
      case KICK:
        return { kind: 'signal' };
      case REAP:
        return {
          kind: 'call',
          call: (engine) => engine.blkReap(dq, completions, this.#requests, 0, 0),
          after: (count) => {
            const all = this.#complete(count, completed);
            const free = this.#ring.u32(dq + layout.DQ_FREE) > 0;
            if (all === 2 ** this.#requests - 1) this.state = [END, submitted, all];
            else if (submitted < this.#requests && free) this.state = [SUBMIT, submitted, all];
            else this.state = [count ? REAP : ARM, submitted, all];
          },
        };
      case ARM:
        return {
          kind: 'call',
          call: (engine) => engine.driverArm(dq),
          after: (waiting) => go(waiting ? DISARM : SLEEP),
        };
      case SLEEP:
        return { kind: 'wait' };
      case DISARM:
        return {
          kind: 'call',
          call: (engine) => void engine.driverDisarm(dq),
          after: () => go(REAP),
        };
      default:
        return { kind: 'end' };
    }
  }

  passed(): void {
    this.state = [this.state[0] === KICK ? REAP : DISARM, this.state[1]!, this.state[2]!];
  }

  /** Enters completions: each request once, and no verdict. */
  #complete(count: number, before: number): number {
    const verdict = this.#ring.u32(this.#ring.dq + layout.DQ_VERDICT);
    if (verdict) throw new Error(`the driver breaks with verdict ${verdict}`);
    let all = before;
    for (const { tag } of this.#ring.completed(count)) {
      if (all & (1 << tag)) throw new Error(`request ${tag} completes twice`);
      all |= 1 << tag;
    }
    return all;
  }
}

const SERVE = 0;
const INTERRUPT = 1;
const DEVICE_ARM = 2;
const DEVICE_SLEEP = 3;
const DEVICE_DISARM = 4;

/** Serves a disk in memory, and sleeps when there is nothing to serve. */
export class DeviceLoop implements Side {
  state = [SERVE];
  readonly memory: [number, number][];
  readonly #ring: Ring;

  constructor(ring: Ring) {
    this.#ring = ring;
    this.memory = block(ring.vq);
  }

  next(): Step {
    const { vq, disk } = this.#ring;
    switch (this.state[0]) {
      case SERVE:
        return {
          kind: 'call',
          call: (engine) => engine.blkServe(vq, disk),
          after: (result) => {
            const verdict = this.#ring.u32(vq + layout.VQ_VERDICT);
            if (verdict) throw new Error(`the device breaks with verdict ${verdict}`);
            if (result & layout.NOTIFY_DUE) this.state = [INTERRUPT];
            else this.state = [result ? SERVE : DEVICE_ARM];
          },
        };
      case INTERRUPT:
        return { kind: 'signal' };
      case DEVICE_ARM:
        return {
          kind: 'call',
          call: (engine) => engine.deviceArm(vq),
          after: (waiting) => {
            this.state = [waiting ? DEVICE_DISARM : DEVICE_SLEEP];
          },
        };
      case DEVICE_SLEEP:
        return { kind: 'wait' };
      default:
        return {
          kind: 'call',
          call: (engine) => void engine.deviceDisarm(vq),
          after: () => {
            this.state = [SERVE];
          },
        };
    }
  }

  passed(): void {
    this.state = [this.state[0] === INTERRUPT ? SERVE : DEVICE_DISARM];
  }
}
