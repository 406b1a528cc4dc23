import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Flight } from '../../host/flight.js';
import { encodeFlight } from '../../host/observability/flight-file.js';
import { run } from './command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'inspect-'));
const path = join(folder, 'disk0.flight');
test.after(() => rmSync(folder, { recursive: true }));

const header = '00000000000000000800000000000000';
const segments = { readable: 1, writable: 2 };
const flight: Flight = {
  device: 'disk\u001b[31m0',
  side: 'device',
  deviceId: 2,
  time: 1_700_000_000_010,
  error: { code: 'ERR_RING_HEAD', message: 'queue 0: a head lies outside the descriptor table (99)' },
  queues: [
    {
      ...{ queue: 0, ring: 'split', size: 16, inFlight: 1, recorded: 1006 },
      records: [
        { number: 1000, time: 1_700_000_000_000, kind: 'pushed', head: 6, position: 4, written: 1 },
        {
          number: 1001,
          time: 1_700_000_000_001,
          kind: 'popped',
          head: 0,
          position: 5,
          segments,
          readable: 16,
          writable: 4097,
          header,
        },
        {
          number: 1002,
          time: 1_700_000_000_001,
          kind: 'popped',
          head: 3,
          position: 6,
          segments,
          readable: 16,
          writable: 513,
          header,
        },
        { number: 1003, time: 1_700_000_000_001, kind: 'returned', head: 3, position: 6, chains: 1 },
        { number: 1004, time: 1_700_000_000_001.25, kind: 'pushed', head: 0, position: 5, written: 4097 },
        {
          number: 1005,
          time: 1_700_000_000_002,
          kind: 'popped',
          head: 3,
          position: 6,
          segments,
          readable: 16,
          writable: 513,
          header,
        },
        { number: 1006, time: 1_700_000_000_003, kind: 'broken', head: 99, code: 'ERR_RING_HEAD' },
      ],
    },
    { queue: 1, ring: 'packed', size: 16, inFlight: 0, recorded: 0, records: [] },
  ],
};
writeFileSync(path, encodeFlight(flight));

test('a recording is shown as a time line', async () => {
  const { status, stdout, stderr } = await run(['inspect', path]);
  assert.is(stderr, '');
  assert.is(status, 0);
  const lines = stdout.split('\n').map((line) => line.replace(/ +/g, ' ').trim());
  assert.equal(lines, [
    'disk?[31m0 device of type 2 2023-11-14T22:13:20.010Z',
    'ERR_RING_HEAD: queue 0: a head lies outside the descriptor table (99)',
    '',
    'queue 0 split, 16 entries 1006 records, 7 of them here 1 in flight',
    'ms head at after µs',
    '-10.000 pushed 6 4 1 B written',
    '-9.000 popped 0 5 read 4 KiB at sector 8',
    '-9.000 popped 3 6 read 512 B at sector 8',
    '-9.000 returned 3 6 1 chains, unseen',
    '-8.750 pushed 0 5 250 4097 B written',
    '-8.000 popped 3 6 read 512 B at sector 8',
    '-7.000 broken 99 ERR_RING_HEAD',
    'not given back:',
    'head 3, popped 8.000 ms before: read 512 B at sector 8',
    '',
    'queue 1 packed, 16 entries 0 records, 0 of them here 0 in flight',
    '',
  ]);
});

test('--queue and --last choose what is shown, --json prints all of it', async () => {
  const { status, stdout } = await run(['inspect', path, '--json', '--queue', '0', '--last', '3']);
  assert.is(status, 0);
  const { device, error, queues } = JSON.parse(stdout);
  assert.equal([device, error], [flight.device, flight.error]);
  assert.is(queues.length, 1);
  const [{ entries, unfinished, recorded }] = queues;
  assert.equal(
    entries.map(({ number, microseconds }: { number: number; microseconds?: number }) => [
      number,
      microseconds,
    ]),
    [
      [1004, 250],
      [1005, undefined],
      [1006, undefined],
    ],
  );
  assert.equal(
    unfinished.map(({ number }: { number: number }) => number),
    [1005],
  );
  assert.is(recorded, 1006);
  const other = await run(['inspect', path, '--queue', '1']);
  assert.match(other.stdout, /queue 1/);
  assert.not.match(other.stdout, /queue 0 {2}split/);
});

test('what cannot be shown is said on one line', async () => {
  const cut = join(folder, 'cut');
  writeFileSync(cut, encodeFlight(flight).slice(0, -30));
  const noise = join(folder, 'noise');
  writeFileSync(noise, Buffer.alloc(1000, 0xee));
  for (const [operand, options, says, expected] of [
    [cut, [], /cut: it is cut off/, 1],
    [noise, [], /noise: it is no flight recording/, 1],
    ['/dev/zero', [], /\/dev\/zero: it is no regular file/, 1],
    [folder, [], /it is no regular file/, 1],
    [join(folder, 'none'), [], /none/, 1],
    [path, ['--queue', '5'], /it has no queue 5/, 1],
    [path, ['--last', 'all'], /--last 'all': must be a whole number/, 2],
  ] as const) {
    const { status, stdout, stderr } = await run(['inspect', operand, ...options]);
    assert.is(status, expected, stderr);
    assert.is(stdout, '');
    assert.match(stderr, says);
    assert.is(stderr.trimEnd().split('\n').length, 1);
  }
});

test.run();
