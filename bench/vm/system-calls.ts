import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { threadsOf } from './process-times.js';

const TRACEFS = '/sys/kernel/tracing';
const EVENT = `${TRACEFS}/events/raw_syscalls/sys_enter`;
const TRIGGER = 'hist:keys=common_pid,id.syscall:size=4096';

/**
 * Counts the system calls that a process makes during `body`, by name: by a histogram in the kernel, which neither stops the
 * process nor copies anything to anybody. Undefined where the kernel has none.
 */
export async function countSystemCalls(
  pid: number,
  body: () => Promise<void>,
): Promise<Record<string, number> | undefined> {
  if (!existsSync(EVENT)) execFileSync('mount', ['-t', 'tracefs', 'tracefs', TRACEFS], { stdio: 'pipe' });
  const before = threadsOf(pid);
  try {
    writeFileSync(`${EVENT}/trigger`, TRIGGER);
  } catch {
    await body();
    return undefined;
  }
  try {
    await body();
    const threads = new Set([...before, ...threadsOf(pid)]);
    const counts: Record<string, number> = {};
    const line = /common_pid:\s+(\d+), id:\s+sys_(\S+)\s*\[.*hitcount:\s+(\d+)/g;
    for (const [, thread, name, count] of readFileSync(`${EVENT}/hist`, 'latin1').matchAll(line))
      if (threads.has(Number(thread))) counts[name!] = (counts[name!] ?? 0) + Number(count);
    return counts;
  } finally {
    writeFileSync(`${EVENT}/trigger`, `!${TRIGGER}`);
  }
}
