import type { LatencySnapshot } from '../queue/latency-recorder.js';

/** Which end of the rings a device object of this process is: what it is served to, or what drives it. */
export type Side = 'device' | 'driver';

/**
 * A queue at one moment. What a side does not count is undefined: see `METRICS` for who counts what. Byte counts are of data,
 * without headers and status.
 */
export interface QueueSnapshot {
  readonly queue: number;
  readonly requests: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly kicks: number;
  readonly kicksSuppressed?: number;
  readonly interrupts: number;
  readonly interruptsSuppressed?: number;
  readonly bursts?: number;
  readonly traps?: number;
  readonly hostileChains?: number;
  readonly ioErrors?: number;
  readonly replayed?: number;
  readonly crossings: number;
  /** Requests that have been taken, or offered, and not been given back yet. */
  readonly inFlight: number;
  /** The thread of the kernel (gettid) that runs it; undefined where that is not known. */
  readonly thread?: number;
  /**
   * How long requests took, of those that were timed: on the driver's side from before they were offered until they have been
   * reaped, on the device's from when they were taken until they were given back. Undefined if none was.
   */
  readonly latency?: LatencySnapshot;
  /** Whether kicks are stores to a doorbell page. */
  readonly doorbell?: boolean;
}

/** A device at one moment, as plain data: it can be sent as JSON. */
export interface DeviceSnapshot {
  readonly name: string;
  readonly side: Side;
  /** VIRTIO_ID_*. */
  readonly deviceId: number;
  /** VIRTIO_CONFIG_S_* bits that the driver sees; of a driven device undefined, for to ask the device takes time. */
  readonly status?: number;
  /** Whether it has stopped until its driver resets it, or for good. */
  readonly broken: boolean;
  /** The thread of the kernel that answers for a served device; undefined where that is not known. */
  readonly messageThread?: number;
  readonly queues: readonly QueueSnapshot[];
}

/** What can be looked at while it works: every device that is served or driven, and whatever an application adds. */
export interface Observable {
  readonly name: string;
  /** What it is doing now. Stops nothing, and costs the data path nothing. */
  snapshot(): DeviceSnapshot;
  /** Begins or ends to time some of the requests; called only while somebody wants to know how long they take. */
  timeRequests?(on: boolean): void;
}

/** Fields that have a value. */
export function known<Fields extends object>(
  fields: Fields,
): { [K in keyof Fields]?: NonNullable<Fields[K]> } {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as never;
}
