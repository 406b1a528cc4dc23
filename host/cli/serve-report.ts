import type {
  BounceBuffer,
  DeviceStats,
  NbdDisk,
  RingbellError,
  ServedDevice,
  VdpaDevice,
} from '../index.js';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../uapi/virtio.js';
import type { OpenedModel } from './serve-kind.js';
import { styled } from './terminal.js';
import { formatBytes, formatCount } from './units.js';

/** Milliseconds between two updates of the status line. */
const STATUS_INTERVAL_MS = 1000;

/** What to do where memory of this process may not be the bounce buffer: the kernel refuses to pin that much of it. */
const MEMLOCK_REMEDY = 'raise RLIMIT_MEMLOCK (ulimit -l unlimited), or run it with CAP_SYS_RESOURCE';

/** What a device is, for people and for JSON. */
export interface Served {
  what: Pick<OpenedModel, 'text' | 'facts'>;
  queues: number;
  /** Entries. */
  queueSize: number;
}

/** What `ringbell serve` says: where the device is, a status line on a terminal, errors, the counters at the end. */
export class ServeReport {
  readonly #device: ServedDevice;
  readonly #served: Served;
  readonly #json: boolean;
  #timer: NodeJS.Timeout | undefined;
  #last: DeviceStats;
  #lastError = '';
  #busy = false;

  constructor(device: ServedDevice, served: Served, json: boolean) {
    this.#device = device;
    this.#served = served;
    this.#json = json;
    this.#last = device.stats();
    device.on('error', (error) => this.#error(error));
    device.on('bounceBuffer', (bounceBuffer, reason) => {
      if (reason !== undefined) this.#note(bounceBufferText(bounceBuffer, reason));
    });
  }

  /** Says from now on what happens to the connections of a disk on an NBD server. */
  follow(disk: NbdDisk): void {
    disk.events.on('reconnecting', (error) => this.#error(error));
    disk.events.on('reconnected', () => {
      this.#lastError = '';
      this.#note('connected again');
    });
  }

  /** The device is on the bus: says where, and begins with the status line. */
  started({ name, driver, node }: VdpaDevice): void {
    const { what, queues, queueSize } = this.#served;
    const { bounceBuffer, bounceBufferReason } = this.#device;
    if (this.#json) {
      this.#print({
        ...{ event: 'serving', name, driver: driver ?? null, node: node ?? null },
        ...what.facts(),
        ...{
          takenOver: this.#device.takenOver,
          bounceBuffer,
          bounceBufferReason: bounceBufferReason ?? null,
          queues,
          queueSize,
          features: this.#device.features,
        },
      });
    } else {
      const place = node ?? (driver === undefined ? 'not bound to a driver' : `bound to ${driver}`);
      const taken = this.#device.takenOver ? ', taken over' : '';
      const indent = ' '.repeat(name.length);
      process.stdout.write(`${styled(process.stdout, 'bold', name)}  ${place}${taken}\n`);
      process.stdout.write(
        `${indent}  ${what.text()}; ${queues === 1 ? '1 queue' : `${queues} queues`} of ${queueSize}\n`,
      );
      if (bounceBuffer !== 'none')
        process.stdout.write(`${indent}  ${bounceBufferText(bounceBuffer, bounceBufferReason)}\n`);
    }
    if (process.stderr.isTTY)
      this.#timer = setInterval(() => this.#updateStatus(), STATUS_INTERVAL_MS).unref();
  }

  /** The device cannot go yet: says so, once. */
  busy(error: RingbellError): void {
    if (this.#busy) return;
    this.#busy = true;
    this.#note(
      `${error.message}: serving it until that is closed; Ctrl-C again ends at once and leaves the device`,
    );
  }

  /** Everything is over: the counters. */
  ended(): void {
    clearInterval(this.#timer);
    this.#clearLine();
    const { name } = this.#device;
    const stats = this.#device.stats();
    const { requests, bytesRead, bytesWritten } = stats;
    if (this.#json) this.#print({ event: 'ended', name, stats });
    else
      process.stdout.write(
        `${name}  ended: ${formatCount(requests)} requests, ${formatBytes(bytesRead)} read, ${formatBytes(bytesWritten)} written\n`,
      );
  }

  #updateStatus(): void {
    const now = this.#device.stats();
    const rate = (counter: 'requests' | 'bytesRead' | 'bytesWritten') =>
      ((now[counter] - this.#last[counter]) * 1000) / STATUS_INTERVAL_MS;
    const { status, bounceBuffer } = this.#device;
    this.#last = now;
    this.#clearLine();
    process.stderr.write(
      [
        status & VIRTIO_CONFIG_S_DRIVER_OK ? 'driver running' : 'no driver',
        ...(bounceBuffer === 'none' ? [] : [`bounce buffer ${bounceBuffer}`]),
        `${formatCount(rate('requests'))} requests/s`,
        `${formatBytes(rate('bytesRead'))}/s read`,
        `${formatBytes(rate('bytesWritten'))}/s written`,
      ].join(' · '),
    );
  }

  /** A disk that fails request by request says so once, not once a request. */
  #error(error: RingbellError): void {
    const text = `${error.code}: ${error.message}`;
    if (text === this.#lastError) return;
    this.#lastError = text;
    this.#note(text);
  }

  #note(text: string): void {
    this.#clearLine();
    process.stderr.write(`ringbell: ${this.#device.name}: ${text}\n`);
  }

  #clearLine(): void {
    if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  }

  #print(object: object): void {
    process.stdout.write(`${JSON.stringify(object)}\n`);
  }
}

/** Where the bounce buffers are, for people; with a reason, why they are not where they should be, and the remedy. */
export function bounceBufferText(bounceBuffer: BounceBuffer, reason: string | undefined): string {
  const where = bounceBuffer === 'umem' ? 'memory of this process (umem)' : "the kernel's own pages (fd)";
  if (reason === undefined) return `bounce buffer: ${where}`;
  // The limit: as the kernel refuses to pin, and as it refuses to raise it.
  const remedy = /^(ENOMEM|EPERM)\b/.test(reason) ? `: ${MEMLOCK_REMEDY}` : '';
  return `bounce buffer: ${where}, because memory of this process cannot be it (${reason})${remedy}`;
}
