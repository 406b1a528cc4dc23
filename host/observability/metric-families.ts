import type { DeviceSnapshot, QueueSnapshot, Side } from './snapshot.js';

/** A family of metrics: what is exposed under one name. */
export interface MetricFamily {
  readonly name: string;
  /** One sentence; docs/observability.md has the same. */
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Who has it. */
  readonly sides: readonly Side[];
}

/** A family with a value for each queue. */
export interface QueueMetric extends MetricFamily {
  readonly value: (queue: QueueSnapshot) => number | undefined;
}

/** A family with a value for each device. */
export interface DeviceMetric extends MetricFamily {
  readonly value: (device: DeviceSnapshot) => number | undefined;
}

const BOTH: readonly Side[] = ['device', 'driver'];
const DEVICE: readonly Side[] = ['device'];
const DRIVER: readonly Side[] = ['driver'];

const counter = (
  name: string,
  key: {
    [K in keyof QueueSnapshot]-?: Required<QueueSnapshot>[K] extends number ? K : never;
  }[keyof QueueSnapshot],
  sides: readonly Side[],
  help: string,
): QueueMetric => ({
  name: `ringbell_${name}_total`,
  help,
  type: 'counter',
  sides,
  value: (queue) => queue[key],
});

/** What is exposed of each queue, in this order. Names are stable: dashboards and alerts are made of them. */
export const QUEUE_METRICS: readonly QueueMetric[] = [
  counter('requests', 'requests', BOTH, 'Requests that the device has given back to the driver.'),
  counter('read_bytes', 'bytesRead', BOTH, 'Bytes of data that the driver has read, successfully.'),
  counter('written_bytes', 'bytesWritten', BOTH, 'Bytes of data that the driver has written, successfully.'),
  counter('kicks', 'kicks', BOTH, 'Notifications that the driver has sent, or that the device was woken by.'),
  counter('kicks_suppressed', 'kicksSuppressed', DRIVER, 'Notifications that the device did not want.'),
  counter(
    'interrupts',
    'interrupts',
    BOTH,
    'Interrupts that the device has sent, or that the driver was woken by.',
  ),
  counter(
    'interrupts_suppressed',
    'interruptsSuppressed',
    DEVICE,
    'Interrupts that the driver did not want.',
  ),
  counter('bursts', 'bursts', DEVICE, 'Publications of used descriptors, each of one or more requests.'),
  counter('traps', 'traps', DEVICE, 'Times that the data path ran into memory that was not accessible.'),
  counter('hostile_chains', 'hostileChains', DEVICE, 'Descriptor chains and indices that broke the queue.'),
  counter('io_errors', 'ioErrors', DEVICE, 'Requests whose I/O, or whose handler, failed.'),
  counter('replayed', 'replayed', DEVICE, 'Requests that a killed process had left in flight, taken again.'),
  counter('crossings', 'crossings', BOTH, 'Calls of the data path from JavaScript into WASM or the addon.'),
  {
    name: 'ringbell_in_flight',
    help: 'Requests taken or offered, and not given back yet.',
    type: 'gauge',
    sides: BOTH,
    value: ({ inFlight }) => inFlight,
  },
  {
    name: 'ringbell_doorbell_mapped',
    help: '1 where kicks are stores to a doorbell page, 0 where they are system calls.',
    type: 'gauge',
    sides: DRIVER,
    value: ({ doorbell }) => (doorbell === undefined ? undefined : Number(doorbell)),
  },
];

/** The histogram of each queue: how long requests took, of those that were timed. */
export const LATENCY_METRIC: MetricFamily = {
  name: 'ringbell_latency_seconds',
  help: 'How long requests took, of the few that are timed while somebody looks; absent if none was.',
  type: 'histogram',
  sides: BOTH,
};

/** Upper bounds of its buckets, in nanoseconds: from a microsecond to a second, each four times the one before. */
export const LATENCY_BOUNDS: readonly number[] = Array.from(
  { length: 11 },
  (_, index) => 2 ** (10 + 2 * index),
);

/** What is exposed of each device. */
export const DEVICE_METRICS: readonly DeviceMetric[] = [
  {
    name: 'ringbell_device_id',
    help: 'The virtio device id: 1 a network device, 2 a disk.',
    type: 'gauge',
    sides: BOTH,
    value: ({ deviceId }) => deviceId,
  },
  {
    name: 'ringbell_device_status',
    help: 'The device status field: 0 after a reset, bit 2 while a driver runs, bit 6 if it needs a reset.',
    type: 'gauge',
    sides: DEVICE,
    value: ({ status }) => status,
  },
  {
    name: 'ringbell_device_broken',
    help: '1 once the device has stopped until a reset, or for good; else 0.',
    type: 'gauge',
    sides: BOTH,
    value: ({ broken }) => Number(broken),
  },
];
