import { readFileSync } from 'node:fs';
import { threadId } from '../queue/thread-id.js';
import { type DeviceSnapshot, known, type Observable } from './snapshot.js';

/** Version of the form of a ProcessSnapshot: another number is another form. */
export const SNAPSHOT_VERSION = 1;

/** CPU time of a thread. */
export interface ThreadTimes {
  /** Number in the kernel (gettid). */
  readonly thread: number;
  /** Milliseconds that it has run. */
  readonly cpu: number;
}

/** A process with devices at one moment: what a stats socket tells. */
export interface ProcessSnapshot {
  readonly version: typeof SNAPSHOT_VERSION;
  readonly pid: number;
  /** What it calls itself. */
  readonly title: string;
  /** Milliseconds of a clock that only goes forward. */
  readonly time: number;
  readonly devices: readonly DeviceSnapshot[];
  /** The thread whose event loop the devices belong to, and those that work for them. */
  readonly threads: readonly ThreadTimes[];
}

/** Looks at `devices`, and at the threads that work for them. */
export function processSnapshot(devices: readonly Observable[]): ProcessSnapshot {
  const snapshots = devices.map((device) => device.snapshot());
  const threads = new Set([
    threadId() || undefined,
    ...snapshots.flatMap(({ messageThread, queues }) => [
      messageThread,
      ...queues.map(({ thread }) => thread),
    ]),
  ]);
  return {
    version: SNAPSHOT_VERSION,
    pid: process.pid,
    title: process.title,
    time: performance.now(),
    devices: snapshots,
    threads: [...threads].flatMap((thread) => {
      const cpu = thread === undefined ? undefined : cpuMilliseconds(thread);
      return thread === undefined || cpu === undefined ? [] : [{ thread, cpu }];
    }),
  };
}

/** Milliseconds that a thread of this process has run; undefined for one that has gone, or where the kernel does not say. */
function cpuMilliseconds(thread: number): number | undefined {
  try {
    // Nanoseconds on the CPU, nanoseconds of waiting for one, time slices.
    const [nanoseconds] = readFileSync(`/proc/self/task/${thread}/schedstat`, 'latin1').split(' ');
    return Number(nanoseconds) / 1e6;
  } catch {
    return undefined;
  }
}

/**
 * Reads what a stats socket has sent, which may be anything: a snapshot made anew of what is one, and nothing else. Throws for
 * what is none.
 */
export function parseProcessSnapshot(text: string): ProcessSnapshot {
  const source = record(JSON.parse(text));
  if (source.version !== SNAPSHOT_VERSION)
    throw new Error(`version ${String(source.version)} of its snapshots`);
  return {
    version: SNAPSHOT_VERSION,
    pid: number(source.pid),
    title: name(source.title),
    time: number(source.time),
    devices: list(source.devices).map(deviceOf),
    threads: list(source.threads).map((each) => {
      const { thread, cpu } = record(each);
      return { thread: number(thread), cpu: number(cpu) };
    }),
  };
}

function deviceOf(value: unknown): DeviceSnapshot {
  const source = record(value);
  if (source.side !== 'device' && source.side !== 'driver') throw new Error('a side that there is not');
  return {
    name: name(source.name),
    side: source.side,
    deviceId: number(source.deviceId),
    broken: source.broken === true,
    ...known({ status: optional(source.status), messageThread: optional(source.messageThread) }),
    queues: list(source.queues).map(queueOf),
  };
}

function queueOf(value: unknown): DeviceSnapshot['queues'][number] {
  const source = record(value);
  return {
    queue: number(source.queue),
    requests: number(source.requests),
    bytesRead: number(source.bytesRead),
    bytesWritten: number(source.bytesWritten),
    kicks: number(source.kicks),
    interrupts: number(source.interrupts),
    crossings: number(source.crossings),
    inFlight: number(source.inFlight),
    ...known({
      kicksSuppressed: optional(source.kicksSuppressed),
      interruptsSuppressed: optional(source.interruptsSuppressed),
      bursts: optional(source.bursts),
      traps: optional(source.traps),
      hostileChains: optional(source.hostileChains),
      ioErrors: optional(source.ioErrors),
      replayed: optional(source.replayed),
      thread: optional(source.thread),
      latency: source.latency === undefined ? undefined : latencyOf(source.latency),
      doorbell: source.doorbell === undefined ? undefined : source.doorbell === true,
    }),
  };
}

function latencyOf(value: unknown): NonNullable<DeviceSnapshot['queues'][number]['latency']> {
  const source = record(value);
  const buckets = list(source.buckets).map((each): [number, number] => {
    const [nanoseconds, samples] = list(each);
    return [number(nanoseconds), number(samples)];
  });
  return { samples: number(source.samples), sum: number(source.sum), buckets };
}

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) throw new Error('not an object');
  return value as Record<string, unknown>;
}

function list(value: unknown): unknown[] {
  if (!Array.isArray(value)) throw new Error('not a list');
  return value;
}

function number(value: unknown): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) throw new Error('not a number');
  return value;
}

function optional(value: unknown): number | undefined {
  return value === undefined ? undefined : number(value);
}

function name(value: unknown): string {
  if (typeof value !== 'string') throw new Error('not a text');
  return printable(value);
}

/** A text as it may be shown: a terminal acts on what is behind a control character. */
export function printable(text: string): string {
  return text.replace(/\p{C}/gu, '\u{fffd}');
}
