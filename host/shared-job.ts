/** An asynchronous job that is done again and again, never twice at once: who comes while it runs shares the next run. */
export class SharedJob {
  readonly #job: () => Promise<void>;
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;

  constructor(job: () => Promise<void>) {
    this.#job = job;
  }

  /** Resolves when a run has ended that began after this call. Rejects if that run fails. */
  run(): Promise<void> {
    this.#next ??= this.#running
      .catch(() => {})
      .then(() => {
        this.#next = undefined;
        this.#running = this.#job();
        return this.#running;
      });
    return this.#next;
  }
}
