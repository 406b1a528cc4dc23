import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DemoReport } from '../../host/cli/report.js';
import { run } from './command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'demo-'));
/** Runs that a measurement is given on a busy machine. */
const ATTEMPTS = 8;
const temporary = join(folder, 'temporary');
mkdirSync(temporary);
test.after(() => rmSync(folder, { recursive: true }));

/** Runs the demo for its JSON, and checks that it left nothing behind. */
async function demo(...options: string[]): Promise<DemoReport> {
  const { status, stdout, stderr } = await run(['demo', '--json', ...options], { TMPDIR: temporary });
  assert.is(stderr, '');
  assert.is(status, 0);
  assert.equal(readdirSync(temporary), []);
  return JSON.parse(stdout) as DemoReport;
}

test('the demo verifies and measures both modes', async () => {
  const report = await demo('--seconds', '1', '--size', '32M');
  assert.is(report.verified.read.equal, true);
  assert.is(report.verified.read.bytes, 32 * 2 ** 20);
  assert.is(report.verified.read.sha256, report.image.sha256);
  assert.is(report.verified.written.equal, true);
  assert.equal(
    report.results.map(({ mode, operation }) => `${mode} ${operation}`),
    ['poll read', 'poll write', 'notify read', 'notify write'],
  );
  for (const result of report.results) {
    assert.ok(result.requests > 0);
    assert.ok(result.iops > 0 && result.bytesPerSecond > 0);
    const { p50, p90, p99, p999, max } = result.latency;
    assert.ok(
      0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= p999 && p999 <= max,
      JSON.stringify(result.latency),
    );
  }
  assert.ok(report.memory.rssStart > 0 && report.memory.rssEnd > 0);
  assert.type(report.memory.heapBytesPerRequest, 'number');
});

test('polling takes at most a tenth of a notification and of a crossing per request', async () => {
  let least = { notifications: Number.POSITIVE_INFINITY, crossings: Number.POSITIVE_INFINITY };
  // Where others take the processors away from either side, the other one gives up polling: not every run counts.
  for (
    let attempt = 0;
    attempt < ATTEMPTS && Math.max(least.notifications, least.crossings) > 0.1;
    attempt++
  ) {
    const [read] = (await demo('--seconds', '1', '--size', '16M', '--mode', 'poll')).results;
    assert.is(read!.operation, 'read');
    if (read!.crossingsPerRequest < least.crossings)
      least = { notifications: read!.notificationsPerRequest, crossings: read!.crossingsPerRequest };
  }
  assert.ok(least.notifications <= 0.1, `${least.notifications} notifications`);
  assert.ok(least.crossings <= 0.1, `${least.crossings} crossings`);
});

test('an image of the user is read and never changed', async () => {
  const path = join(folder, 'mine.img');
  const bytes = Buffer.from(Uint8Array.from({ length: 3 * 2 ** 20 + 512 }, (_, i) => i * 13 + (i >> 10)));
  writeFileSync(path, bytes);
  const report = await demo('--seconds', '0.2', '--mode', 'poll', '--image', path);
  assert.is(report.image.kind, 'given');
  assert.is(report.verified.read.sha256, createHash('sha256').update(bytes).digest('hex'));
  assert.is(report.verified.written.equal, true);
  assert.is(Buffer.compare(readFileSync(path), bytes), 0);
});

test('an image too small for files is seeded, and is the same each time', async () => {
  const options = ['--seconds', '0.2', '--mode', 'notify', '--size', '1M', '--block-size', '512'];
  const first = await demo(...options);
  assert.is(first.image.kind, 'seeded');
  assert.is((await demo(...options)).image.sha256, first.image.sha256);
});

test('several queues and large blocks are driven in both modes', async () => {
  const report = await demo(
    '--seconds',
    '0.3',
    '--size',
    '16M',
    '--queues',
    '2',
    '--queue-depth',
    '8',
    '--block-size',
    '256k',
  );
  assert.is(report.results.length, 4);
  for (const { requests } of report.results) assert.ok(requests > 0);
});

test('without --json the demo prints a table for people', async () => {
  const { status, stdout, stderr } = await run(['demo', '--seconds', '0.2', '--size', '1M'], {
    TMPDIR: temporary,
  });
  assert.is(stderr, '');
  assert.is(status, 0);
  assert.match(stdout, /^image .*\nread .*equal to the file\n +SHA-256 [0-9a-f]{64}\nwritten .*equal\n/);
  assert.match(
    stdout,
    /^mode +operation +IOPS +throughput +p50 µs +p90 +p99 +p99\.9 +max +notifications\/req +crossings\/req$/m,
  );
  assert.match(stdout, /^poll +write +\S/m);
  assert.match(stdout, /^notify +read +\S/m);
});

test.run();
