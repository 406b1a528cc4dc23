import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { processActivity } from '../../host/cli/activity.js';
import { LiveScreen } from '../../host/cli/live-screen.js';
import { topLines } from '../../host/cli/top-report.js';
import { BlockDevice, Bus, expose, openBlock, serve } from '../../host/index.js';
import type { ProcessSnapshot } from '../../host/observability/process-snapshot.js';
import { findTool } from '../vm/requirements.js';
import { run, start } from './command-line.js';

const folder = mkdtempSync(join(tmpdir(), 'top-'));
test.after(() => rmSync(folder, { recursive: true }));
const MAIN = fileURLToPath(new URL('../../host/cli/main.js', import.meta.url));
const CONTROL = /(?!\n)\p{Cc}/u;

/** A disk under load, exposed, while `act` runs. */
async function underLoad(
  act: (path: string) => Promise<void>,
  path = join(folder, 'load.sock'),
): Promise<void> {
  const bus = new Bus();
  const device = await serve(new BlockDevice({ memory: 2 ** 20 }), { name: 'disk0', bus, threads: 0 });
  const disk = await openBlock('disk0', { bus });
  const exposure = await expose({ path });
  let ended = false;
  const load = (async () => {
    // A turn of the event loop between two: the socket is served by it, too.
    for (; !ended; await new Promise(setImmediate)) await disk.read(0, 4096);
  })();
  try {
    await act(path);
  } finally {
    ended = true;
    await load;
    await exposure.close();
    await disk.close();
    await device.close();
    await bus.close();
  }
}

test('--once --json: one object with what both sides did', () =>
  underLoad(async (path) => {
    const { status, stdout, stderr } = await run(['top', path, '--once', '--json', '--interval', '0.5']);
    assert.is(stderr, '');
    assert.is(status, 0);
    assert.is(stdout.trimEnd().split('\n').length, 1);
    const { processes, silent } = JSON.parse(stdout);
    assert.equal(silent, []);
    const [{ pid, queues, threads, seconds }] = processes;
    assert.is(pid, process.pid);
    assert.ok(seconds >= 0.45, `${seconds}`);
    for (const [index, side] of ['device', 'driver'].entries()) {
      const queue = queues[index];
      assert.is(queue.device, 'disk0');
      assert.is(queue.side, side);
      assert.is(queue.state, 'running');
      assert.ok(queue.requestsPerSecond > 0);
      assert.ok(Math.abs(queue.bytesReadPerSecond - 4096 * queue.requestsPerSecond) < 1);
      assert.ok(queue.latency.p50 > 0 && queue.latency.p50 <= queue.latency.p99);
      assert.ok(queue.notificationsPerRequest > 0);
      assert.is(queue.thread, process.pid);
      assert.ok(queue.cpu > 0);
    }
    assert.match(threads[0].runs, /disk0 0/);
  }));

test('plain lines where there is no terminal', () =>
  underLoad(async (path) => {
    const { status, stdout } = await run(['top', path, '--once', '--interval', '0.3']);
    assert.is(status, 0);
    assert.not.match(stdout, CONTROL);
    assert.match(stdout, /^1 process · 2 devices · 2 queues · /);
    assert.match(stdout, new RegExp(`^ *${process.pid}  disk0 +device +running +0 `, 'm'));
    assert.match(stdout, new RegExp(`^ *${process.pid}  disk0 +driver +running +0 `, 'm'));
    assert.match(stdout, /messages of disk0$/m);
  }));

test('goes on until Ctrl-C, which is its regular end; one object an interval', () =>
  underLoad(async (path) => {
    const top = start(['top', path, '--json', '--interval', '0.1']);
    while (top.said.stdout.split('\n').length < 4) await new Promise((resolve) => setTimeout(resolve, 20));
    top.kill('SIGINT');
    const { status, stdout, stderr } = await top.outcome;
    assert.is(stderr, '');
    assert.is(status, 0);
    for (const line of stdout.trimEnd().split('\n')) assert.is(JSON.parse(line).processes.length, 1);
  }));

