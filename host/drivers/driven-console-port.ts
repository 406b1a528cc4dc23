import { Duplex } from 'node:stream';
import { inspect } from 'node:util';
import { RingbellError } from '../errors.js';
import type { ConsoleSize } from '../uapi/console-message.js';
import type { ReceiveQueue } from './receive-queue.js';
import { Transmission } from './transmission.js';
import type { TransmitQueue } from './transmit-queue.js';

/** The two queues of a port. */
export interface PortQueues {
  readonly receive: ReceiveQueue;
  readonly transmit: TransmitQueue;
}

/**
 * A port of a console that is driven: what is written goes to the device, what the device sends can be read. Both sides wait for each
 * other: a write ends when the device has taken all of it, and what is not read stays on the ring. It ends when the console is
 * closed, and is destroyed with an error when that breaks. Emits 'connection', with whether somebody on the device's side has it open,
 * and 'resize', with the size of its terminal.
 */
export class DrivenConsolePort extends Duplex {
  /** Number of the port: 0 for the first. */
  readonly id: number;
  #name: string | undefined;
  #isConsole = false;
  #size: ConsoleSize | undefined;
  #hostConnected = false;
  readonly #queues: PortQueues;
  readonly #ended: (port: DrivenConsolePort) => void;
  #receiving = false;
  #cancel: (() => void) | undefined;

  /** `ended` is called when it has been ended from this side. @internal */
  constructor(id: number, queues: PortQueues, ended: (port: DrivenConsolePort) => void) {
    super();
    this.id = id;
    this.#queues = queues;
    this.#ended = ended;
  }

  /** As the device calls it; undefined for one without. */
  get name(): string | undefined {
    return this.#name;
  }

  /** Whether it is a terminal, and not only a channel of bytes. */
  get isConsole(): boolean {
    return this.#isConsole;
  }

  /** Of its terminal, as the device has told last; undefined where it has not. */
  get size(): ConsoleSize | undefined {
    return this.#size;
  }

  /** Whether somebody on the device's side has it open. */
  get hostConnected(): boolean {
    return this.#hostConnected;
  }

  /** @internal */
  override _write(bytes: Uint8Array, _encoding: BufferEncoding, done: (error?: Error) => void): void {
    const most = this.#queues.transmit.queue.mostBytes;
    const pieces = Array.from({ length: Math.ceil(bytes.length / most) }, (_, index) =>
      bytes.subarray(index * most, (index + 1) * most),
    );
    const transmission = new Transmission(pieces);
    this.#queues.transmit.submit(transmission);
    transmission.promise.then(() => done(), done);
  }

  /** @internal */
  override _read(): void {
    if (!this.#receiving) void this.#receive();
  }

  /** @internal */
  override _final(done: () => void): void {
    this.#ended(this);
    done();
  }

  /** @internal */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#cancel?.();
    if (!this.writableFinished) this.#ended(this);
    done(error);
  }

  /** What the device says about it. @internal */
  describe(facts: { name?: string; isConsole?: boolean }): void {
    this.#name = facts.name ?? this.#name;
    this.#isConsole = facts.isConsole ?? this.#isConsole;
  }

  /** @internal */
  resized(size: ConsoleSize | undefined): void {
    if (!size || (size.cols === this.#size?.cols && size.rows === this.#size.rows)) return;
    this.#size = size;
    this.emit('resize', size);
  }

  /** @internal */
  connect(connected: boolean): void {
    if (connected === this.#hostConnected) return;
    this.#hostConnected = connected;
    this.emit('connection', connected);
  }

  /** Resolves once all that was written is with the device; nothing more can be written. @internal */
  async flushed(): Promise<void> {
    if (this.writableFinished || this.destroyed) return;
    await new Promise<void>((resolve) => {
      this.once('finish', resolve);
      this.once('close', resolve);
      this.end();
    });
  }

  /** Nothing more will come. @internal */
  close(): void {
    if (!this.destroyed) this.push(null);
  }

  /** Takes what has come for as long as somebody wants more. */
  async #receive(): Promise<void> {
    const { receive } = this.#queues;
    this.#receiving = true;
    try {
      for (let more = true; more && !this.destroyed; ) {
        const { promise, cancel } = receive.receive();
        this.#cancel = () => cancel(new RingbellError('ERR_CLOSED'));
        const payloads = await promise;
        let given = 0;
        while (more && given < payloads.length) more = this.push(payloads[given++]);
        receive.giveBack(payloads.slice(given));
      }
    } catch (error) {
      // A console that is closed ends its ports, and whoever destroys one knows.
      if ((error as RingbellError).code !== 'ERR_CLOSED') this.destroy(error as Error);
    } finally {
      this.#receiving = false;
      this.#cancel = undefined;
    }
  }

  [inspect.custom](): string {
    const name = this.#name === undefined ? '' : `, ${this.#name}`;
    return `DrivenConsolePort { ${this.id}${name}, ${this.#hostConnected ? '' : 'not '}connected }`;
  }
}
