import { readdirSync, readFileSync } from 'node:fs';

/** Cores that others may use while something is measured. */
export const DISTURBED_CORES = 0.2;
/** Clock ticks a second that the kernel shows to programs (USER_HZ), on every architecture of today. */
const TICKS_PER_SECOND = 100;
/** Fields of a process's stat file behind its name: its children's times are not in them. */
const STAT_UTIME = 11;
const STAT_STIME = 12;
/** Columns of /proc/stat that are not idleness. */
const BUSY_COLUMNS = [0, 1, 2, 5, 6, 7];

/** Name of the file among the artefacts in which the host says how many cores others had during a pair of runs. */
export const pairFile = (pair: number) => `pair-${pair}`;

/** How busy this host is, besides the machine that is measured: its process, a child of this one. */
export class HostLoad {
  readonly #machine: string;
  #busy = 0;
  #at = 0;

  /** `machine` is the command of its process. */
  constructor(machine: string) {
    this.#machine = machine;
  }

  /** Begins to measure. */
  begin(): void {
    this.#busy = this.#othersSeconds();
    this.#at = performance.now();
  }

  /** Cores that others have used since. */
  end(): number {
    return Math.max(this.#othersSeconds() - this.#busy, 0) / ((performance.now() - this.#at) / 1000);
  }

  #othersSeconds(): number {
    const columns = readFileSync('/proc/stat', 'latin1').split('\n')[0]!.split(/\s+/).slice(1).map(Number);
    const ours = children().filter(
      (pid) => readFileSync(`/proc/${pid}/comm`, 'latin1').trim() === this.#machine,
    );
    const ticks = BUSY_COLUMNS.reduce((sum, column) => sum + columns[column]!, 0);
    return ours.reduce((rest, pid) => rest - processTicks(pid), ticks) / TICKS_PER_SECOND;
  }
}

function children(): string[] {
  return readdirSync('/proc/self/task').flatMap((thread) =>
    readFileSync(`/proc/self/task/${thread}/children`, 'latin1').split(' ').filter(Boolean),
  );
}

function processTicks(pid: string): number {
  // The name is in parentheses, and may have any of them itself.
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[STAT_UTIME]) + Number(fields[STAT_STIME]);
}
