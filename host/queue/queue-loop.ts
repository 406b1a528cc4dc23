import { VQ_CROSSINGS, VQ_KICKS } from '../../assembly/layout.js';
import { loadAddon, type Watcher } from '../native/addon.js';
import type { Datapath } from './datapath.js';
import type { DoorbellWatch } from './doorbell-watch.js';
import type { QueueBlock } from './queue-block.js';
import type { QueueRunner } from './queue-runner.js';
import { count } from './queue-stats.js';

/** Bursts of one turn, and milliseconds after which no other is begun; then the rest of the program has its turn. */
const TURN_BURSTS = 16;
const TURN_LIMIT_MS = 10;
/** Milliseconds between looks at a doorbell. */
const DOORBELL_INTERVAL_MS = 1;
/** The only queue of the list that a loop watches. */
const FIRST = 1;

/** A data path on the event loop of the thread that serves the device. */
export interface LoopDatapath extends Datapath {
  /** Called outside the gate after each burst: runs code that is not ours. */
  settle?(): void;
  /** It takes no more until something that it holds has ended, which it says by `QueueLoop.schedule`. */
  readonly saturated?: boolean;
}

/** Runs one queue on the event loop of the calling thread. Its watchers do not keep the process alive. */
export class QueueLoop {
  readonly #block: QueueBlock;
  readonly #runner: QueueRunner;
  readonly #datapath: LoopDatapath;
  #kick: { fd: number; watcher: Watcher } | undefined;
  readonly #doorbell: DoorbellWatch;
  #doorbellTimer: NodeJS.Timeout | undefined;
  #scheduled: NodeJS.Immediate | undefined;
  #closed = false;

  /** `doorbell` watches this queue and no other; `datapath` is the runner's. */
  constructor(block: QueueBlock, runner: QueueRunner, doorbell: DoorbellWatch, datapath: LoopDatapath) {
    this.#doorbell = doorbell;
    this.#block = block;
    this.#runner = runner;
    this.#datapath = datapath;
  }

  /** The control plane has something new for this queue. */
  wake(): void {
    this.#watchKicks();
    this.#watchDoorbell();
    this.schedule();
  }

  /** Has the queue looked at soon. */
  schedule(): void {
    if (this.#closed) return;
    this.#scheduled ??= setImmediate(() => {
      this.#scheduled = undefined;
      this.#turn();
    });
  }

  /** Stops for good. The queue must be stopped already, or never be touched again. */
  close(): void {
    this.#closed = true;
    clearImmediate(this.#scheduled);
    clearInterval(this.#doorbellTimer);
    this.#kick?.watcher.close();
  }

  #turn(): void {
    const end = performance.now() + TURN_LIMIT_MS;
    for (let bursts = 0; bursts < TURN_BURSTS && performance.now() < end; bursts++) {
      const passage = this.#runner.run();
      this.#datapath.settle?.();
      if (this.#closed || passage === 'closed' || passage === 'stalled') return;
      if (passage === 'idle' && (this.#datapath.saturated || this.#runner.arm() !== 'served')) return;
    }
    this.schedule();
  }

  /** Watches the number that the control plane has set; the transport may put another eventfd behind it at any time. */
  #watchKicks(): void {
    const { kickFd } = this.#block;
    if (kickFd === this.#kick?.fd) return;
    this.#kick?.watcher.close();
    this.#kick = undefined;
    if (kickFd < 0) return;
    const watcher = loadAddon().watch(kickFd, () => {
      const { aperture, vq } = this.#block;
      count(aperture, vq, VQ_CROSSINGS, 1n);
      if (loadAddon().eventfdDrain(kickFd) > 0) count(aperture, vq, VQ_KICKS, 1n);
      this.schedule();
    });
    watcher.unref();
    this.#kick = { fd: kickFd, watcher };
  }

  /** Looks at the doorbell in intervals for as long as there is one: a driver's store wakes nobody. */
  #watchDoorbell(): void {
    if (this.#block.doorbell !== 0)
      this.#doorbellTimer ??= setInterval(() => this.#lookAtDoorbell(), DOORBELL_INTERVAL_MS).unref();
  }

  #lookAtDoorbell(): void {
    const { aperture, doorbell, vq } = this.#block;
    if (doorbell === 0) {
      // The driver has gone; the control plane wakes this queue for the next.
      clearInterval(this.#doorbellTimer);
      this.#doorbellTimer = undefined;
    } else if (this.#doorbell.look(FIRST) !== 0) {
      count(aperture, vq, VQ_KICKS, 1n);
      this.schedule();
    }
  }
}
