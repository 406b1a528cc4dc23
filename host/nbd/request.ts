import { RingbellError } from '../errors.js';
import { NBD_ERRORS, NBD_REQUEST_MAGIC, NBD_REQUEST_SIZE } from './protocol.js';

/** One request, from the call to its answer, over as many connections as that takes. */
export class NbdRequest {
  /** NBD_CMD_*. */
  readonly type: number;
  /** NBD_CMD_FLAG_*. */
  readonly flags: number;
  readonly offset: number;
  readonly length: number;
  /** Of a read, where the bytes go; of a write, what they are. Memory of whoever asks. */
  readonly data: Uint8Array | undefined;
  readonly promise: Promise<void>;
  /** Milliseconds of performance.now(): when it was asked for. */
  readonly issued = performance.now();
  #resolve!: () => void;
  #reject!: (error: Error) => void;

  constructor(type: number, flags: number, offset: number, length: number, data?: Uint8Array) {
    this.type = type;
    this.flags = flags;
    this.offset = offset;
    this.length = length;
    this.data = data;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  /** The request message, without the data of a write. */
  encode(cookie: number): Buffer {
    const bytes = Buffer.alloc(NBD_REQUEST_SIZE);
    bytes.writeUInt32BE(NBD_REQUEST_MAGIC, 0);
    bytes.writeUInt16BE(this.flags, 4);
    bytes.writeUInt16BE(this.type, 6);
    // The upper half of the cookie stays zero.
    bytes.writeUInt32BE(cookie, 12);
    bytes.writeBigUInt64BE(BigInt(this.offset), 16);
    bytes.writeUInt32BE(this.length, 24);
    return bytes;
  }

  succeed(): void {
    this.#resolve();
  }

  fail(error: Error): void {
    this.#reject(error);
  }

  /** The server's own answer that it failed: an error value, and its words if there are any. */
  refuse(value: number, words: string): void {
    const name = NBD_ERRORS[value];
    // What is not in the protocol's list is to be taken for EINVAL.
    const said = `${name ?? `EINVAL (${value})`}${words === '' ? '' : `, '${words}'`}`;
    this.fail(
      new RingbellError('ERR_NBD_REPLY', `the server answered ${said}`, { errno: -(name ? value : 22) }),
    );
  }
}
