import { EventEmitter } from 'node:events';
import { RingbellError } from '../errors.js';
import type { Connection } from './connection.js';
import { type NbdExport, whatChanged } from './export.js';
import { Link } from './link.js';
import {
  NBD_CMD_FLAG_FUA,
  NBD_CMD_FLAG_NO_HOLE,
  NBD_CMD_FLUSH,
  NBD_CMD_READ,
  NBD_CMD_TRIM,
  NBD_CMD_WRITE,
  NBD_CMD_WRITE_ZEROES,
} from './protocol.js';
import { NbdRequest } from './request.js';
import type { NbdAddress } from './uri.js';

/** Milliseconds between two looks at what is late, at most. */
const LOOK_LIMIT_MS = 1000;
/** Milliseconds that `close` waits for requests that are on their way. */
const CLOSE_LIMIT_MS = 10_000;

/** How a client behaves; every member has been judged. */
export interface NbdClientOptions {
  /** Connections at most. */
  connections: number;
  /** Milliseconds that a connection may leave a request, or an attempt to connect, without an answer. */
  timeoutMs: number;
  /** Milliseconds that requests wait where there is no connection. */
  deadConnTimeoutMs: number;
}

/** Events of a client. */
export interface NbdClientEvents {
  /** There is no connection: the last one is lost, or an attempt to make one has failed, for that reason. */
  reconnecting: [error: RingbellError];
  /** There is a connection again. */
  reconnected: [];
}

/**
 * An export of an NBD server, over connections that are made again when they are lost. A request that has no answer when its
 * connection is lost is sent again on another one: it may be done twice then. It keeps the process alive only while requests
 * are on their way.
 */
export class NbdClient extends EventEmitter<NbdClientEvents> {
  readonly #uri: string;
  readonly #options: NbdClientOptions;
  readonly #links: Link[];
  #export!: NbdExport;
  readonly #connections = new Set<Connection>();
  /** Requests that no connection has, oldest first. */
  #waiting: NbdRequest[] = [];
  /** Requests without an answer. */
  #pending = 0;
  /** Looks at what is late, and keeps the process alive, while there are such requests. */
  #look: NodeJS.Timeout | undefined;
  /** Milliseconds of performance.now() since when there has been no connection, and why; undefined while there is one. */
  #dead: { since: number; error: RingbellError } | undefined;
  #reconnects = 0;
  #closed = false;
  #closing: Promise<void> | undefined;
  /** Called when the last request is answered. */
  #idle: (() => void) | undefined;

  /** Makes the first connection; others follow where the server allows them. Rejects as `connect` does. */
  static async connect(
    address: NbdAddress,
    options: NbdClientOptions,
    signal: AbortSignal | undefined,
  ): Promise<NbdClient> {
    const client = new NbdClient(address, options);
    const [first, ...others] = client.#links;
    client.#export = await first!.open(signal);
    if (client.#export.multiConn) for (const link of others) link.start();
    return client;
  }

  private constructor(address: NbdAddress, options: NbdClientOptions) {
    super();
    this.#uri = address.uri;
    this.#options = options;
    const listener = {
      judge: (found: NbdExport) => this.#judge(found),
      linked: (connection: Connection) => this.#linked(connection),
      ready: (connection: Connection) => this.#feed(connection),
      lost: (connection: Connection, unanswered: NbdRequest[], error: RingbellError) =>
        this.#lost(connection, unanswered, error),
      failed: (error: RingbellError) => this.#failed(error),
    };
    this.#links = Array.from(
      { length: options.connections },
      () => new Link(address, options.timeoutMs, listener),
    );
  }

  /** What the server said on the first connection; every later one is at least as good. */
  get export(): NbdExport {
    return this.#export;
  }

  /** Connections that there are now. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Times that there was a connection again after there had been none. */
  get reconnects(): number {
    return this.#reconnects;
  }

  /** Fills `into`. This and the other requests reject with ERR_NBD_REPLY, ERR_NBD_TIMEOUT, ERR_CLOSED. */
  read(offset: number, into: Uint8Array): Promise<void> {
    return this.#request(new NbdRequest(NBD_CMD_READ, 0, offset, into.length, into));
  }

