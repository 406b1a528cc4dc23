import { loadAddon, type Watcher } from '../native/addon.js';

/** Where config interrupts arrive: an eventfd for VHOST_VDPA_SET_CONFIG_CALL, and the event loop's interest in it. */
export class ConfigWatch {
  readonly fd: number;
  readonly #watcher: Watcher;

  /** Calls back on each interrupt. Keeps the process alive only after `ref`. */
  constructor(callback: () => void) {
    const addon = loadAddon();
    const fd = addon.eventfd();
    this.fd = fd;
    this.#watcher = addon.watch(fd, () => {
      addon.eventfdDrain(fd);
      callback();
    });
    this.#watcher.unref();
  }

  /** Keeps the process alive. */
  ref(): void {
    this.#watcher.ref();
  }

  /** Takes `ref` back. */
  unref(): void {
    this.#watcher.unref();
  }

  /** Calls back no more. The other side has a reference of its own to the eventfd. */
  close(): void {
    this.#watcher.close();
    loadAddon().close(this.fd);
  }
}
