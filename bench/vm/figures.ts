import { quantile } from '../compare.js';
import type { FioResult, Workload } from './fio.js';

/** What a server did for each request, on average; null for what it does not tell. */
export interface Costs {
  /** Requests of one publication. */
  batch: number | null;
  interrupts: number | null;
  /** Wake-ups by the driver's kicks. */
  kicks: number | null;
  /** Times that a thread of it waited, and was preempted. */
  waits: number;
  preemptions: number;
  /** Microseconds of CPU. */
  cpu: number;
}

/** One run of fio on one server. */
export interface Sample extends Omit<FioResult, 'requests'>, Costs {}

/** System calls of a server, by name, for each request; null where the kernel could not count them. */
export type SystemCalls = Record<string, number> | null;

/** One workload on both servers, one after the other. */
export interface Pair extends Workload {
  /** Cores of the host that were busy with something else meanwhile. */
  othersCores: number;
  ours: Sample;
  theirs: Sample;
}

/** What a guest has measured. */
export interface GuestFigures {
  /** What `uname -r` prints. */
  release: string;
  /** First lines of `fio --version` and `qemu-storage-daemon --version`. */
  fio: string;
  storageDaemon: string;
  /** I/O scheduler of the disks. */
  scheduler: string;
  pairs: Pair[];
  /** By workload, counted apart from the pairs. */
  systemCalls: (Workload & { ours: SystemCalls; theirs: SystemCalls })[];
}

/** One workload on one kind of machine, summed up. */
export interface VmResult extends Workload {
  kernel: string;
  processors: number;
  /** I/O scheduler of the disks. */
  scheduler: string;
  /** Medians. */
  ours: Sample;
  theirs: Sample;
  oursSystemCalls: SystemCalls;
  theirsSystemCalls: SystemCalls;
  /** Median of the ratios of pairs, in IOPS; above 1 we are ahead. */
  ratio: number;
  /** The lowest and the highest of them. */
  spread: [number, number];
  /** Median of the cores of the host that were busy with something else. */
  othersCores: number;
  pairs: Pair[];
}

/** Sums up what a guest has measured, a result a workload. */
export function summarizeGuest(figures: GuestFigures, processors: number): VmResult[] {
  return figures.systemCalls.map(({ operation, depth, ours, theirs }) => {
    const pairs = figures.pairs.filter((pair) => pair.operation === operation && pair.depth === depth);
    const ratios = pairs.map((pair) => pair.ours.iops / pair.theirs.iops);
    return {
      kernel: figures.release,
      processors,
      scheduler: figures.scheduler,
      operation,
      depth,
      ours: medians(pairs.map((pair) => pair.ours)),
      theirs: medians(pairs.map((pair) => pair.theirs)),
      oursSystemCalls: ours,
      theirsSystemCalls: theirs,
      ratio: quantile(ratios, 0.5),
      spread: [Math.min(...ratios), Math.max(...ratios)],
      othersCores: quantile(
        pairs.map((pair) => pair.othersCores),
        0.5,
      ),
      pairs,
    };
  });
}

function medians(samples: readonly Sample[]): Sample {
  const names = Object.keys(samples[0]!) as (keyof Sample)[];
  const median = (name: keyof Sample) => {
    const values = samples.map((sample) => sample[name]);
    return values.includes(null) ? null : quantile(values as number[], 0.5);
  };
  return Object.fromEntries(names.map((name) => [name, median(name)])) as unknown as Sample;
}