test('finds processes by itself, past dead and lying sockets', async () => {
  const runtime = mkdtempSync(join(folder, 'runtime-'));
  const stats = join(runtime, 'ringbell-stats');
  mkdirSync(stats, { mode: 0o700 });
  const dead = `import { createServer } from 'node:net'; createServer().listen(${JSON.stringify(join(stats, '1.sock'))}, () => process.kill(process.pid, 'SIGKILL'));`;
  await once(spawn(process.execPath, ['--input-type=module', '-e', dead]), 'close');
  const liar = createServer((socket) => {
    socket.on('error', () => {});
    socket.write('\x1b[2J lies\n');
  }).listen(join(stats, '2.sock'));
  await once(liar, 'listening');
  await underLoad(
    async () => {
      const { status, stdout, stderr } = await run(['top', '--once', '--json', '--interval', '0.2'], {
        XDG_RUNTIME_DIR: runtime,
        TMPDIR: runtime,
      });
      assert.is(status, 0, stderr);
      const { processes, silent } = JSON.parse(stdout);
      assert.equal(
        processes.map(({ pid }: { pid: number }) => pid),
        [process.pid],
      );
      assert.is(silent.length, 1);
      assert.match(silent[0].why, /sends no snapshot|not asked/);
      assert.not.match(silent[0].why, CONTROL);
    },
    join(stats, `${process.pid}.sock`),
  );
  liar.close();
});

test('nobody to look at is a failure with --once, and says what to do', async () => {
  const empty = mkdtempSync(join(folder, 'empty-'));
  const environment = { XDG_RUNTIME_DIR: empty, TMPDIR: empty };
  for (const operand of [[], [join(empty, 'none.sock')]]) {
    const { status, stdout, stderr } = await run(
      ['top', ...operand, '--once', '--interval', '0.1'],
      environment,
    );
    assert.is(status, 1);
    assert.is(stdout, '');
    assert.match(stderr, /^ringbell: [^\n]*see expose\(\), and ringbell serve --stats\n$/);
  }
});

