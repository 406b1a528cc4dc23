import { once } from 'node:events';
import { chmodSync, lstatSync, mkdtempSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { constants } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { kernelError, RingbellError } from '../errors.js';
import { checkOptions } from '../options.js';
import { openDevices, timeRequests } from './open-devices.js';
import { processSnapshot } from './process-snapshot.js';
import type { Observable } from './snapshot.js';
import { occupantOf, ownStatsPath, statsPaths } from './stats-places.js';

/** What a client sends for each snapshot that it wants. */
export const SNAPSHOT_REQUEST = 'snapshot\n';
/** Clients at a time; more are turned away. */
const CLIENTS_LIMIT = 16;

/** How to expose devices. */
export interface ExposeOptions {
  /** Path of the socket. If left out, one of this process's own, which `ringbell top` finds by itself. */
  path?: string | undefined;
  /** What to show. If left out, whatever the calling thread serves and drives. */
  devices?: Iterable<Observable> | undefined;
}

/** Devices that others can look at, until `close`. It does not keep the process alive. */
export class Exposure {
  /** Of the socket. */
  readonly path: string;
  readonly #server: Server;
  readonly #clients: ReadonlySet<Socket>;
  readonly #inode: number;
  #closing: Promise<void> | undefined;

  /** @internal */
  constructor(path: string, server: Server, clients: ReadonlySet<Socket>) {
    this.path = path;
    this.#server = server;
    this.#clients = clients;
    this.#inode = lstatSync(path).ino;
  }

  /** Takes the socket away. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    try {
      // Another one may have taken the place, by moving its own there.
      if (lstatSync(this.path).ino === this.#inode) rmSync(this.path);
    } catch {
      // It is gone already.
    }
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const client of this.#clients) client.destroy();
    await closed;
  }
}

/**
 * Lets other processes of this user look at devices of this one, as `ringbell top` does: by a Unix socket that only its owner
 * may connect to. While somebody is connected some requests are timed. Rejects with ERR_ARGUMENT for options that make no
 * sense, EADDRINUSE (a SystemError) for a path where something is that is no dead socket, ERR_NOT_SUPPORTED, a SystemError
 * where there can be no socket.
 */
export async function expose(options: ExposeOptions = {}): Promise<Exposure> {
  checkOptions('expose', options, ['path', 'devices']);
  const { path, devices } = options;
  if (path !== undefined && (typeof path !== 'string' || path === ''))
    throw new RingbellError('ERR_ARGUMENT', `path must be a path, not ${inspect(path)}`);
  const given = devices && [...devices];
  const clients = new Set<Socket>();
  const server = createServer((socket) => serveClient(socket, clients, () => given ?? openDevices()));
  server.maxConnections = CLIENTS_LIMIT;
  const place = path ?? ownStatsPath();
  if (path === undefined) await removeDead();
  await listenAt(server, place);
  server.unref();
  return new Exposure(place, server, clients);
}

/** Answers a client for as long as it asks what it may, and reads what it is given. */
function serveClient(socket: Socket, clients: Set<Socket>, devices: () => readonly Observable[]): void {
  const untime = timeRequests();
  clients.add(socket);
  socket.unref();
  socket.setEncoding('latin1');
  let received = '';
  socket.on('data', (text: string) => {
    received += text;
    while (received.startsWith(SNAPSHOT_REQUEST)) {
      received = received.slice(SNAPSHOT_REQUEST.length);
      // Who does not read the last answer gets no other: memory is not what a client may take.
      if (socket.writableLength > 0) break;
      socket.write(`${JSON.stringify(processSnapshot(devices()))}\n`);
    }
    if (!SNAPSHOT_REQUEST.startsWith(received)) socket.destroy();
  });
  socket.on('error', () => {});
  socket.on('close', () => {
    clients.delete(socket);
    untime();
  });
}

/** Has `server` listen at `path`, where its socket appears with no moment at which others may connect. */
async function listenAt(server: Server, path: string): Promise<void> {
  if ((await occupantOf(path)) === 'alive')
    throw kernelError(-constants.errno.EADDRINUSE, 'listen', `${path} is in use`);
  // Made in a folder that is closed to others, and moved: a process has one umask, which other threads use meanwhile.
  const folder = mkdtempSync(`${path}.`);
  const made = join(folder, 's');
  try {
    server.listen(made);
    await once(server, 'listening');
    chmodSync(made, 0o600);
    renameSync(made, path);
  } catch (error) {
    server.close();
    rmSync(made, { force: true });
    throw error;
  } finally {
    rmdirSync(folder);
  }
}

/** Removes what processes have left that were killed. */
async function removeDead(): Promise<void> {
  for (const path of statsPaths()) if ((await occupantOf(path)) === 'dead') rmSync(path, { force: true });
}
