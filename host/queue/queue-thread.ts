/**
 * The main module of a queue thread: runs one queue until it is asked to leave. It owns nothing but its stack; the state is
 * in the queue's block, so that a thread that dies takes nothing with it and another one can go on.
 */
import { workerData } from 'node:worker_threads';
import { VQ_KICKS } from '../../assembly/layout.js';
import { Aperture, type ApertureHandle } from '../aperture/aperture.js';
import { loadAddon } from '../native/addon.js';
import { blockDatapath, type DiskBacking } from './block-datapath.js';
import { Interrupter } from './interrupter.js';
import { QueueBlock } from './queue-block.js';
import { QueueRunner } from './queue-runner.js';
import { count } from './queue-stats.js';

/** What a queue thread is started with. */
export interface QueueThreadData {
  aperture: ApertureHandle;
  /** Linear address of the VQ block. */
  vq: number;
  /** The queue's index. */
  index: number;
  backing: DiskBacking;
  /** Linear address of the aperture's SIGBUS counter. */
  sigbusFlag: number;
  /** Eventfd that wakes this thread, whatever it waits for. */
  wakeFd: number;
  /** Eventfd that tells the control plane to look at the queues. */
  attentionFd: number;
  /** Device node for interrupts by ioctl, −1 where there are call eventfds. */
  deviceFd: number;
  /** Poll the ring for as long as there is traffic, instead of waiting for kicks at once. */
  poll: boolean;
  /** The driver may ring a doorbell page, which wakes nobody. */
  doorbell: boolean;
}

/** Milliseconds without work after which a polling thread goes to sleep. */
const POLL_IDLE_MS = 2;
/** Milliseconds; a doorbell page that nobody watches is seen after that at the latest, an owed interrupt tried again. */
const SHORT_SLEEP_MS = 1;
/** Milliseconds; an environment that ends terminates its workers, but can not interrupt a system call of theirs. */
const LONG_SLEEP_MS = 1000;

const data = workerData as QueueThreadData;
const addon = loadAddon();
const aperture = Aperture.adopt(data.aperture);
const block = new QueueBlock(aperture, data.vq);
const interrupter = new Interrupter(block, data.index, data.deviceFd);
const attention = () => addon.eventfdSignal(data.attentionFd);
const datapath = blockDatapath(block, data.backing, data.poll, attention);
const runner = new QueueRunner(block, datapath, interrupter, data.sigbusFlag, attention);

const fds = new Int32Array(2);
const ready = new Uint32Array(1);

/** Blocks until the control plane wakes this thread, or the driver kicks where that is of interest. */
function sleep(kicks: boolean, limitMs: number): void {
  fds[0] = data.wakeFd;
  fds[1] = kicks ? block.kickFd : -1;
  if (addon.poll(fds, ready, limitMs) === 0) return;
  if (ready[0]! & 1) addon.eventfdDrain(data.wakeFd);
  if (ready[0]! & 2 && addon.eventfdDrain(fds[1]!) > 0) count(aperture, block.vq, VQ_KICKS, 1);
}

/** Milliseconds, performance.now() of the last work. */
let lastWork = 0;
while (!block.exitRequested) {
  const passage = runner.run();
  if (passage === 'served') {
    if (data.poll) lastWork = performance.now();
    continue;
  }
  if (passage !== 'idle') {
    // Kicks are of no interest: resuming scans the ring anyway, and a flood of them must not keep this thread busy.
    sleep(false, LONG_SLEEP_MS);
    continue;
  }
  if (data.poll && performance.now() - lastWork < POLL_IDLE_MS) continue;
  if (runner.arm() !== 'idle') continue;
  sleep(true, data.doorbell || interrupter.owed ? SHORT_SLEEP_MS : LONG_SLEEP_MS);
  if (data.poll) runner.disarm();
}
aperture.close();
