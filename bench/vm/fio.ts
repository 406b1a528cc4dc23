import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

/** Bytes of a request. */
export const REQUEST_BYTES = 4096;

/** What fio is to do. */
export interface Workload {
  operation: 'randread' | 'randwrite';
  /** Requests in flight. */
  depth: number;
}

/** What fio found. */
export interface FioResult {
  requests: number;
  /** Requests a second. */
  iops: number;
  /** Microseconds from submission to completion. */
  median: number;
  p99: number;
}

/** Runs a workload on the block device at `path` for `seconds`. Rejects if fio does, or met an error. */
export async function runFio(
  path: string,
  { operation, depth }: Workload,
  seconds: number,
): Promise<FioResult> {
  const { stdout } = await promisify(execFile)('fio', [
    ...['--name=bench', '--output-format=json', '--ioengine=io_uring', '--direct=1'],
    ...[`--filename=${path}`, `--rw=${operation}`, `--bs=${REQUEST_BYTES}`, `--iodepth=${depth}`],
    ...['--time_based', `--runtime=${seconds}`],
  ]);
  // Warnings come before it.
  const [job] = JSON.parse(stdout.slice(stdout.indexOf('{'))).jobs;
  if (job.error) throw new Error(`fio on ${path}: error ${job.error}`);
  const side = operation === 'randread' ? job.read : job.write;
  const { percentile } = side.clat_ns;
  return {
    requests: side.total_ios,
    iops: side.iops,
    median: percentile['50.000000'] / 1000,
    p99: percentile['99.000000'] / 1000,
  };
}
