import { connect as connectSocket, type Socket } from 'node:net';
import { abortError, RingbellError } from '../errors.js';
import { type Negotiated, negotiate } from './handshake.js';
import type { NbdAddress } from './uri.js';

/** Milliseconds of silence after which the kernel asks whether the server's machine is still there. */
const KEEP_ALIVE_MS = 30_000;

/**
 * Makes a connection and negotiates, within `limitMs`. Rejects with an error of this package that names the URI:
 * ERR_NBD_CONNECT, ERR_NBD_REFUSED, ERR_NBD_PROTOCOL, ERR_NBD_TLS, ERR_NOT_SUPPORTED; with an AbortError. `socketMade` is told of the
 * socket, and may destroy it.
 */
export async function connect(
  address: NbdAddress,
  limitMs: number,
  signal: AbortSignal | undefined,
  socketMade: (socket: Socket) => void,
): Promise<Negotiated> {
  const socket = connectSocket(address.endpoint as { host: string; port: number });
  socketMade(socket);
  socket.setNoDelay(true).setKeepAlive(true, KEEP_ALIVE_MS);
  let timer: NodeJS.Timeout | undefined;
  let abort: (() => void) | undefined;
  const givenUp = new Promise<never>((_, reject) => {
    const late = () => reject(new RingbellError('ERR_NBD_CONNECT', `no answer within ${limitMs / 1000} s`));
    timer = setTimeout(late, limitMs).unref();
    abort = () => reject(abortError(signal!));
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
  });
  try {
    return await Promise.race([connected(socket).then(() => negotiate(socket, address)), givenUp]);
  } catch (error) {
    // What it still has to say is of no interest.
    socket.on('error', () => {}).destroy();
    throw signal?.aborted ? error : named(error, address.uri);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort!);
  }
}

function connected(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    const closed = () => reject(new RingbellError('ERR_CLOSED', 'closed'));
    socket.once('error', reject).once('close', closed);
    socket.once('connect', () => {
      socket.off('error', reject).off('close', closed);
      resolve();
    });
  });
}

/** An error of a connection with the URI in front, and as one of this package: ERR_NBD_CONNECT for those of the system. */
export function named(error: unknown, uri: string): RingbellError {
  const message = `${uri}: ${(error as Error).message}`;
  if (!(error instanceof RingbellError))
    return new RingbellError('ERR_NBD_CONNECT', message, { cause: error });
  return new RingbellError(error.code, message, { cause: error.cause });
}
