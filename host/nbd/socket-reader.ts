import type { Socket } from 'node:net';
import { RingbellError } from '../errors.js';

/** Reads a socket piece by piece, for as long as a handshake lasts. It keeps what has come too early. */
export class SocketReader {
  readonly #socket: Socket;
  readonly #chunks: Buffer[] = [];
  #bytes = 0;
  #ended: Error | undefined;
  #wake: (() => void) | undefined;

  readonly #onData = (chunk: Buffer) => {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    // No more than is asked for is kept, whatever the other side sends.
    this.#socket.pause();
    this.#wake?.();
  };
  readonly #onError = (error: Error) => this.#end(error);
  readonly #onClose = () =>
    this.#end(new RingbellError('ERR_NBD_CONNECT', 'the server closed the connection'));

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', this.#onData).on('error', this.#onError).on('close', this.#onClose);
    socket.on('end', this.#onClose);
  }

  /** The next `bytes` bytes. Rejects with what ended the connection. */
  async read(bytes: number): Promise<Buffer> {
    while (this.#bytes < bytes) {
      if (this.#ended) throw this.#ended;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#socket.resume();
      });
      this.#wake = undefined;
    }
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
    this.#bytes -= bytes;
    this.#chunks.length = 0;
    if (all.length > bytes) this.#chunks.push(all.subarray(bytes));
    return all.subarray(0, bytes);
  }

  /** Lets go of the socket, paused: what has come and was not read. */
  detach(): Buffer {
    this.#socket.pause();
    this.#socket.off('data', this.#onData).off('error', this.#onError).off('close', this.#onClose);
    this.#socket.off('end', this.#onClose);
    const rest = Buffer.concat(this.#chunks);
    this.#chunks.length = 0;
    this.#bytes = 0;
    return rest;
  }

  #end(error: Error): void {
    this.#ended ??= error;
    this.#wake?.();
  }
}
