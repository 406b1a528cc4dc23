import type { ProcessSnapshot } from '../observability/process-snapshot.js';
import type { DeviceSnapshot, QueueSnapshot, Side } from '../observability/snapshot.js';
import type { LatencySnapshot } from '../queue/latency-recorder.js';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../uapi/virtio.js';

/** What a queue did between two looks. What nobody can say is null. */
export interface QueueActivity {
  device: string;
  side: Side;
  queue: number;
  state: 'running' | 'idle' | 'broken';
  requestsPerSecond: number;
  bytesReadPerSecond: number;
  bytesWrittenPerSecond: number;
  /** Requests in flight at the second look. */
  inFlight: number;
  /** Of requests that were timed, in microseconds. */
  latency: { p50: number; p90: number; p99: number; samples: number } | null;
  /** Kicks and interrupts, those that were suppressed not counted. */
  notificationsPerRequest: number | null;
  /** Share of the notifications to the other side that it did not want. */
  suppressed: number | null;
  thread: number | null;
  /** CPUs that its thread took, from 0 to 1. */
  cpu: number | null;
}

/** What a thread did between two looks. */
export interface ThreadActivity {
  thread: number;
  /** What it is there for. */
  runs: string;
  cpu: number;
}

/** What a process did between two looks. */
export interface ProcessActivity {
  pid: number;
  title: string;
  /** Between the looks. */
  seconds: number;
  queues: QueueActivity[];
  threads: ThreadActivity[];
}

/** Compares two looks at a process. */
export function processActivity(before: ProcessSnapshot, now: ProcessSnapshot): ProcessActivity {
  const seconds = Math.max(now.time - before.time, 1) / 1000;
  const cpus = new Map(
    now.threads.map(({ thread, cpu }) => {
      const earlier = before.threads.find((each) => each.thread === thread)?.cpu ?? cpu;
      return [thread, rise(earlier, cpu) / 1000 / seconds];
    }),
  );
  const known = new Map(before.devices.map((device) => [keyOf(device), device]));
  return {
    pid: now.pid,
    title: now.title,
    seconds,
    queues: now.devices.flatMap((device) => {
      const earlier = known.get(keyOf(device))?.queues;
      return device.queues.map((queue) =>
        // A device that has come meanwhile begins at its first look.
        queueActivity(
          device,
          earlier?.find((each) => each.queue === queue.queue) ?? queue,
          queue,
          seconds,
          cpus,
        ),
      );
    }),
    threads: [...cpus].map(([thread, cpu]) => ({ thread, runs: roleOf(thread, now.devices), cpu })),
  };
}

function queueActivity(
  device: DeviceSnapshot,
  before: QueueSnapshot,
  now: QueueSnapshot,
  seconds: number,
  cpus: ReadonlyMap<number, number>,
): QueueActivity {
  const risen = (key: 'requests' | 'bytesRead' | 'bytesWritten' | 'kicks' | 'interrupts') =>
    rise(before[key], now[key]);
  const requests = risen('requests');
  // To the other side: a driver kicks, a device interrupts.
  const sent = risen(device.side === 'driver' ? 'kicks' : 'interrupts');
  const spared =
    device.side === 'driver'
      ? rise(before.kicksSuppressed ?? 0, now.kicksSuppressed ?? 0)
      : rise(before.interruptsSuppressed ?? 0, now.interruptsSuppressed ?? 0);
  return {
    device: device.name,
    side: device.side,
    queue: now.queue,
    state: stateOf(device),
    requestsPerSecond: requests / seconds,
    bytesReadPerSecond: risen('bytesRead') / seconds,
    bytesWrittenPerSecond: risen('bytesWritten') / seconds,
    inFlight: now.inFlight,
    latency: latencyOf(before.latency, now.latency),
    notificationsPerRequest: requests === 0 ? null : (risen('kicks') + risen('interrupts')) / requests,
    suppressed: sent + spared === 0 ? null : spared / (sent + spared),
    thread: now.thread ?? null,
    cpu: (now.thread === undefined ? undefined : cpus.get(now.thread)) ?? null,
  };
}

function keyOf({ name, side }: DeviceSnapshot): string {
  return `${side} ${name}`;
}

/** A counter that has fallen belongs to another device of the name: it has come from 0. */
function rise(before: number, now: number): number {
  return now >= before ? now - before : now;
}

function stateOf({ side, broken, status }: DeviceSnapshot): QueueActivity['state'] {
  if (broken) return 'broken';
  return side === 'driver' || ((status ?? 0) & VIRTIO_CONFIG_S_DRIVER_OK) !== 0 ? 'running' : 'idle';
}

/** Percentiles of what was added to a histogram. */
function latencyOf(
  before: LatencySnapshot | undefined,
  now: LatencySnapshot | undefined,
): QueueActivity['latency'] {
  if (!now) return null;
  const earlier = new Map(before?.buckets.map(([top, count]) => [top, count]));
  const added = now.buckets.map(([top, count]) => [top, rise(earlier.get(top) ?? 0, count)] as const);
  const samples = added.reduce((sum, [, count]) => sum + count, 0);
  if (samples === 0) return null;
  const percentile = (fraction: number) => {
    let left = Math.ceil(fraction * samples);
    for (const [top, count] of added) {
      left -= count;
      if (left <= 0) return top / 1000;
    }
    return 0;
  };
  return { p50: percentile(0.5), p90: percentile(0.9), p99: percentile(0.99), samples };
}

function roleOf(thread: number, devices: readonly DeviceSnapshot[]): string {
  const roles = devices.flatMap((device) => {
    const { name, side, messageThread } = device;
    const queues = device.queues.filter((queue) => queue.thread === thread).map(({ queue }) => queue);
    return [
      ...(messageThread === thread ? [`messages of ${name}`] : []),
      ...(queues.length === 0 ? [] : [`${side === 'driver' ? 'drives ' : ''}${name} ${ranges(queues)}`]),
    ];
  });
  return roles.length === 0 ? 'event loop' : roles.join(', ');
}

/** Numbers for people: '0-2,5'. */
function ranges(numbers: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const number of numbers) {
    const last = parts.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([first, end]) => (first === end ? `${first}` : `${first}-${end}`)).join(',');
}
