import { IOTLB_ENTRIES, PAGE_SIZE } from '../../assembly/layout.js';
import { Aperture, type ApertureHandle } from '../../host/aperture/aperture.js';
import { loadAddon } from '../../host/native/addon.js';
import { DoorbellWatch } from '../../host/queue/doorbell-watch.js';
import { QueueBlock } from '../../host/queue/queue-block.js';

/** How kicks reach the device. */
export type Way = 'doorbell' | 'eventfd';

/** Kicks of one slice at most. */
export const KICKS_LIMIT = 2 ** 17;
/** Entries; no ring is used. */
const QUEUE_SIZE = 8;

/** What the device's thread is started with. */
export interface DeviceData {
  aperture: ApertureHandle;
  /** Linear addresses of the doorbell watch's list and of the VQ block in it. */
  list: number;
  vq: number;
  /** Eventfd by which the driver kicks, and one that ends a slice. */
  kickFd: number;
  stopFd: number;
  /** Linear addresses of `Journal`'s parts. */
  journal: { published: number; times: number; delays: number };
}

/** What a slice was like for the device's thread, in milliseconds. */
export interface DeviceTimes {
  cpu: number;
  elapsed: number;
}

/** What both threads write down about each kick: when the driver made it, and how long it took to be seen. */
export class Journal {
  readonly #i32: Int32Array;
  readonly #published: number;
  /** Milliseconds of `now()` just before each kick. */
  readonly times: Float64Array;
  /** Milliseconds until the device had seen it. */
  readonly delays: Float64Array;

  constructor(aperture: Aperture, { published, times, delays }: DeviceData['journal']) {
    const { buffer } = aperture.memory;
    this.#i32 = aperture.i32;
    this.#published = published / Int32Array.BYTES_PER_ELEMENT;
    this.times = new Float64Array(buffer, times, KICKS_LIMIT);
    this.delays = new Float64Array(buffer, delays, KICKS_LIMIT);
  }

  /** Kicks that the driver has written down; it kicks after it has. */
  get published(): number {
    return Atomics.load(this.#i32, this.#published);
  }

  set published(kicks: number) {
    Atomics.store(this.#i32, this.#published, kicks);
  }
}

/** Both sides of a doorbell and of an eventfd: the page in an aperture of the driver's and in one of the device's. */
export class Stage {
  readonly driver = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
  readonly device = Aperture.create({ bytes: 2 ** 24, privateBytes: 2 ** 23 });
  /** Linear address of the doorbell for the driver. */
  readonly doorbell: number;
  readonly data: DeviceData;
  readonly journal: Journal;

  constructor() {
    const addon = loadAddon();
    const page = { fd: addon.memfd('bench-doorbell', PAGE_SIZE, true), offset: 0n };
    this.doorbell = this.driver.map(page, PAGE_SIZE, 'w').linear;
    const { device } = this;
    const block = QueueBlock.allocate(device, QUEUE_SIZE, device.allocate(IOTLB_ENTRIES));
    block.watchDoorbell(device.map(page, PAGE_SIZE, 'rw').linear, block.vq);
    addon.close(page.fd);
    const { memory, privateBytes } = device;
    const bytes = KICKS_LIMIT * Float64Array.BYTES_PER_ELEMENT;
    this.data = {
      aperture: { memory, privateBytes, windows: { start: privateBytes, end: privateBytes } },
      list: DoorbellWatch.allocate(device, [block.vq]),
      vq: block.vq,
      kickFd: addon.eventfd(),
      stopFd: addon.eventfd(),
      journal: {
        published: device.allocate(Int32Array.BYTES_PER_ELEMENT),
        times: device.allocate(bytes),
        delays: device.allocate(bytes),
      },
    };
    this.journal = new Journal(device, this.data.journal);
  }

  /** No thread of the device may be left. */
  close(): void {
    loadAddon().close(this.data.kickFd);
    loadAddon().close(this.data.stopFd);
    this.driver.close();
    this.device.close();
  }
}

/** Times of two threads of one process can be compared by this: milliseconds of the monotonic clock. */
export function now(): number {
  return performance.now() + clockOffset;
}

/** What performance.now() lags behind the clock that it comes from, in this thread: the tightest of many looks. */
const clockOffset = ((): number => {
  let best = { width: Number.POSITIVE_INFINITY, offset: 0 };
  for (let look = 0; look < 1000; look++) {
    const before = performance.now();
    const [seconds, nanoseconds] = process.hrtime();
    const after = performance.now();
    const offset = seconds * 1e3 + nanoseconds / 1e6 - (before + after) / 2;
    if (after - before < best.width) best = { width: after - before, offset };
  }
  return best.offset;
})();
