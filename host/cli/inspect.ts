import { open } from 'node:fs/promises';
import { RingbellError } from '../errors.js';
import { decodeFlight } from '../observability/flight-file.js';
import type { Command } from './arguments.js';
import { flightLines, timeLine } from './flight-report.js';

/** Bytes; more than the recorders of 64 queues of the default length write by far. */
const FILE_LIMIT_BYTES = 2 ** 28;
/** Queues, and records of a queue, that a file may have at most. */
const COUNT_LIMIT = 65536;

/** `ringbell inspect` */
export const inspect: Command = {
  name: 'inspect',
  summary: 'show what a flight recorder has left in a file',
  description:
    'Shows what the queues of a device did last, before it broke or a program called dumpFlight(): each chain when it was\n' +
    'taken and given back, what it was about, how long it took, what broke the queue, and what was not given back.',
  operand: {
    value: 'FILE',
    required: true,
    help: 'that serve, openBlock or openNet has left (flightRecorder)',
  },
  options: {
    queue: { value: 'N', help: 'show this queue alone' },
    last: { value: 'N', default: '64', help: 'records of each queue to show' },
    json: { help: 'print one JSON object' },
  },
  async run(values) {
    const path = values.operand as string;
    const limits = { minimum: 0, maximum: COUNT_LIMIT };
    const queue = values.given('queue') ? values.count('queue', limits) : undefined;
    const last = values.count('last', limits);
    const flight = decode(path, await read(path));
    if (queue !== undefined && !flight.queues.some((each) => each.queue === queue))
      throw new RingbellError('ERR_ARGUMENT', `${path}: it has no queue ${queue}`);
    if (!values.flag('json')) {
      process.stdout.write(`${flightLines(flight, last, queue).join('\n')}\n`);
      return 0;
    }
    const queues = flight.queues
      .filter((each) => queue === undefined || each.queue === queue)
      .map((each) => timeLine(each))
      .map((each) => ({ ...each, entries: last === 0 ? [] : each.entries.slice(-last) }));
    process.stdout.write(`${JSON.stringify({ ...flight, queues }, undefined, 2)}\n`);
    return 0;
  },
};

async function read(path: string): Promise<string> {
  const file = await open(path, 'r');
  try {
    const stats = await file.stat();
    // /dev/zero has no end.
    if (!stats.isFile()) throw new RingbellError('ERR_FLIGHT_FILE', `${path}: it is no regular file`);
    if (stats.size > FILE_LIMIT_BYTES) throw new RingbellError('ERR_FLIGHT_FILE', `${path}: it is too long`);
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

function decode(path: string, text: string): ReturnType<typeof decodeFlight> {
  try {
    return decodeFlight(text);
  } catch (error) {
    if (!(error instanceof RingbellError)) throw error;
    throw new RingbellError(error.code, `${path}: ${error.message}`, { cause: error });
  }
}
