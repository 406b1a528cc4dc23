import { channel } from 'node:diagnostics_channel';
import { inspect } from 'node:util';
import {
  VIRTIO_CONSOLE_CONSOLE_PORT,
  VIRTIO_CONSOLE_DEVICE_READY,
  VIRTIO_CONSOLE_F_MULTIPORT,
  VIRTIO_CONSOLE_PORT_ADD,
  VIRTIO_CONSOLE_PORT_NAME,
  VIRTIO_CONSOLE_PORT_OPEN,
  VIRTIO_CONSOLE_PORT_READY,
  VIRTIO_CONSOLE_PORT_REMOVE,
  VIRTIO_CONSOLE_RESIZE,
} from '../../assembly/virtio.js';
import { abortError, type RingbellError } from '../errors.js';
import { checkOptions, checkSignal } from '../options.js';
import {
  CONTROL_RECEIVEQ,
  CONTROL_TRANSMITQ,
  decodeMessage,
  decodeSize,
  encodeMessage,
  receiveqOf,
} from '../uapi/console-message.js';
import type { CompletionMode } from './completion-watch.js';
import { type ConsoleConfig, readConsoleConfig } from './console-config.js';
import { DrivenConsolePort } from './driven-console-port.js';
import { DrivenDevice } from './driven-device.js';
import { ReceiveQueue } from './receive-queue.js';
import { Transmission } from './transmission.js';
import { TransmitQueue } from './transmit-queue.js';
import type { VirtioDriver } from './virtio-driver.js';

const PORT_OPTION_NAMES = ['signal'];

const channels = {
  key: 'console',
  open: channel('ringbell:console:open'),
  doorbell: channel('ringbell:console:doorbell'),
  config: channel('ringbell:console:config'),
  error: channel('ringbell:console:error'),
  close: channel('ringbell:console:close'),
};

/** Of `port`. */
export interface ConsolePortCallOptions {
  /** Rejects the call with an AbortError. */
  signal?: AbortSignal | undefined;
}

/** Somebody who waits for a port. */
interface Waiting {
  readonly which: number | string;
  resolve(port: DrivenConsolePort): void;
  reject(error: Error): void;
}

/** A console device, driven: its ports are streams. Whoever reads, writes or waits for a port keeps the process alive. */
export class DrivenConsole extends DrivenDevice<ConsoleConfig> {
  /** @internal */
  protected override readonly lanes: readonly (ReceiveQueue | TransmitQueue)[];
  readonly #ports = new Map<number, DrivenConsolePort>();
  readonly #waiting = new Set<Waiting>();
  /** Whether there are messages about ports. */
  readonly #multiport: boolean;

