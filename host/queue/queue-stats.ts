import {
  VQ_BURSTS,
  VQ_BYTES_READ,
  VQ_BYTES_WRITTEN,
  VQ_CROSSINGS,
  VQ_HOSTILE_CHAINS,
  VQ_INTERRUPTS,
  VQ_INTERRUPTS_SUPPRESSED,
  VQ_IO_ERRORS,
  VQ_KICKS,
  VQ_KICKS_SUPPRESSED,
  VQ_REPLAYED,
  VQ_REQUESTS,
  VQ_TRAPS,
} from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';

/** Offset of each counter in a VQ or DQ block. */
const COUNTERS = {
  requests: VQ_REQUESTS,
  bytesRead: VQ_BYTES_READ,
  bytesWritten: VQ_BYTES_WRITTEN,
  kicks: VQ_KICKS,
  kicksSuppressed: VQ_KICKS_SUPPRESSED,
  interrupts: VQ_INTERRUPTS,
  interruptsSuppressed: VQ_INTERRUPTS_SUPPRESSED,
  traps: VQ_TRAPS,
  hostileChains: VQ_HOSTILE_CHAINS,
  bursts: VQ_BURSTS,
  crossings: VQ_CROSSINGS,
  ioErrors: VQ_IO_ERRORS,
  replayed: VQ_REPLAYED,
} as const;

/**
 * What a device's queue has counted since it was made. `bytesRead` and `bytesWritten` are the disk's bytes; `kicks` are
 * wake-ups by the driver's eventfd and rings of its doorbell that were seen, `kicksSuppressed` is the driver's to count and 0
 * here; `interrupts` and `interruptsSuppressed` are bursts after which the driver wanted one, or not; `crossings` are calls from JavaScript into
 * WASM or the addon on the data path, giving up the CPU and waiting (the thread's first queue has these), draining and signalling eventfds included; `bursts` are batches that served at least one request;
 * `replayed` are requests that the in-flight log of another process had, taken again first.
 */
export type QueueStats = Record<keyof typeof COUNTERS, number>;

/** Reads the counters of the block at `block` without stopping its queue: each exact, together not of one moment. */
export function readQueueStats(aperture: Aperture, block: number): QueueStats {
  const stats = {} as QueueStats;
  for (const [name, offset] of Object.entries(COUNTERS))
    stats[name as keyof QueueStats] = Number(Atomics.load(aperture.u64, (block + offset) / 8));
  return stats;
}

/** Adds up queues. */
export function sumQueueStats(queues: readonly QueueStats[]): QueueStats {
  const sum = Object.fromEntries(Object.keys(COUNTERS).map((name) => [name, 0])) as QueueStats;
  for (const queue of queues)
    for (const name of Object.keys(COUNTERS) as (keyof QueueStats)[]) sum[name] += queue[name];
  return sum;
}

/** Adds to one counter (VQ_*), from the thread that runs the queue. */
export function count(aperture: Aperture, block: number, counter: number, amount: bigint): void {
  const index = (block + counter) / 8;
  // Kept within 64 bits, and no number turned into one, so that the compiler need not make a BigInt.
  aperture.u64[index] = BigInt.asUintN(64, aperture.u64[index]! + amount);
}
