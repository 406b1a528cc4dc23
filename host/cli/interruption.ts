import { constants } from 'node:os';

/** The signals that end a command cleanly. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Milliseconds that a command may take to close everything; then the process ends anyway. */
const CLEAN_UP_MS = 5000;

/** Why a command was aborted. */
export class Interruption extends Error {
  override readonly name = 'Interruption';
  /** Exit status by the shells' convention: 130 for Ctrl-C. */
  readonly status: number;
  readonly #limit: NodeJS.Timeout;

  constructor(signal: (typeof SIGNALS)[number]) {
    super(`ended by ${signal}`);
    this.status = 128 + constants.signals[signal];
    this.#limit = setTimeout(() => {
      process.stderr.write(`ringbell: ${signal}: something did not close within ${CLEAN_UP_MS / 1000} s\n`);
      process.exit(this.status);
    }, CLEAN_UP_MS).unref();
  }

  /** From now on the command may take as long as it likes to close everything. */
  lift(): void {
    clearTimeout(this.#limit);
  }
}

/** A signal that Ctrl-C aborts, once; a second Ctrl-C, or a clean-up that takes too long, ends the process on the spot. */
export function abortOnInterruption(): AbortSignal {
  const controller = new AbortController();
  for (const signal of SIGNALS)
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit((controller.signal.reason as Interruption).status);
      controller.abort(new Interruption(signal));
    });
  return controller.signal;
}