test('a terminal is used whole, and given back at Ctrl-C', () =>
  underLoad(async (path) => {
    const script = findTool('script');
    if (!script) {
      console.log('skipped: there is no script');
      return;
    }
    const command = `${process.execPath} ${MAIN} top ${path} --interval 0.1`;
    const child = spawn(script, ['-qec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'inherit'] });
    let said = '';
    child.stdout.on('data', (chunk) => (said += chunk));
    while (said.split('\x1b[H').length < 4 || !said.includes('disk0'))
      await new Promise((resolve) => setTimeout(resolve, 20));
    child.stdin.write('\x03');
    const [status] = await once(child, 'close');
    assert.is(status, 0);
    assert.ok(said.startsWith('\x1b[?1049h\x1b[?25l'), JSON.stringify(said.slice(0, 40)));
    assert.ok(said.endsWith('\x1b[?25h\x1b[?1049l'), JSON.stringify(said.slice(-40)));
  }));

/** A process with a device of one queue. */
function look(time: number, queue: object, device: object = {}): ProcessSnapshot {
  const counters = {
    requests: 0,
    bytesRead: 0,
    bytesWritten: 0,
    kicks: 0,
    interrupts: 0,
    crossings: 0,
    inFlight: 0,
  };
  return {
    version: 1,
    pid: 7,
    title: 'node',
    time,
    devices: [
      {
        name: 'd',
        side: 'device',
        deviceId: 2,
        broken: false,
        status: 15,
        queues: [{ queue: 0, ...counters, ...queue }],
        ...device,
      },
    ],
    threads: [{ thread: 9, cpu: time / 4 }],
  };
}

test('what two looks differ by is what was done between them', () => {
  const { seconds, queues, threads } = processActivity(
    look(1000, { requests: 100, interrupts: 10, interruptsSuppressed: 5, kicks: 7, thread: 9 }),
    look(3000, {
      requests: 300,
      interrupts: 20,
      interruptsSuppressed: 35,
      kicks: 27,
      inFlight: 3,
      thread: 9,
    }),
  );
  assert.is(seconds, 2);
  assert.equal(queues[0], {
    device: 'd',
    side: 'device',
    queue: 0,
    state: 'running',
    requestsPerSecond: 100,
    bytesReadPerSecond: 0,
    bytesWrittenPerSecond: 0,
    inFlight: 3,
    latency: null,
    notificationsPerRequest: 30 / 200,
    suppressed: 30 / 40,
    thread: 9,
    cpu: 0.25,
  });
  assert.equal(threads, [{ thread: 9, runs: 'd 0', cpu: 0.25 }]);
});

test('percentiles are those of the requests that were timed between the looks', () => {
  const latency = (buckets: [number, number][]) => ({ latency: { samples: 1, sum: 1, buckets } });
  const { queues } = processActivity(
    look(
      0,
      latency([
        [1000, 500],
        [9000, 1],
      ]),
    ),
    look(
      1000,
      latency([
        [1000, 500],
        [2000, 90],
        [5000, 9],
        [9000, 2],
      ]),
    ),
  );
  assert.equal(queues[0]!.latency, { p50: 2, p90: 2, p99: 5, samples: 100 });
});

test('a device that was served anew begins at 0, a broken one says so, one without a driver is idle', () => {
  const { queues } = processActivity(
    look(0, { requests: 500 }),
    look(1000, { requests: 20 }, { broken: true }),
  );
  assert.is(queues[0]!.requestsPerSecond, 20);
  assert.is(queues[0]!.state, 'broken');
  const idle = look(1000, {}, { status: 0 });
  assert.is(processActivity(idle, idle).queues[0]!.state, 'idle');
});

test('the report has a line for each queue and thread, and dashes for what nobody knows', () => {
  const now = look(1000, {});
  const lines = topLines(
    { processes: [processActivity(look(0, {}), now)], silent: [{ path: '/s', why: 'it lies' }] },
    { write: () => true },
    '',
  );
  assert.is(lines[0], '1 process · 1 device · 1 queue · 0 requests/s');
  assert.match(lines[3]!, /^ *7 {2}d +device +running +0 +0 +0 B +0 B +0 +- +- +- +- +-$/);
  assert.match(lines.join('\n'), /^ *7 +9 +25 % +event loop$/m);
  assert.is(lines.at(-1), '/s: it lies');
});

/** A terminal that remembers what was written. */
class Terminal {
  columns = 10;
  rows = 2;
  written = '';
  readonly #listeners = new Set<() => void>();
  write(text: string): boolean {
    this.written += text;
    return true;
  }
  on(_event: string, listener: () => void): void {
    this.#listeners.add(listener);
  }
  off(_event: string, listener: () => void): void {
    this.#listeners.delete(listener);
  }
  resize(columns: number, rows: number): void {
    Object.assign(this, { columns, rows, written: '' });
    for (const listener of this.#listeners) listener();
  }
}

test('the screen shows what fits, again when its size changes, and is given back', () => {
  const terminal = new Terminal();
  const before = process.listenerCount('exit');
  const screen = new LiveScreen(terminal);
  terminal.written = '';
  screen.show(['0123456789abc', '\x1b[1mbold and long\x1b[22m', 'third']);
  assert.is(terminal.written, '\x1b[H0123456789\x1b[K\r\n\x1b[1mbold and l\x1b[22m\x1b[0m\x1b[K\x1b[J');
  terminal.resize(4, 3);
  assert.is(terminal.written, '\x1b[H0123\x1b[K\r\n\x1b[1mbold\x1b[22m\x1b[0m\x1b[K\r\nthir\x1b[K\x1b[J');
  terminal.written = '';
  screen.close();
  assert.is(terminal.written, '\x1b[?25h\x1b[?1049l');
  terminal.resize(80, 24);
  assert.is(terminal.written, '', 'nothing is drawn any more');
  assert.is(process.listenerCount('exit'), before);
});

test.run();
