import {
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_ID_BLOCK,
} from '../../assembly/virtio.js';
import type { Flight, FlightRecord, QueueFlight } from '../flight.js';
import { type Column, tableLines } from './terminal.js';
import { formatBytes, formatMicroseconds } from './units.js';

/** A record in the order of time, with what it says together with others. */
export type TimeLineEntry = FlightRecord & {
  /** Microseconds since the chain was taken, or offered: of what was given back, where both are there. */
  readonly microseconds?: number;
};

/** What a queue has done, put together. */
export interface TimeLine extends Omit<QueueFlight, 'records'> {
  readonly entries: readonly TimeLineEntry[];
  /** What was taken, or offered, and not given back: of chains in flight those that the records reach back to. */
  readonly unfinished: readonly FlightRecord[];
}

const US_PER_MS = 1e3;
const OPERATIONS: ReadonlyMap<number, string> = new Map([
  [VIRTIO_BLK_T_IN, 'read'],
  [VIRTIO_BLK_T_OUT, 'write'],
  [VIRTIO_BLK_T_FLUSH, 'flush'],
  [VIRTIO_BLK_T_GET_ID, 'get id'],
  [VIRTIO_BLK_T_DISCARD, 'discard'],
  [VIRTIO_BLK_T_WRITE_ZEROES, 'write zeroes'],
]);
/** Bytes of a disk's header and status, which are no data. */
const BLK_HEADER_BYTES = 16;
const BLK_STATUS_BYTES = 1;
/** Bit of a position in a packed ring. */
const WRAP_COUNTER = 0x8000;

const COLUMNS: readonly Column[] = [
  { title: 'ms', align: 'right' },
  { title: '', align: 'left' },
  { title: 'head', align: 'right' },
  { title: 'at', align: 'right' },
  { title: 'after µs', align: 'right' },
  { title: '', align: 'left' },
];

/** Matches what was given back with what was taken. */
export function timeLine({ records, ...queue }: QueueFlight): TimeLine {
  /** What was taken, in that order. */
  let open: FlightRecord[] = [];
  const entries = records.map((record): TimeLineEntry => {
    if (record.kind === 'popped' || record.kind === 'published') open.push(record);
    // The last ones that were taken.
    if (record.kind === 'returned') open = open.slice(0, Math.max(0, open.length - (record.chains ?? 0)));
    if (record.kind !== 'pushed' && record.kind !== 'reaped') return record;
    const at = open.findIndex(({ head }) => head === record.head);
    if (at < 0) return record;
    const [taken] = open.splice(at, 1);
    return { ...record, microseconds: Math.max(0, (record.time - taken!.time) * US_PER_MS) };
  });
  return { ...queue, entries, unfinished: open };
}

/** A flight recording for people. `last` is how many records of each queue to show; `queue` is the only one to show. */
export function flightLines(flight: Flight, last: number, queue?: number): string[] {
  const { device, side, deviceId, time, error } = flight;
  const lines = [`${device}  ${side} of type ${deviceId}  ${new Date(time).toISOString()}`];
  if (error) lines.push(`${error.code}: ${error.message}`);
  for (const each of flight.queues)
    if (queue === undefined || each.queue === queue)
      lines.push('', ...queueLines(flight, timeLine(each), last));
  return lines.map((line) => line.replace(/\p{C}/gu, '?'));
}

function queueLines(flight: Flight, line: TimeLine, last: number): string[] {
  const { queue, ring, size, inFlight, recorded, entries, unfinished } = line;
  const shown = last === 0 ? [] : entries.slice(-last);
  const title = `queue ${queue}  ${ring}, ${size} entries  ${recorded} records, ${shown.length} of them here  ${inFlight} in flight`;
  if (entries.length === 0) return [title];
  const rows = shown.map((entry) => [
    (entry.time - flight.time).toFixed(3),
    entry.kind,
    `${entry.head}`,
    entry.position === undefined ? '' : place(entry.position, ring),
    entry.microseconds === undefined ? '' : formatMicroseconds(entry.microseconds),
    describe(entry, flight.deviceId),
  ]);
  const waiting = unfinished.map(
    (taken) =>
      `  head ${taken.head}, ${taken.kind} ${(flight.time - taken.time).toFixed(3)} ms before: ${describe(taken, flight.deviceId)}`,
  );
  return [
    title,
    ...tableLines(COLUMNS, rows),
    ...(waiting.length > 0 ? ['not given back:', ...waiting] : []),
  ];
}

function place(position: number, ring: QueueFlight['ring']): string {
  if (ring === 'split') return `${position}`;
  return `${position & ~WRAP_COUNTER}${position & WRAP_COUNTER ? '+' : '−'}`;
}

/** What a record says besides its kind, head and place. */
function describe(record: FlightRecord, deviceId: number): string {
  const { kind, written, chains, code, iova, readable = 0, writable = 0, segments } = record;
  if (kind === 'broken') return `${code ?? 'broken'}${iova === undefined ? '' : ` at IOVA ${iova}`}`;
  if (kind === 'returned') return `${chains} chains, unseen`;
  if (kind === 'pushed' || kind === 'reaped') return `${written} B written`;
  const operation = deviceId === VIRTIO_ID_BLOCK ? describeRequest(record) : undefined;
  const pieces = segments ? `, ${segments.readable} + ${segments.writable} segments` : '';
  return operation ?? `${readable} B to read, ${writable} B to write${pieces}`;
}

/** A request of a disk by its header; undefined where it has none. */
function describeRequest({ kind, header, readable = 0, writable = 0 }: FlightRecord): string | undefined {
  if (header === undefined || !/^[\da-f]{32}$/.test(header)) return undefined;
  const bytes = Buffer.from(header, 'hex');
  const type = bytes.readUInt32LE(0);
  const operation = OPERATIONS.get(type) ?? `type ${type}`;
  if (type === VIRTIO_BLK_T_IN)
    return `${operation} ${formatBytes(Math.max(0, writable - BLK_STATUS_BYTES))} at sector ${bytes.readBigUInt64LE(8)}`;
  if (type === VIRTIO_BLK_T_OUT) {
    const data = kind === 'popped' ? Math.max(0, readable - BLK_HEADER_BYTES) : readable;
    return `${operation} ${formatBytes(data)} at sector ${bytes.readBigUInt64LE(8)}`;
  }
  return operation;
}
