import { loadAddon, type Watcher } from '../native/addon.js';
import type { DriverQueue } from './driver-queue.js';

/** How completions are noticed: by interrupt, or by looking again on each turn of the event loop. */
export type CompletionMode = 'notify' | 'poll';

/** Sees to it that the completions of one queue are noticed on the caller's event loop, while anybody waits for them. */
export class CompletionWatch {
  readonly mode: CompletionMode;
  readonly #queue: DriverQueue;
  readonly #look: () => void;
  readonly #watcher: Watcher | undefined;
  #armed = false;
  #immediate: NodeJS.Immediate | undefined;
  #holds = true;
  #held = false;
  #closed = false;

  /** `look` takes completions and ends with `settle`: at most one look is due at any time. */
  constructor(queue: DriverQueue, mode: CompletionMode, look: () => void) {
    this.#queue = queue;
    this.mode = mode;
    this.#look = look;
    if (mode === 'notify') {
      this.#watcher = loadAddon().watch(queue.callFd, () => {
        queue.drainCall();
        this.#turn();
      });
      this.#watcher.unref();
    } else queue.memory.aperture.engine.driverDisarm(queue.block);
  }

  /** `waits`: whether the next completion matters. Until it is noticed the process lives, unless `hold` says otherwise. */
  settle(waits: boolean): void {
    if (this.#closed) return;
    if (waits) {
      if (this.mode === 'poll') this.#again();
      else if (!this.#armed) this.#arm();
    }
    const held = waits && this.#holds;
    if (held === this.#held) return;
    this.#held = held;
    if (held) this.#watcher?.ref();
    else this.#watcher?.unref();
    if (held) this.#immediate?.ref();
    else this.#immediate?.unref();
  }

  /** Whether waiting keeps the process alive. Counts from the next `settle`. */
  hold(holds: boolean): void {
    this.#holds = holds;
  }

  /** The queue was started anew, and wants no interrupts until the next `settle`. */
  restart(): void {
    this.#armed = false;
  }

  /** Looks no more. */
  close(): void {
    this.#closed = true;
    clearImmediate(this.#immediate);
    this.#watcher?.close();
  }

  #arm(): void {
    const queue = this.#queue;
    this.#armed = true;
    queue.crossings++;
    // What was used before the arming interrupts no more; nor does a ring that the look found broken.
    if (queue.memory.aperture.engine.driverArm(queue.block) > 0 || queue.broken) this.#again();
  }

  #again(): void {
    if (this.#immediate) return;
    this.#immediate = setImmediate(this.#turn);
    if (!this.#holds) this.#immediate.unref();
  }

  readonly #turn = (): void => {
    if (this.#closed) return;
    this.#immediate = undefined;
    this.#armed = false;
    this.#look();
  };
}
