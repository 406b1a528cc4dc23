import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { instantiateSync } from '@assemblyscript/loader';
import { Module } from '../../host/aperture/web-assembly.js';
import { loadAddon } from '../../host/native/addon.js';
import { assemblyFile } from '../build.js';
import { quantile } from '../compare.js';
import { type DeviceTimes, KICKS_LIMIT, now, Stage, type Way } from './stage.js';

/** Milliseconds before a kick is due that the driver wakes up for it. */
const EARLY_MS = 0.3;
/** Milliseconds that the device gets to see the last kicks of a slice. */
const GRACE_MS = 20;

/** The figures of one slice. */
export interface Slice {
  /** Microseconds from a kick to its being seen. */
  p50: number;
  p99: number;
  /** Percent of a CPU that the device's thread took. */
  deviceCpu: number;
  /** Nanoseconds that a kick took the driver's thread, p50, a look at the clock included. */
  kickCost: number;
  /** Percent of a CPU that so many of these take. */
  driverCpu: number;
}

/** The driver's thread of the doorbell benchmark, and its way to the device's. */
export class Driver {
  readonly #stage = new Stage();
  readonly #device: Worker;
  readonly #kick: Record<Way, () => void>;

  constructor() {
    const { driver, doorbell, data } = this.#stage;
    this.#device = new Worker(new URL('device-main.js', import.meta.url), { workerData: data });
    const module = new Module(readFileSync(assemblyFile('doorbell')));
    const imports = { env: { memory: driver.memory } };
    const { ring } = instantiateSync(module as never, imports as never).instance.exports as unknown as {
      ring(doorbell: number, index: number): void;
    };
    const addon = loadAddon();
    this.#kick = { doorbell: () => ring(doorbell, 0), eventfd: () => addon.eventfdSignal(data.kickFd) };
  }

  /** Kicks for `seconds`, `rate` times a second on average, at random; with a rate of 0 nothing is kicked or seen. */
  async slice(way: Way, rate: number, seconds: number): Promise<Slice> {
    const { journal, data } = this.#stage;
    const kicks = Math.round(rate * seconds);
    if (kicks > KICKS_LIMIT) throw new RangeError(`${kicks} kicks are more than ${KICKS_LIMIT}`);
    journal.published = 0;
    this.#device.postMessage(way);
    await once(this.#device, 'message');
    const costs = this.#kickAtRandom(this.#kick[way], rate, kicks);
    await sleep(kicks > 0 ? GRACE_MS : seconds * 1000);
    loadAddon().eventfdSignal(data.stopFd);
    const [{ cpu, elapsed }] = (await once(this.#device, 'message')) as [DeviceTimes];
    const kickCost = quantile(costs, 0.5);
    const delays = [...journal.delays.subarray(0, kicks)];
    return {
      p50: quantile(delays, 0.5) * 1e3,
      p99: quantile(delays, 0.99) * 1e3,
      deviceCpu: (cpu / elapsed) * 100,
      kickCost: kickCost * 1e6,
      driverCpu: kickCost * rate * 0.1,
    };
  }

  async close(): Promise<void> {
    await this.#device.terminate();
    this.#stage.close();
  }

  /** As arrivals of a Poisson process: a device cannot fall into step with them. Milliseconds that each kick took. */
  #kickAtRandom(kick: () => void, rate: number, kicks: number): number[] {
    const { journal } = this.#stage;
    const costs: number[] = [];
    let due = now();
    for (let index = 0; index < kicks; index++) {
      due += (-Math.log(1 - Math.random()) / rate) * 1e3;
      waitUntil(due);
      const start = now();
      journal.times[index] = start;
      journal.published = index + 1;
      kick();
      costs.push(now() - start);
    }
    return costs;
  }
}

const never = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

/** Sleeps until shortly before `time`, and spins the rest: timers are not that exact. */
function waitUntil(time: number): void {
  const early = time - now() - EARLY_MS;
  if (early > 0) Atomics.wait(never, 0, 0, early);
  while (now() < time);
}
