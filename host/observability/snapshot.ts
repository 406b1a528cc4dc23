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
  readonly queues: readonly QueueSnapshot[];
}

/** What can be looked at while it works: every device that is served or driven, and whatever an application adds. */
export interface Observable {
  readonly name: string;
  /** What it is doing now. Stops nothing, and costs the data path nothing. */
  snapshot(): DeviceSnapshot;
}
