import { createHash } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RingbellError } from '../../host/errors.js';
import type { Flight } from '../../host/flight.js';
import { decodeFlight, encodeFlight } from '../../host/observability/flight-file.js';

const taken = { number: 7, time: 5.25, head: 3, position: 1 };
const flight: Flight = {
  device: 'disk0',
  side: 'device',
  deviceId: 2,
  time: 6.5,
  error: { code: 'ERR_RING_HEAD', message: 'queue 0: a head lies outside' },
  queues: [
    {
      ...{ queue: 0, ring: 'packed', size: 16, inFlight: 1, recorded: 10 },
      records: [
        {
          ...taken,
          kind: 'popped',
          descriptors: 2,
          segments: { readable: 1, writable: 2 },
          readable: 16,
          writable: 513,
        },
        { ...taken, number: 8, kind: 'pushed', descriptors: 2, written: 513 },
        { number: 9, time: 5.5, kind: 'broken', head: 99, code: 'ERR_RING_HEAD', iova: '0x7f0000000000' },
      ],
    },
    { queue: 1, ring: 'split', size: 16, inFlight: 0, recorded: 0, records: [] },
  ],
};

/** A file of these lines, which says of itself that it is whole. */
function fileOf(lines: readonly unknown[]): string {
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  const sha256 = createHash('sha256').update(text).digest('hex');
  return `${text}${JSON.stringify({ lines: lines.length, sha256 })}\n`;
}

/** Asserts that the text of a file is refused, for a reason. */
function refused(text: string, why: RegExp): void {
  assert.throws(
    () => decodeFlight(text),
    (error: unknown) => {
      assert.instance(error, RingbellError);
      assert.is((error as RingbellError).code, 'ERR_FLIGHT_FILE');
      assert.match((error as RingbellError).message, why);
      return true;
    },
  );
}

const lines = encodeFlight(flight)
  .trimEnd()
  .split('\n')
  .slice(0, -1)
  .map((line) => JSON.parse(line));

test('what is written is what is read', () => {
  assert.equal(decodeFlight(encodeFlight(flight)), flight);
  assert.is(fileOf(lines), encodeFlight(flight));
});

test('a file that is cut off anywhere is refused', () => {
  const text = encodeFlight(flight);
  for (let length = 0; length < text.length; length++)
    refused(text.slice(0, length), /cut off|no flight recording|damaged/);
});

test('a file in which a character was changed is refused', () => {
  const text = encodeFlight(flight);
  for (let at = 0; at < text.length; at++) refused(`${text.slice(0, at)}~${text.slice(at + 1)}`, /./);
});

test('what is no flight recording is called that', () => {
  for (const text of [
    '',
    '\n',
    'hello\n',
    '{}\n',
    '[]\n',
    'null\n',
    '{"format":"other"}\n{}\n',
    '\0'.repeat(100),
  ])
    refused(text, /it is no flight recording/);
});

test('a file of another version is called that', () => {
  refused(fileOf([{ ...lines[0], version: 2 }, ...lines.slice(1)]), /its version is 2, and 1 is known here/);
});

test('a file that is whole and makes no sense is refused, with the line', () => {
  const change = (line: number, fields: object) =>
    fileOf(lines.map((value, index) => (index === line - 1 ? { ...value, ...fields } : value)));
  refused(change(1, { device: 5 }), /line 1: device is no text/);
  refused(change(1, { side: 'both' }), /line 1 has no side/);
  refused(change(1, { queues: -1 }), /line 1: queues is no whole number/);
  refused(change(1, { queues: 1 }), /line 6 belongs to no queue/);
  refused(change(1, { queues: 1e9 }), /ends too early/);
  refused(change(2, { records: 1e15 }), /./);
  refused(change(2, { ring: 'round' }), /line 2 has no ring/);
  refused(change(3, { kind: 'lost' }), /line 3 is no record/);
  refused(change(3, { head: -5 }), /line 3: head is no whole number/);
  refused(change(3, { time: 'noon' }), /line 3: time is no number/);
  refused(change(3, { segments: { readable: 1 } }), /line 3: segments is no whole number/);
  refused(change(5, { iova: 7 }), /line 5: iova is no text/);
});

test.run();
