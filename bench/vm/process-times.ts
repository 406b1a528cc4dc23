import { readdirSync, readFileSync } from 'node:fs';

/** What the threads of a process have used, since they were started. */
export interface ProcessTimes {
  /** Times that a thread gave up its CPU to wait. */
  waits: number;
  /** Times that a thread was made to give it up. */
  preemptions: number;
  /** Microseconds of CPU. */
  cpu: number;
}

const NANOSECONDS_PER_MICROSECOND = 1000;

/** Threads of a process, by their id. */
export const threadsOf = (pid: number): number[] => readdirSync(`/proc/${pid}/task`).map(Number);

/** Adds up the threads that a process has now. */
export function readProcessTimes(pid: number): ProcessTimes {
  const sum: ProcessTimes = { waits: 0, preemptions: 0, cpu: 0 };
  for (const thread of threadsOf(pid)) {
    const folder = `/proc/${pid}/task/${thread}`;
    const status = readFileSync(`${folder}/status`, 'latin1');
    sum.waits += Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(status)![1]);
    sum.preemptions += Number(/^nonvoluntary_ctxt_switches:\s+(\d+)/m.exec(status)![1]);
    sum.cpu +=
      Number.parseInt(readFileSync(`${folder}/schedstat`, 'latin1'), 10) / NANOSECONDS_PER_MICROSECOND;
  }
  return sum;
}
