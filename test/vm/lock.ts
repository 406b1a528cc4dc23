import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';

/** Milliseconds between two attempts to get one of several locks. */
const RETRY_MS = 300;

/** Gives a lock back. Safe to call twice. */
export type Release = () => void;

/**
 * Takes the first of these files' locks that is free; waits until one is, or rejects when `signal` aborts. Calls `waiting`
 * once if it has to wait. The lock is flock(2)'s, held by a child that ends when this process does: however that ends, no
 * lock outlives it.
 */
export async function lockAny(
  paths: readonly string[],
  signal: AbortSignal,
  waiting = () => {},
): Promise<Release> {
  for (let attempt = 0; ; attempt++) {
    for (const path of paths) {
      const release = await tryLock(path);
      if (release) return release;
    }
    if (attempt === 0) waiting();
    await delay(RETRY_MS, undefined, { signal });
  }
}

async function tryLock(path: string): Promise<Release | undefined> {
  const holder = spawn('flock', ['--nonblock', path, 'sh', '-c', 'echo held; exec cat'], {
    stdio: ['pipe', 'pipe', 'ignore'],
    // Not the terminal's: Ctrl-C must not release the lock before what it guards has ended.
    detached: true,
  });
  const held = await Promise.race([
    once(holder.stdout, 'data').then(() => true),
    once(holder, 'close').then(() => false),
  ]);
  if (!held) return undefined;
  holder.unref();
  return () => holder.stdin.end();
}
