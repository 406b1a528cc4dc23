import type { Socket } from 'node:net';
import { RingbellError } from '../errors.js';
import { Awaited } from './awaited.js';
import type { NbdExport } from './export.js';
import type { Negotiated } from './handshake.js';
import { NBD_CMD_DISC, NBD_CMD_WRITE, NBD_ESHUTDOWN } from './protocol.js';
import { ReplyParser } from './reply-parser.js';
import { NbdRequest } from './request.js';

/** Requests on their way over one connection at most. */
const IN_FLIGHT_LIMIT = 128;
/** Milliseconds that a server has to close a connection that it was asked to. */
const DISCONNECT_LIMIT_MS = 1000;
/** Bytes in the socket's buffer with which no more is sent. More than what makes the socket tell when it is empty again. */
const UNSENT_LIMIT = 2 ** 20;
const COOKIES = 2 ** 32;

/** Whom a connection tells. */
export interface ConnectionListener {
  /** There is room for requests again. */
  ready(connection: Connection): void;
  /** It has ended, of `error`, and not by `disconnect`; `unanswered` are the requests that it had sent, oldest first. */
  lost(connection: Connection, unanswered: NbdRequest[], error: Error): void;
}

/** One connection in transmission: requests go out as they come, replies come back in any order. */
export class Connection {
  readonly export: NbdExport;
  readonly #socket: Socket;
  readonly #listener: ConnectionListener;
  readonly #parser: ReplyParser;
  /** By cookie, in the order of sending. */
  readonly #awaited = new Map<number, Awaited>();
  #cookie = 0;
  #answered = 0;
  #lost = false;
  #uncorking = false;

  constructor(negotiated: Negotiated, listener: ConnectionListener) {
    const { socket, structured, rest } = negotiated;
    this.export = negotiated.export;
    this.#socket = socket;
    this.#listener = listener;
    this.#parser = new ReplyParser(structured, {
      find: (cookie) => this.#awaited.get(cookie),
      answered: (awaited) => this.#finish(awaited),
    });
    const closed = () => this.drop(new RingbellError('ERR_NBD_CONNECT', 'the server closed the connection'));
    socket
      .on('data', (chunk: Buffer) => this.#receive(chunk))
      .on('drain', () => this.#listener.ready(this))
      .on('error', (error) => this.drop(error))
      .on('end', closed)
      .on('close', closed);
    // What has happened before anybody listened.
    queueMicrotask(() => {
      if (rest.length > 0) this.#receive(rest);
      if (socket.destroyed || socket.readableEnded) closed();
      else if (!this.#lost) socket.resume();
    });
  }

  /** Whether it takes another request now. */
  get hasRoom(): boolean {
    return !this.#lost && this.#awaited.size < IN_FLIGHT_LIMIT && this.#socket.writableLength < UNSENT_LIMIT;
  }

  /** Requests that it waits for. */
  get inFlight(): number {
    return this.#awaited.size;
  }

  /** Whether the server has ever answered on it. */
  get hasAnswered(): boolean {
    return this.#answered > 0;
  }

  /** Milliseconds of performance.now() when the oldest request that it waits for was sent. */
  get oldestSent(): number | undefined {
    return this.#awaited.values().next().value?.sent;
  }

  /** Sends a request. There must be room. */
  send(request: NbdRequest): void {
    // No cookie is used again while its request is waited for.
    do this.#cookie = (this.#cookie + 1) % COOKIES;
    while (this.#awaited.has(this.#cookie));
    this.#awaited.set(this.#cookie, new Awaited(request, this.#cookie));
    this.#corkForThisTurn();
    this.#socket.write(request.encode(this.#cookie));
    if (request.type === NBD_CMD_WRITE) this.#socket.write(request.data!);
  }

  /** Ends it in the protocol's way: no request should be waited for. Never throws. */
  async disconnect(): Promise<void> {
    if (this.#lost) return;
    this.#lost = true;
    await this.#part();
  }

  /** Ends it at once, of `error`. */
  drop(error: Error): void {
    if (this.#lost) return;
    this.#socket.destroy();
    this.#lose(error);
  }

  #lose(error: Error): void {
    this.#lost = true;
    const unanswered = [...this.#awaited.values()].map(({ request }) => request);
    this.#awaited.clear();
    this.#listener.lost(this, unanswered, error);
  }

  /** Says that it is over, and lets the server close the connection; if it does not, it is closed here. */
  async #part(): Promise<void> {
    this.#socket.ref();
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()));
    this.#socket.end(new NbdRequest(NBD_CMD_DISC, 0, 0, 0).encode(0));
    // What it still has to say is of no interest, but keeps it from closing.
    this.#socket.resume();
    const timer = setTimeout(() => this.#socket.destroy(), DISCONNECT_LIMIT_MS);
    await closed;
    clearTimeout(timer);
  }

  #receive(chunk: Buffer): void {
    if (this.#lost) return;
    try {
      this.#parser.push(chunk);
    } catch (error) {
      this.drop(error as Error);
    }
  }

  #finish(awaited: Awaited): void {
    const { request, cookie, error, words } = awaited;
    if (error === NBD_ESHUTDOWN) {
      // It is to be asked again when it is back: the request is among those without an answer.
      void this.#part();
      this.#lose(new RingbellError('ERR_NBD_CONNECT', 'the server is shutting down'));
      return;
    }
    this.#awaited.delete(cookie);
    this.#answered++;
    if (error === 0) request.succeed();
    else request.refuse(error, words);
    this.#listener.ready(this);
  }

  /** What is sent in one turn of the event loop goes out in one system call. */
  #corkForThisTurn(): void {
    if (this.#uncorking) return;
    this.#uncorking = true;
    this.#socket.cork();
    process.nextTick(() => {
      this.#uncorking = false;
      this.#socket.uncork();
    });
  }
}