  /** Keeps `from` until it is answered. `fua`: then it is durable, too. */
  write(offset: number, from: Uint8Array, fua: boolean): Promise<void> {
    return this.#request(
      new NbdRequest(NBD_CMD_WRITE, fua ? NBD_CMD_FLAG_FUA : 0, offset, from.length, from),
    );
  }

  /** Makes all durable that was answered before. */
  flush(): Promise<void> {
    return this.#request(new NbdRequest(NBD_CMD_FLUSH, 0, 0, 0));
  }

  trim(offset: number, length: number, fua: boolean): Promise<void> {
    return this.#request(new NbdRequest(NBD_CMD_TRIM, fua ? NBD_CMD_FLAG_FUA : 0, offset, length));
  }

  /** `hole`: the server may give the storage back. */
  writeZeroes(offset: number, length: number, hole: boolean, fua: boolean): Promise<void> {
    const flags = (hole ? 0 : NBD_CMD_FLAG_NO_HOLE) | (fua ? NBD_CMD_FLAG_FUA : 0);
    return this.#request(new NbdRequest(NBD_CMD_WRITE_ZEROES, flags, offset, length));
  }

  /** Disconnects, after 10 seconds at most for requests that are on their way. Never throws. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  #request(request: NbdRequest): Promise<void> {
    if (this.#closed) return Promise.reject(new RingbellError('ERR_CLOSED', `${this.#uri} is closed`));
    if (this.#isGivenUp()) return Promise.reject(timedOut(this.#dead!.error));
    this.#pending++;
    const { timeoutMs } = this.#options;
    this.#look ??= setInterval(
      () => this.#lookForLate(),
      Math.min(Math.max(timeoutMs / 4, 1), LOOK_LIMIT_MS),
    );
    this.#waiting.push(request);
    this.#dispatch();
    return request.promise.finally(() => this.#settled());
  }

  #settled(): void {
    this.#pending--;
    if (this.#pending > 0) return;
    clearInterval(this.#look);
    this.#look = undefined;
    this.#idle?.();
  }

  /** Gives what waits to the connections, each request to the one that has the least to do. */
  #dispatch(): void {
    while (this.#waiting.length > 0) {
      let least: Connection | undefined;
      for (const connection of this.#connections)
        if (connection.hasRoom && !(least && least.inFlight <= connection.inFlight)) least = connection;
      if (!least) return;
      least.send(this.#waiting.shift()!);
    }
  }

  #feed(connection: Connection): void {
    while (this.#waiting.length > 0 && connection.hasRoom) connection.send(this.#waiting.shift()!);
  }

  #judge(found: NbdExport): RingbellError | boolean {
    const change = whatChanged(this.#export, found);
    if (change !== undefined)
      return new RingbellError('ERR_NBD_CHANGED', `${this.#uri}: the export is not what it was: ${change}`);
    // A server that does not share its cache among connections has one only.
    return this.#connections.size === 0 || found.multiConn;
  }

  #linked(connection: Connection): void {
    this.#connections.add(connection);
    const again = this.#dead !== undefined;
    this.#dead = undefined;
    this.#dispatch();
    if (!again) return;
    this.#reconnects++;
    this.emit('reconnected');
  }

  #lost(connection: Connection, unanswered: NbdRequest[], error: RingbellError): void {
    this.#connections.delete(connection);
    this.#waiting = [...unanswered, ...this.#waiting];
    if (this.#connections.size === 0) this.#dead = { since: performance.now(), error };
    this.#failLate();
    this.#dispatch();
    if (this.#dead && !this.#closed) this.emit('reconnecting', error);
  }

  #failed(error: RingbellError): void {
    if (!this.#dead) return;
    this.#dead.error = error;
    this.emit('reconnecting', error);
  }

  /** Drops connections that leave a request without an answer for too long, and fails requests that have waited too long. */
  #lookForLate(): void {
    const { timeoutMs } = this.#options;
    const since = performance.now() - timeoutMs;
    for (const connection of [...this.#connections])
      if ((connection.oldestSent ?? Number.POSITIVE_INFINITY) <= since)
        connection.drop(
          new RingbellError('ERR_NBD_TIMEOUT', `no answer to a request within ${timeoutMs / 1000} s`),
        );
    this.#failLate();
  }

  /**
   * Fails what waits, where there has been no connection for too long; else what was asked for so long ago that the server
   * must have ended, or left without an answer, several connections with it: no request goes on like that for ever.
   */
  #failLate(): void {
    const { timeoutMs, deadConnTimeoutMs } = this.#options;
    const oldest = performance.now() - timeoutMs - deadConnTimeoutMs;
    const late = (request: NbdRequest) => this.#closed || this.#isGivenUp() || request.issued <= oldest;
    const lates = this.#waiting.filter(late);
    if (lates.length === 0) return;
    this.#waiting = this.#waiting.filter((request) => !late(request));
    const error = timedOut(this.#dead?.error);
    for (const request of lates) request.fail(error);
  }

  /** Whether requests do not wait for a connection any more. */
  #isGivenUp(): boolean {
    if (!this.#dead) return false;
    return performance.now() - this.#dead.since >= this.#options.deadConnTimeoutMs;
  }

  async #close(): Promise<void> {
    this.#closed = true;
    if (this.#dead) this.#failLate();
    if (this.#pending > 0) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
        timer = setTimeout(resolve, CLOSE_LIMIT_MS);
      });
      clearTimeout(timer);
    }
    const closed = new RingbellError('ERR_CLOSED', `${this.#uri} is closed`);
    for (const connection of [...this.#connections]) if (connection.inFlight > 0) connection.drop(closed);
    await Promise.all(this.#links.map((link) => link.close()));
  }
}

function timedOut(cause: RingbellError | undefined): RingbellError {
  const why = cause ? `there is no connection: ${cause.message}` : 'no connection has brought an answer';
  return new RingbellError('ERR_NBD_TIMEOUT', why, { cause });
}
