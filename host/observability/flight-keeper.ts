import { join } from 'node:path';
import { RingbellError } from '../errors.js';
import type { Flight, QueueFlight } from '../flight.js';
import type { FlightRecorderPlan } from '../options.js';
import { writeFlight } from './flight-file.js';
import type { Side } from './snapshot.js';

/** What a device that keeps flight recorders says of itself. */
export interface FlightSubject {
  readonly device: string;
  readonly side: Side;
  /** VIRTIO_ID_*. */
  readonly deviceId: number;
}

/** The flight recorders of a device, of either side: gives out what they hold, and leaves it in files when the device breaks. */
export class FlightKeeper {
  readonly #plan: FlightRecorderPlan | undefined;
  readonly #subject: FlightSubject;
  readonly #queues: () => readonly (QueueFlight | undefined)[];
  readonly #failed: (error: unknown) => void;
  /** Files that are being written. */
  #writing: Promise<void> = Promise.resolve();

  /** `queues` reads the recorders; `failed` is told of a file that could not be written. */
  constructor(
    plan: FlightRecorderPlan | undefined,
    subject: FlightSubject,
    queues: () => readonly (QueueFlight | undefined)[],
    failed: (error: unknown) => void,
  ) {
    this.#plan = plan;
    this.#subject = subject;
    this.#queues = queues;
    this.#failed = failed;
  }

  /** What the recorders hold now. Throws ERR_NOT_SUPPORTED where there are none. */
  read(): Flight {
    if (!this.#plan)
      throw new RingbellError('ERR_NOT_SUPPORTED', `${this.#subject.device} has no flight recorder`);
    const time = performance.timeOrigin + performance.now();
    return { ...this.#subject, time, queues: this.#queues().filter((queue) => queue !== undefined) };
  }

  /** Writes what they hold now to a file. Rejects with ERR_NOT_SUPPORTED where there are none, a SystemError. */
  async dump(path: string): Promise<void> {
    await writeFlight(path, this.read());
  }

  /** The device broke: has `error` carry what the recorders hold, and leaves it in a file where that is wanted. */
  broken(error: RingbellError): void {
    if (!this.#plan) return;
    const { code, message } = error;
    const { queues, ...rest } = this.read();
    const flight: Flight = { ...rest, error: { code, message }, queues };
    // Not among what is printed of an error.
    Object.defineProperty(error, 'flight', { value: flight });
    const { folder } = this.#plan;
    if (folder === undefined) return;
    const path = join(folder, fileName(flight));
    this.#writing = this.#writing.then(() => writeFlight(path, flight)).catch(this.#failed);
  }

  /** Resolves once nothing is being written. */
  written(): Promise<void> {
    return this.#writing;
  }
}

/** By device, side and moment; a path names no folder by it. */
function fileName({ device, side, time }: Flight): string {
  const moment = new Date(time).toISOString().replaceAll(':', '-');
  return `${device.replace(/[^\w.-]+/g, '_')}-${side}-${moment}.flight`;
}
