import type { Socket } from 'node:net';
import type { RingbellError } from '../errors.js';
import { connect, named } from './connect.js';
import { Connection } from './connection.js';
import type { NbdExport } from './export.js';
import type { Negotiated } from './handshake.js';
import type { NbdRequest } from './request.js';
import type { NbdAddress } from './uri.js';

/** Milliseconds between two attempts to connect: at first, and at most. Each pause is twice the last. */
const BACK_OFF_MS = 50;
const BACK_OFF_LIMIT_MS = 5000;

/** Whom a link tells. */
export interface LinkListener {
  /** Judges the export of a new connection: what is wrong with it, if anything is; false if the link is not needed. */
  judge(found: NbdExport): RingbellError | boolean;
  /** There is a connection. */
  linked(connection: Connection): void;
  /** The connection has room for requests again. */
  ready(connection: Connection): void;
  /** The connection is lost; `unanswered` are the requests that it had sent, oldest first. */
  lost(connection: Connection, unanswered: NbdRequest[], error: RingbellError): void;
  /** An attempt to connect has failed; another one follows. */
  failed(error: RingbellError): void;
}

/** One connection to a server, made again whenever it is lost, with ever longer pauses while that fails. */
export class Link {
  readonly #address: NbdAddress;
  /** Milliseconds for one attempt. */
  readonly #limitMs: number;
  readonly #listener: LinkListener;
  #connection: Connection | undefined;
  /** Of the last attempt. */
  #socket: Socket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pauseMs = 0;
  #closed = false;

  constructor(address: NbdAddress, limitMs: number, listener: LinkListener) {
    this.#address = address;
    this.#limitMs = limitMs;
    this.#listener = listener;
  }

  /** Makes the first connection of all, which is taken as it is. Rejects as `connect` does; the link is of no use then. */
  async open(signal: AbortSignal | undefined): Promise<NbdExport> {
    const negotiated = await this.#connect(signal);
    this.#socket!.unref();
    this.#join(negotiated);
    return negotiated.export;
  }

  /** Begins with attempts to connect. */
  start(): void {
    // Randomly less, so that the links of many clients do not all come at once.
    const pauseMs = this.#pauseMs * (1 - Math.random() / 2);
    this.#pauseMs = Math.min(Math.max(this.#pauseMs * 2, BACK_OFF_MS), BACK_OFF_LIMIT_MS);
    this.#timer = setTimeout(() => void this.#attempt(), pauseMs).unref();
  }

  /** Disconnects for good. Never throws. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    if (this.#connection) await this.#connection.disconnect();
    else this.#socket?.destroy();
  }

  async #attempt(): Promise<void> {
    let negotiated: Negotiated;
    try {
      const made = this.#connect();
      this.#socket!.unref();
      negotiated = await made;
    } catch (error) {
      this.#retry(error as RingbellError);
      return;
    }
    const verdict = !this.#closed && this.#listener.judge(negotiated.export);
    if (verdict === true) {
      this.#join(negotiated);
      return;
    }
    void this.#transmit(negotiated).disconnect();
    if (verdict) this.#retry(verdict);
  }

  #retry(error: RingbellError): void {
    if (this.#closed) return;
    this.#listener.failed(error);
    this.start();
  }

  #connect(signal?: AbortSignal): Promise<Negotiated> {
    const made = (socket: Socket) => {
      this.#socket = socket;
    };
    return connect(this.#address, this.#limitMs, signal, made);
  }

  #join(negotiated: Negotiated): void {
    this.#connection = this.#transmit(negotiated);
    this.#listener.linked(this.#connection);
  }

  #transmit(negotiated: Negotiated): Connection {
    return new Connection(negotiated, {
      ready: (connection) => this.#listener.ready(connection),
      lost: (connection, unanswered, error) => {
        this.#connection = undefined;
        // A server that ends connections before it has answered anything is asked ever less often.
        if (connection.hasAnswered) this.#pauseMs = 0;
        this.#listener.lost(connection, unanswered, named(error, this.#address.uri));
        if (!this.#closed) this.start();
      },
    });
  }
}
