import { loadAddon } from '../native/addon.js';

type GiveBack = () => void | Promise<void>;

/** What a device holds, and how it is given back: last thing first. */
export class Belongings {
  /** Whether a thread could not be stopped: what it may use stays for as long as the process. */
  abandoned = false;
  readonly #held: GiveBack[] = [];

  add(giveBack: GiveBack): void {
    this.#held.push(giveBack);
  }

  /** The same for what threads of the device use. */
  addShared(giveBack: GiveBack): void {
    this.add(() => (this.abandoned ? undefined : giveBack()));
  }

  /** An eventfd, for threads to use. */
  eventfd(): number {
    const fd = loadAddon().eventfd();
    this.addShared(() => loadAddon().close(fd));
    return fd;
  }

  /** Gives everything back. What cannot be given back is told to `failed`, and keeps nothing else. */
  async giveBack(failed: (error: unknown) => void): Promise<void> {
    for (let next = this.#held.pop(); next; next = this.#held.pop()) {
      try {
        await next();
      } catch (error) {
        failed(error);
      }
    }
  }
}
