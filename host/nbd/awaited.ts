import { Coverage } from './coverage.js';
import { printable } from './option-haggling.js';
import type { NbdRequest } from './request.js';

/** Pieces of one read that do not touch, at most: a sound server sends them in order, or nearly so. */
const PIECES_LIMIT = 1024;

/** A request that one connection has sent and waits for. */
export class Awaited {
  readonly request: NbdRequest;
  readonly cookie: number;
  /** Milliseconds of performance.now(): when it was sent. */
  readonly sent = performance.now();
  /** Of a read, which of its bytes have come. */
  readonly coverage = new Coverage(PIECES_LIMIT);
  /** Error value of the first error in its reply, 0 if there is none yet, and what the server says of it. */
  error = 0;
  words = '';

  constructor(request: NbdRequest, cookie: number) {
    this.request = request;
    this.cookie = cookie;
  }

  get failed(): boolean {
    return this.error !== 0;
  }

  /** An error has come. More of the reply may follow. */
  fail(error: number, words: Buffer): void {
    if (this.failed) return;
    this.error = error;
    this.words = printable(words);
  }
}