  /**
   * For `openConsole`: a driver that is set up and not yet started.
   * @internal
   */
  constructor(driver: VirtioDriver, config: ConsoleConfig, mode: CompletionMode) {
    super(driver, config, channels);
    this.#multiport = driver.hasFeature(VIRTIO_CONSOLE_F_MULTIPORT);
    const options = { mode, onBroken: (error: RingbellError) => this.breakDevice(error) };
    this.lanes = driver.queues.map((queue) =>
      queue.index % 2 === 0 ? new ReceiveQueue(queue, options) : new TransmitQueue(queue, options),
    );
    if (this.#multiport)
      for (const index of [CONTROL_RECEIVEQ, CONTROL_TRANSMITQ]) this.lanes[index]?.hold(false);
    else {
      const port = this.#open(0);
      port.describe({ isConsole: true });
      port.resized(config.size);
      port.connect(true);
      this.on('config', ({ size }) => port.resized(size));
    }
  }

  /**
   * For `openConsole`: sets DRIVER_OK, and lets bytes and messages come.
   * @internal
   */
  override async start(): Promise<void> {
    await super.start();
    for (const lane of this.lanes) if (lane instanceof ReceiveQueue) lane.start();
    if (!this.#multiport) return;
    void this.#follow();
    void this.#send(0, VIRTIO_CONSOLE_DEVICE_READY, 1);
  }

  /** The ports that there are by now, by number. */
  get ports(): ReadonlyMap<number, DrivenConsolePort> {
    return this.#ports;
  }

  /**
   * Resolves to the port of that number, or name, once the device has told of it. One that was destroyed is opened anew. Rejects
   * with ERR_CLOSED, ERR_DEVICE_BROKEN, an AbortError.
   */
  async port(which: number | string = 0, options: ConsolePortCallOptions = {}): Promise<DrivenConsolePort> {
    this.checkOpen();
    checkOptions('port', options, PORT_OPTION_NAMES);
    const { signal } = options;
    checkSignal(signal);
    if (signal?.aborted) throw abortError(signal);
    const present = this.#find(which);
    if (present) return present.destroyed ? this.#reopen(present) : present;
    const failure = this.lanes[0]?.error;
    if (failure) throw failure;
    return new Promise((resolve, reject) => {
      const waiting = {
        which,
        resolve: (port: DrivenConsolePort) => settle(() => resolve(port)),
        reject: (error: Error) => settle(() => reject(error)),
      };
      const abort = () => waiting.reject(abortError(signal as AbortSignal));
      const settle = (end: () => void) => {
        this.#waiting.delete(waiting);
        this.lanes[CONTROL_RECEIVEQ]?.hold(this.#waiting.size > 0);
        signal?.removeEventListener('abort', abort);
        end();
      };
      this.#waiting.add(waiting);
      this.lanes[CONTROL_RECEIVEQ]?.hold(true);
      signal?.addEventListener('abort', abort, { once: true });
    });
  }

  /** @internal */
  protected override readConfig(): Promise<ConsoleConfig> {
    return readConsoleConfig(this.driver);
  }

  /** What was written goes out before the queues are asked. @internal */
  protected override async drained(): Promise<void> {
    await Promise.all([...this.#ports.values()].map((port) => port.flushed()));
    await super.drained();
  }

  /** @internal */
  protected override async released(): Promise<void> {
    for (const port of this.#ports.values()) port.close();
  }

  #find(which: number | string): DrivenConsolePort | undefined {
    return [...this.#ports.values()].find(({ id, name }) => which === id || which === name);
  }

  #open(id: number): DrivenConsolePort {
    const first = receiveqOf(id);
    const queues = {
      receive: this.lanes[first] as ReceiveQueue,
      transmit: this.lanes[first + 1] as TransmitQueue,
    };
    const port = new DrivenConsolePort(id, queues, () => void this.#send(id, VIRTIO_CONSOLE_PORT_OPEN, 0));
    this.#ports.set(id, port);
    return port;
  }

  #reopen({ id, name, isConsole, size, hostConnected }: DrivenConsolePort): DrivenConsolePort {
    const port = this.#open(id);
    port.describe({ ...(name !== undefined && { name }), isConsole });
    port.resized(size);
    port.connect(hostConnected);
    void this.#send(id, VIRTIO_CONSOLE_PORT_OPEN, 1);
    return port;
  }

  /** Sends a message, where there are any: resolves once the device has taken it, or takes nothing any more. */
  async #send(id: number, event: number, value: number): Promise<void> {
    if (!this.#multiport) return;
    const transmission = new Transmission([encodeMessage({ id, event, value })]);
    (this.lanes[CONTROL_TRANSMITQ] as TransmitQueue).submit(transmission);
    // A queue that fails tells everybody.
    await transmission.promise.catch(() => {});
  }

  /** Does what the device's messages say, one after the other: one that is answered is answered before the next. */
  async #follow(): Promise<void> {
    const control = this.lanes[CONTROL_RECEIVEQ] as ReceiveQueue;
    try {
      for (;;) for (const message of await control.receive().promise) await this.#received(message);
    } catch (error) {
      for (const waiting of this.#waiting) waiting.reject(error as Error);
    }
  }

  async #received(bytes: Uint8Array): Promise<void> {
    const message = decodeMessage(bytes);
    if (!message) return;
    const { id, event, value, rest } = message;
    const port = this.#ports.get(id);
    if (event === VIRTIO_CONSOLE_PORT_ADD && !port && id < this.config.maxPorts) await this.#added(id);
    else if (event === VIRTIO_CONSOLE_PORT_REMOVE) this.#removed(port);
    else if (event === VIRTIO_CONSOLE_CONSOLE_PORT) port?.describe({ isConsole: value === 1 });
    else if (event === VIRTIO_CONSOLE_PORT_NAME)
      port?.describe({ name: Buffer.from(rest).toString().replace(/\0+$/, '') });
    // Listeners are the application's: what they throw is no failure of the device.
    else if (event === VIRTIO_CONSOLE_RESIZE) process.nextTick(() => port?.resized(decodeSize(rest)));
    else if (event === VIRTIO_CONSOLE_PORT_OPEN) process.nextTick(() => port?.connect(value === 1));
    for (const waiting of this.#waiting) {
      const found = this.#find(waiting.which);
      if (found) waiting.resolve(found);
    }
  }

  async #added(id: number): Promise<void> {
    this.#open(id);
    await this.#send(id, VIRTIO_CONSOLE_PORT_READY, 1);
    await this.#send(id, VIRTIO_CONSOLE_PORT_OPEN, 1);
  }

  #removed(port: DrivenConsolePort | undefined): void {
    if (!port) return;
    this.#ports.delete(port.id);
    port.destroy();
  }

  [inspect.custom](): string {
    const state = this.closing ? 'closed' : this.broken ? 'broken' : `${this.#ports.size} port(s)`;
    return `DrivenConsole { ${this.name}, ${state} }`;
  }
}
