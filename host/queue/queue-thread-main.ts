/**
 * The main module of a queue thread: runs some queues until it is asked to leave. It owns nothing but its stack; the state
 * is in the queues' blocks, so that a thread that dies takes nothing with it and another one can go on.
 */
import { workerData } from 'node:worker_threads';
import { VQ_CROSSINGS, VQ_KICKS } from '../../assembly/layout.js';
import { Aperture } from '../aperture/aperture.js';
import { loadAddon } from '../native/addon.js';
import { createDatapath } from './datapath.js';
import { DoorbellWatch } from './doorbell-watch.js';
import { Interrupter } from './interrupter.js';
import { QueueBlock } from './queue-block.js';
import { type Passage, QueueRunner } from './queue-runner.js';
import { count } from './queue-stats.js';
import type { QueueThreadData, QueueThreadQueue } from './queue-thread-data.js';
import { threadId } from './thread-id.js';
import { TurnGiver } from './turn-giver.js';

/**
 * Bursts before the datapath comes back whatever the ring holds, so that this thread sees a request to leave; the queues of a
 * thread share them, so that none starves another.
 */
const THREAD_BURSTS = 256;
/** Milliseconds; an owed interrupt is tried again after that. */
const SHORT_SLEEP_MS = 1;
/** Milliseconds; an environment that ends terminates its workers, but can not interrupt a system call of theirs. */
const LONG_SLEEP_MS = 1000;

const data = workerData as QueueThreadData;
const addon = loadAddon();
const aperture = Aperture.adopt(data.aperture);
const attention = () => addon.eventfdSignal(data.attentionFd);
if (data.cpu !== undefined) addon.setAffinity([data.cpu]);

/** A queue, and how its last passage through the gate ended. */
interface Lane {
  block: QueueBlock;
  interrupter: Interrupter;
  runner: QueueRunner;
  passage: Passage;
}

const options = {
  pollers: data.poll ? data.queues.length : 0,
  bursts: Math.ceil(THREAD_BURSTS / data.queues.length),
  attention,
};

const thread = threadId();

async function createLane({ index, vq, datapath: source }: QueueThreadQueue): Promise<Lane> {
  const block = new QueueBlock(aperture, vq);
  block.thread = thread;
  const interrupter = new Interrupter(block, index, data.deviceFd);
  const datapath = await createDatapath(source, block, options);
  const runner = new QueueRunner(block, datapath, interrupter, data.sigbusFlag, attention);
  return { block, interrupter, runner, passage: 'idle' };
}

const lanes = await Promise.all(data.queues.map(createLane));

const turnGiver = new TurnGiver(() => {
  count(aperture, first!.block.vq, VQ_CROSSINGS, 1n);
  return addon.yield();
});
const [first] = lanes;
const doorbells = new DoorbellWatch(aperture, data.doorbells, first!.block.vq);
const fds = new Int32Array(1 + lanes.length);
const ready = new Uint32Array(1);
fds[0] = data.wakeFd;

/** Counts a wake-up for each queue whose bit is set. */
function countKicks(bits: number): void {
  for (const [index, lane] of lanes.entries())
    if ((bits >>> index) & 1) count(aperture, lane.block.vq, VQ_KICKS, 1n);
}

/** Milliseconds that this thread may sleep at most, by what it owes. */
let sleepLimitMs = LONG_SLEEP_MS;

/** Sleeps in poll(2) for `limitMs` at most: whether there is something else to do than to sleep on. */
function sleepFor(limitMs: number): boolean {
  // One wait for all of the queues: the first has it in its counters.
  count(aperture, first!.block.vq, VQ_CROSSINGS, 1n);
  if (addon.poll(fds, ready, Math.min(limitMs, sleepLimitMs), true) === 0)
    return sleepLimitMs !== LONG_SLEEP_MS;
  countKicks(ready[0]! >>> 1);
  return true;
}

/**
 * Waits until the control plane wakes this thread, or a driver kicks an idle queue or rings its doorbell. Of a queue that is
 * closed or stalled both are of no interest: resuming scans the ring anyway, and a flood of them must not keep this thread
 * busy.
 */
function wait(): void {
  let watched = 0;
  sleepLimitMs = LONG_SLEEP_MS;
  for (const [index, lane] of lanes.entries()) {
    const idle = lane.passage === 'idle';
    fds[1 + index] = idle ? lane.block.kickFd : -1;
    if (idle && lane.block.doorbell !== 0) watched |= 1 << index;
    if (lane.interrupter.owed) sleepLimitMs = SHORT_SLEEP_MS;
  }
  if (watched === 0) sleepFor(LONG_SLEEP_MS);
  else countKicks(doorbells.wait(watched, sleepFor));
}

/** One burst of each queue; a wait, if there was nothing to serve. A function, because V8 compiles these best. */
function round(): void {
  let served = false;
  for (const lane of lanes) {
    lane.passage = lane.runner.run();
    if (lane.passage === 'served') served = true;
  }
  if (served) {
    // A thread that polls has its CPU for itself.
    if (!data.poll) turnGiver.give();
    return;
  }
  turnGiver.missed();
  let quiet = true;
  for (const lane of lanes) if (lane.passage === 'idle' && lane.runner.arm() !== 'idle') quiet = false;
  if (!quiet) return;
  wait();
  if (data.poll) for (const lane of lanes) if (lane.passage === 'idle') lane.runner.disarm();
}

while (!first!.block.exitRequested) round();
aperture.close();
