import { createHash } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { RingbellError } from '../errors.js';
import type { Flight, FlightKind, FlightRecord, QueueFlight } from '../flight.js';

// A file is lines of JSON: what it is, then of each queue what it is and its records, then how many lines there were and their
// SHA-256. It can be read without this package, and whoever reads it sees whether it is whole.

const FORMAT = 'ringbell-flight';
/** Changes whenever a file of before could be misread. */
const VERSION = 1;
const KINDS: readonly FlightKind[] = ['popped', 'pushed', 'returned', 'published', 'reaped', 'broken'];

/** What stands in a file about `flight`. */
export function encodeFlight({ queues, ...device }: Flight): string {
  const values: unknown[] = [{ format: FORMAT, version: VERSION, ...device, queues: queues.length }];
  for (const { records, ...queue } of queues) values.push({ ...queue, records: records.length }, ...records);
  const lines = values.map((value) => `${JSON.stringify(value)}\n`).join('');
  return `${lines}${JSON.stringify({ lines: values.length, sha256: digest(lines) })}\n`;
}

/**
 * What stands in the text of a file. Throws ERR_FLIGHT_FILE for what is no such file, has another version, is cut off or was
 * changed.
 */
export function decodeFlight(text: string): Flight {
  const first = text.slice(0, text.indexOf('\n') + 1);
  const { format, version, queues: count, ...device } = parse(first, 1) as Record<string, unknown>;
  if (format !== FORMAT) refuse('it is no flight recording');
  if (version !== VERSION)
    refuse(`its version is ${String(version).slice(0, 20)}, and ${VERSION} is known here`);
  if (!text.endsWith('\n')) refuse('it is cut off');
  const lastAt = text.lastIndexOf('\n', text.length - 2) + 1;
  const lines = text.slice(0, lastAt).split('\n');
  // What is behind the last newline.
  lines.pop();
  const end = parse(text.slice(lastAt), lines.length + 1);
  if (end.sha256 === undefined) refuse('it is cut off');
  if (end.lines !== lines.length || end.sha256 !== digest(text.slice(0, lastAt)))
    refuse('it was changed: its digest is another one');
  let at = 1;
  const next = () => parse(lines[at] ?? refuse('it ends too early'), ++at);
  const queues: QueueFlight[] = [];
  for (let queue = 0; queue < whole(count, 'queues', 1); queue++) {
    const { records, ...rest } = next();
    queues.push({
      ...queueOf(rest, at),
      records: Array.from({ length: Math.min(whole(records, 'records', at), lines.length) }, () =>
        recordOf(next(), at),
      ),
    });
  }
  if (at !== lines.length) refuse(`line ${at + 1} belongs to no queue`);
  return { ...deviceOf(device), queues };
}

/** Writes a file about `flight`, for its owner alone to read (mode 0600): it is there as a whole, or not at all. Rejects with a SystemError. */
export async function writeFlight(path: string, flight: Flight): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, encodeFlight(flight), { mode: 0o600 });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

type Fields = Record<string, unknown>;

function deviceOf({ device, side, deviceId, time, error }: Fields): Omit<Flight, 'queues'> {
  const { code, message } = (error ?? {}) as Fields;
  return {
    device: text(device, 'device', 1),
    side: side === 'device' || side === 'driver' ? side : refuse('line 1 has no side'),
    deviceId: whole(deviceId, 'deviceId', 1),
    time: number(time, 'time', 1),
    ...(error !== undefined && {
      error: { code: text(code, 'code', 1), message: text(message, 'message', 1) },
    }),
  };
}

function queueOf(fields: Fields, line: number): Omit<QueueFlight, 'records'> {
  const whole_ = (name: string) => whole(fields[name], name, line);
  const { ring } = fields;
  return {
    queue: whole_('queue'),
    ring: ring === 'split' || ring === 'packed' ? ring : refuse(`line ${line} has no ring`),
    size: whole_('size'),
    inFlight: whole_('inFlight'),
    recorded: whole_('recorded'),
  };
}

/** Fields of a record that are numbers, and need not be there. */
const NUMBERS = ['descriptors', 'position', 'readable', 'writable', 'written', 'chains'] as const;
const TEXTS = ['header', 'code', 'iova'] as const;

function recordOf(fields: Fields, line: number): FlightRecord {
  const kind = KINDS.find((known) => known === fields.kind) ?? refuse(`line ${line} is no record`);
  const { segments } = fields as { segments?: Fields };
  return {
    number: whole(fields.number, 'number', line),
    time: number(fields.time, 'time', line),
    kind,
    head: whole(fields.head, 'head', line),
    ...Object.fromEntries(
      NUMBERS.filter((name) => fields[name] !== undefined).map((name) => [
        name,
        whole(fields[name], name, line),
      ]),
    ),
    ...Object.fromEntries(
      TEXTS.filter((name) => fields[name] !== undefined).map((name) => [
        name,
        text(fields[name], name, line),
      ]),
    ),
    ...(segments && {
      segments: {
        readable: whole(segments.readable, 'segments', line),
        writable: whole(segments.writable, 'segments', line),
      },
    }),
  };
}

function parse(line: string, number: number): Fields {
  try {
    const value: unknown = JSON.parse(line);
    if (typeof value === 'object' && value !== null) return value as Fields;
  } catch {
    // As any other line that is none of ours.
  }
  return refuse(number === 1 ? 'it is no flight recording' : `line ${number} is damaged, or cut off`);
}

function number(value: unknown, name: string, line: number): number {
  return typeof value === 'number' && Number.isFinite(value)
    ? value
    : refuse(`line ${line}: ${name} is no number`);
}

function whole(value: unknown, name: string, line: number): number {
  return Number.isSafeInteger(value) && (value as number) >= 0
    ? (value as number)
    : refuse(`line ${line}: ${name} is no whole number`);
}

function text(value: unknown, name: string, line: number): string {
  return typeof value === 'string' ? value : refuse(`line ${line}: ${name} is no text`);
}

function digest(lines: string): string {
  return createHash('sha256').update(lines).digest('hex');
}

function refuse(why: string): never {
  throw new RingbellError('ERR_FLIGHT_FILE', why);
}
