/** Waits that end: a test fails instead of waiting for ever. */

/** Milliseconds: long enough for the slowest machine, short enough to say which test hangs. */
const WAIT_MS = 30_000;
/** Milliseconds between two looks at a condition. */
const LOOK_MS = 2;

/** What `promise` resolves to. Rejects when it has not settled in time. */
export async function within<T>(promise: Promise<T>, what: string, milliseconds = WAIT_MS): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`timed out: ${what}`)), milliseconds);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves once a condition holds. Rejects when it does not in time. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
