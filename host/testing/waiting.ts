/** Waits that end: a case fails instead of waiting for ever. */

/** Milliseconds: long enough for a slow machine, short enough to say which case hangs. */
export const PATIENCE_MS = 30_000;
/** Milliseconds between two looks at a condition. */
const LOOK_MS = 1;

/** What `promise` resolves to. Rejects when it has not settled in time. */
export async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${PATIENCE_MS / 1000} s for ${what}`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Resolves once a condition holds. Rejects when it does not in time. */
export async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`waited ${PATIENCE_MS / 1000} s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
