import { Duplex } from 'node:stream';
import { inspect } from 'node:util';
import type { Chain } from '../chain.js';

/** What a port of a console is. */
export interface ConsolePortOptions {
  /** By which programs of the driver's side find it: at most 256 bytes of UTF-8. */
  name?: string;
  /** Whether it is a terminal, and not only a channel of bytes. */
  console?: boolean;
}

/** What is written and has no place yet. */
interface Writing {
  readonly bytes: Uint8Array;
  at: number;
  done(): void;
}

/**
 * A port of a `ConsoleDevice`: what is written goes to its driver, what its driver sends can be read. Both sides wait for each other:
 * a write ends when the driver has room for all of it, and what is not read stays on the driver's ring. It lives from one driver to
 * the next, until the device is closed: then it ends. Emits 'connection', with whether somebody on the driver's side has it open.
 */
export class ConsolePort extends Duplex {
  /** Number of the port: 0 for the first. */
  readonly id: number;
  /** As given. */
  readonly name: string | undefined;
  readonly isConsole: boolean;
  readonly #ended: (port: ConsolePort) => void;
  #driverConnected = false;
  /** Room that the driver has given, and what it has sent, both oldest first. */
  readonly #room: Chain[] = [];
  readonly #sent: Chain[] = [];
  #writing: Writing | undefined;
  /** Somebody wants to read. */
  #wanted = false;

  /** `ended` is called when it has been ended from this side. @internal */
  constructor(id: number, options: ConsolePortOptions, ended: (port: ConsolePort) => void) {
    super();
    this.id = id;
    this.name = options.name;
    this.isConsole = options.console ?? false;
    this.#ended = ended;
  }

  /** Whether somebody on the driver's side has it open. */
  get driverConnected(): boolean {
    return this.#driverConnected;
  }

  /** @internal */
  override _write(bytes: Uint8Array, _encoding: BufferEncoding, done: () => void): void {
    this.#writing = { bytes, at: 0, done };
    this.#send();
  }

  /** @internal */
  override _read(): void {
    this.#wanted = true;
    this.#deliver();
  }

  /** @internal */
  override _final(done: () => void): void {
    this.#ended(this);
    done();
  }

  /** @internal */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#ended(this);
    this.#deliver();
    done(error);
  }

  /** The driver gives room for what is written. @internal */
  giveRoom(chains: readonly Chain[]): void {
    for (const chain of chains) {
      // "Device Operation" has write-only buffers in a receive queue.
      if (chain.readableBytes > 0) chain.refuse();
      else this.#room.push(chain);
    }
    this.#send();
  }

  /** The driver sends. @internal */
  receive(chains: readonly Chain[]): void {
    for (const chain of chains) {
      if (chain.writableBytes > 0) chain.refuse();
      else this.#sent.push(chain);
    }
    this.#deliver();
  }

  /** Somebody on the driver's side has opened or closed it. @internal */
  connect(connected: boolean): void {
    if (connected === this.#driverConnected) return;
    this.#driverConnected = connected;
    this.emit('connection', connected);
    // As sockets do, it reads ahead of whoever reads it: a little that nobody reads holds nobody up.
    if (connected) this.read(0);
    this.#send();
  }

  /** The driver has gone. @internal */
  forgetDriver(): void {
    for (const chain of this.#room.splice(0)) chain.complete();
    for (const chain of this.#sent.splice(0)) chain.complete();
    this.connect(false);
  }

  /** The device is no longer served. @internal */
  close(): void {
    // What has no driver to go to is lost, and whoever wrote it is to know.
    if (this.writableLength > 0) {
      this.destroy();
      return;
    }
    this.push(null);
    this.end();
  }

  /** Moves what is written to where the driver has room. */
  #send(): void {
    while (this.#writing && this.#driverConnected) {
      const { bytes, at, done } = this.#writing;
      if (at === bytes.length) {
        this.#writing = undefined;
        done();
        continue;
      }
      const chain = this.#room.shift();
      if (!chain) return;
      const piece = bytes.subarray(at, at + chain.writableBytes);
      chain.write(0, piece);
      if (!chain.complete(piece.length)) continue;
      chain.queue.countBytes(piece.length, 0);
      this.#writing.at += piece.length;
    }
  }

  /** Moves what the driver has sent to whoever reads. */
  #deliver(): void {
    while ((this.#wanted || this.destroyed) && this.#sent.length > 0) {
      const chain = this.#sent.shift() as Chain;
      const bytes = Buffer.from(chain.read(0, chain.readableBytes).buffer);
      if (chain.complete()) chain.queue.countBytes(0, bytes.length);
      if (!this.destroyed) this.#wanted = this.push(bytes);
    }
  }

  [inspect.custom](): string {
    const name = this.name === undefined ? '' : `, ${this.name}`;
    return `ConsolePort { ${this.id}${name}, ${this.#driverConnected ? '' : 'not '}connected }`;
  }
}
