import { readlinkSync } from 'node:fs';

/** The calling thread's number in the kernel (gettid), which Node.js does not tell; 0 where there is no /proc. */
export function threadId(): number {
  try {
    // 'PID/task/TID'
    return Number(readlinkSync('/proc/thread-self').split('/').at(-1)) || 0;
  } catch {
    return 0;
  }
}
