import { loadAddon, type Watcher } from '../native/addon.js';

/** Milliseconds between looks at queues that are not ready yet. */
const LOOK_INTERVAL_MS = 200;

/**
 * Has somebody look again at queues that were not ready at DRIVER_OK, for transports that send no message when they are
 * (VDUSE_F_QUEUE_READY): at each kick, which the transport lets through once the queue is ready, and by timer, because a
 * driver need not kick.
 */
export class LateQueues {
  readonly #look: () => void;
  readonly #intervalMs: number;
  readonly #watchers: Watcher[] = [];
  #timer: NodeJS.Timeout | undefined;

  /** `look` is called each time that one may be ready; `intervalMs` is the timer's period in milliseconds. */
  constructor(look: () => void, intervalMs: number = LOOK_INTERVAL_MS) {
    this.#look = look;
    this.#intervalMs = intervalMs;
  }

  /** Starts, in place of whatever was watched before; `kickFds` are the late queues' eventfds. */
  watch(kickFds: readonly number[]): void {
    this.stop();
    this.#timer = setInterval(this.#look, this.#intervalMs).unref();
    for (const fd of kickFds) {
      const watcher = loadAddon().watch(fd, () => {
        // Left in the eventfd, for the thread that will run the queue: watching for it once is enough.
        watcher.close();
        this.#look();
      });
      watcher.unref();
      this.#watchers.push(watcher);
    }
  }

  /** Ends it: no late queue is left, or the driver has reset the device. */
  stop(): void {
    clearInterval(this.#timer);
    for (const watcher of this.#watchers.splice(0)) watcher.close();
  }
}
