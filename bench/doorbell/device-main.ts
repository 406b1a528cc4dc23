/** The device's thread of the doorbell benchmark: waits for kicks, slice after slice, and does nothing with them. */
import { readFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { Aperture } from '../../host/aperture/aperture.js';
import { loadAddon } from '../../host/native/addon.js';
import { DoorbellWatch } from '../../host/queue/doorbell-watch.js';
import { type DeviceData, type DeviceTimes, Journal, now, type Way } from './stage.js';

/** Milliseconds; how long a queue thread sleeps that has no doorbell to watch. */
const LONG_SLEEP_MS = 1000;
/** The only queue of the watch's list. */
const FIRST = 1;

const data = workerData as DeviceData;
const addon = loadAddon();
const aperture = Aperture.adopt(data.aperture);
const journal = new Journal(aperture, data.journal);
const watch = new DoorbellWatch(aperture, data.list, data.vq);
const fds = new Int32Array([data.stopFd, data.kickFd]);
const ready = new Uint32Array(1);
let stopped = false;

/** Sleeps as a queue thread does: whether something has woken it. */
function sleep(limitMs: number): boolean {
  if (addon.poll(fds, ready, limitMs, true) === 0) return false;
  if (ready[0]! & 1) stopped = true;
  return true;
}

const WAIT: Record<Way, () => void> = {
  doorbell: () => void watch.wait(FIRST, sleep),
  eventfd: () => void sleep(LONG_SLEEP_MS),
};

/** Milliseconds of CPU that this thread has used. */
function cpuTime(): number {
  return Number.parseInt(readFileSync('/proc/thread-self/schedstat', 'latin1'), 10) / 1e6;
}

parentPort!.on('message', (way: Way) => {
  const wait = WAIT[way];
  stopped = false;
  parentPort!.postMessage('ready');
  const start = { cpu: cpuTime(), time: now() };
  for (let seen = 0; !stopped; ) {
    wait();
    const published = journal.published;
    const time = now();
    for (; seen < published; seen++) journal.delays[seen] = time - journal.times[seen]!;
  }
  const times: DeviceTimes = { cpu: cpuTime() - start.cpu, elapsed: now() - start.time };
  parentPort!.postMessage(times);
});
