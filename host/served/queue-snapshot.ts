import { known, type QueueSnapshot } from '../observability/snapshot.js';
import type { QueueBlock } from '../queue/queue-block.js';
import { readQueueStats } from '../queue/queue-stats.js';

/** What queue `queue` of a served device is doing now. */
export function queueSnapshot(block: QueueBlock, queue: number): QueueSnapshot {
  // What a device cannot count it leaves out.
  const { kicksSuppressed: _, ...counters } = readQueueStats(block.aperture, block.vq);
  return {
    queue,
    ...counters,
    inFlight: block.inFlight,
    ...known({ latency: block.latency.snapshot(), thread: block.thread || undefined }),
  };
}
