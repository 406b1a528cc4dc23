import { VQ_KICKS } from '../../assembly/layout.js';
import { loadAddon, type Watcher } from '../native/addon.js';
import type { QueueBlock } from './queue-block.js';
import type { QueueRunner } from './queue-runner.js';
import { count } from './queue-stats.js';

/** Bursts of one turn; then the rest of the program has its turn. */
const TURN_BURSTS = 16;

/** Milliseconds between looks at a ring whose doorbell nobody watches. */
const DOORBELL_INTERVAL_MS = 1;

/** Runs one queue on the event loop of the calling thread. Its watchers do not keep the process alive. */
export class QueueLoop {
  readonly #block: QueueBlock;
  readonly #runner: QueueRunner;
  readonly #settle: () => void;
  readonly #wake: Watcher;
  #kick: { fd: number; watcher: Watcher } | undefined;
  readonly #doorbell: NodeJS.Timeout | undefined;
  #scheduled: NodeJS.Immediate | undefined;
  #closed = false;

  /**
   * `wakeFd` is the eventfd by which the control plane wakes this queue; `doorbell` says that the driver may ring a page,
   * which wakes nobody; `settle` is called outside the gate after each
   * burst, for work of the model that must not happen inside.
   */
  constructor(block: QueueBlock, runner: QueueRunner, wakeFd: number, doorbell: boolean, settle: () => void) {
    if (doorbell) this.#doorbell = setInterval(() => this.schedule(), DOORBELL_INTERVAL_MS).unref();
    this.#block = block;
    this.#runner = runner;
    this.#settle = settle;
    this.#wake = loadAddon().watch(wakeFd, () => {
      loadAddon().eventfdDrain(wakeFd);
      this.#watchKicks();
      this.schedule();
    });
    this.#wake.unref();
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
    clearInterval(this.#doorbell);
    this.#wake.close();
    this.#forgetKicks();
  }

  #turn(): void {
    for (let bursts = 0; bursts < TURN_BURSTS; bursts++) {
      const passage = this.#runner.run();
      this.#settle();
      if (this.#closed || passage === 'closed' || passage === 'stalled') return;
      if (passage === 'idle' && this.#runner.arm() !== 'served') return;
    }
    this.schedule();
  }

  /**
   * Watches a duplicate of the kick eventfd, and a fresh one after each kick: the transport may put another eventfd behind
   * the same number at any time, which an epoll set (unlike poll) does not notice. It signals the old one when it does so.
   */
  #watchKicks(): void {
    this.#forgetKicks();
    const { kickFd } = this.#block;
    if (kickFd < 0) return;
    const addon = loadAddon();
    const fd = addon.duplicate(kickFd);
    const watcher = addon.watch(fd, () => {
      if (addon.eventfdDrain(fd) > 0) count(this.#block.aperture, this.#block.vq, VQ_KICKS, 1);
      this.#watchKicks();
      this.schedule();
    });
    watcher.unref();
    this.#kick = { fd, watcher };
  }

  #forgetKicks(): void {
    this.#kick?.watcher.close();
    if (this.#kick) loadAddon().close(this.#kick.fd);
    this.#kick = undefined;
  }
}
