import { RingbellError } from '../errors.js';
import type { Awaited } from './awaited.js';
import {
  NBD_CMD_READ,
  NBD_MAX_STRING,
  NBD_REPLY_FLAG_DONE,
  NBD_REPLY_TYPE_ERROR_OFFSET,
  NBD_REPLY_TYPE_FLAG_ERROR,
  NBD_REPLY_TYPE_NONE,
  NBD_REPLY_TYPE_OFFSET_DATA,
  NBD_REPLY_TYPE_OFFSET_HOLE,
  NBD_SIMPLE_REPLY_MAGIC,
  NBD_SIMPLE_REPLY_SIZE,
  NBD_STRUCTURED_REPLY_MAGIC,
  NBD_STRUCTURED_REPLY_SIZE,
} from './protocol.js';

const MAGIC_SIZE = 4;
/** Bytes of what precedes the data of a chunk, of a hole, of an error without words, and of one that has an offset, too. */
const OFFSET_SIZE = 8;
const HOLE_SIZE = 12;
const ERROR_SIZE = 6;
const ERROR_OFFSET_SIZE = ERROR_SIZE + OFFSET_SIZE;
/** Bytes of an error chunk at most: its words, and room for what types to come may add. */
const ERROR_LIMIT = NBD_MAX_STRING + 256;

/** Whom a parser asks and tells. */
export interface ReplyListener {
  /** The request of a cookie that is waited for. */
  find(cookie: number): Awaited | undefined;
  /** The reply to it is complete. */
  answered(awaited: Awaited): void;
}

/** What is read into memory of the parser's own before it is looked at. */
type Part = 'magic' | 'simple' | 'chunk' | 'offset' | 'hole' | 'error';

/**
 * Takes a stream of replies apart as it comes: the data of a read goes straight to where it belongs, and nothing but
 * headers and errors is kept. Every field is judged before it is used; what breaks the protocol is thrown as
 * ERR_NBD_PROTOCOL, and is the end of the connection.
 */
export class ReplyParser {
  readonly #structured: boolean;
  readonly #listener: ReplyListener;
  readonly #kept = Buffer.alloc(ERROR_LIMIT);
  #keptBytes = 0;
  #part: Part = 'magic';
  /** Bytes of the part. */
  #wanted = MAGIC_SIZE;
  /** Of the reply that is being read: its request, chunk type, bytes of payload, and whether it is the last. */
  #awaited!: Awaited;
  #type = NBD_REPLY_TYPE_NONE;
  #length = 0;
  #done = false;
  /** Data that is still to come, and where in the request's memory it goes. */
  #dataBytes = 0;
  #dataAt = 0;

  /** `structured`: what was agreed on. */
  constructor(structured: boolean, listener: ReplyListener) {
    this.#structured = structured;
    this.#listener = listener;
  }

  /** Takes what has come. Throws ERR_NBD_PROTOCOL. */
  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length; ) {
      if (this.#dataBytes > 0) {
        const bytes = Math.min(chunk.length - at, this.#dataBytes);
        this.#awaited.request.data!.set(chunk.subarray(at, at + bytes), this.#dataAt);
        at += bytes;
        this.#dataAt += bytes;
        this.#dataBytes -= bytes;
        if (this.#dataBytes === 0) this.#finish();
      } else {
        const bytes = Math.min(chunk.length - at, this.#wanted - this.#keptBytes);
        this.#kept.set(chunk.subarray(at, at + bytes), this.#keptBytes);
        at += bytes;
        this.#keptBytes += bytes;
        if (this.#keptBytes === this.#wanted) this.#take(this.#kept.subarray(0, this.#wanted));
      }
    }
  }

  /** Looks at a part that is complete. */
  #take(bytes: Buffer): void {
    if (this.#part === 'magic') this.#takeMagic(bytes.readUInt32BE(0));
    else if (this.#part === 'simple') this.#takeSimple(bytes);
    else if (this.#part === 'chunk') this.#takeChunk(bytes);
    else if (this.#part === 'offset') this.#receive(bytes.readBigUInt64BE(0), this.#length - OFFSET_SIZE);
    else if (this.#part === 'hole') this.#takeHole(bytes.readBigUInt64BE(0), bytes.readUInt32BE(OFFSET_SIZE));
    else this.#takeError(bytes);
  }

  /** A header begins with its magic, which says how long it is. */
  #takeMagic(magic: number): void {
    const simple = magic === NBD_SIMPLE_REPLY_MAGIC;
    if (!simple && !(magic === NBD_STRUCTURED_REPLY_MAGIC && this.#structured))
      throw broken(`a reply that begins with 0x${magic.toString(16)}`);
    this.#part = simple ? 'simple' : 'chunk';
    this.#wanted = simple ? NBD_SIMPLE_REPLY_SIZE : NBD_STRUCTURED_REPLY_SIZE;
  }

  #takeSimple(header: Buffer): void {
    this.#awaited = this.#find(header);
    this.#done = true;
    const { request } = this.#awaited;
    const reads = request.type === NBD_CMD_READ;
    if (reads && this.#structured)
      throw broken('a simple reply to a read, where structured ones were agreed on');
    const error = header.readUInt32BE(MAGIC_SIZE);
    if (error !== 0) this.#awaited.fail(error, Buffer.alloc(0));
    if (reads && error === 0) this.#receive(BigInt(request.offset), request.length);
    else this.#finish();
  }

  #takeChunk(header: Buffer): void {
    this.#awaited = this.#find(header);
    this.#done = (header.readUInt16BE(MAGIC_SIZE) & NBD_REPLY_FLAG_DONE) !== 0;
    this.#type = header.readUInt16BE(6);
    this.#length = header.readUInt32BE(16);
    const reads = this.#awaited.request.type === NBD_CMD_READ;
    const lengthIs = (least: number, most: number) => {
      if (this.#length < least || this.#length > most)
        throw broken(`a chunk of type ${this.#type} with ${this.#length} bytes`);
    };
    if (this.#type === NBD_REPLY_TYPE_NONE) {
      lengthIs(0, 0);
      if (!this.#done) throw broken('an NBD_REPLY_TYPE_NONE that is not the last chunk');
      this.#finish();
    } else if (this.#type === NBD_REPLY_TYPE_OFFSET_DATA && reads) {
      lengthIs(OFFSET_SIZE + 1, OFFSET_SIZE + this.#awaited.request.length);
      this.#expect('offset', OFFSET_SIZE);
    } else if (this.#type === NBD_REPLY_TYPE_OFFSET_HOLE && reads) {
      lengthIs(HOLE_SIZE, HOLE_SIZE);
      this.#expect('hole', HOLE_SIZE);
    } else if (this.#type & NBD_REPLY_TYPE_FLAG_ERROR) {
      lengthIs(this.#type === NBD_REPLY_TYPE_ERROR_OFFSET ? ERROR_OFFSET_SIZE : ERROR_SIZE, ERROR_LIMIT);
      this.#expect('error', this.#length);
    } else throw broken(`a chunk of type ${this.#type} for request ${this.#awaited.request.type}`);
  }

  #takeHole(offset: bigint, bytes: number): void {
    const at = this.#cover(offset, bytes);
    this.#awaited.request.data!.fill(0, at, at + bytes);
    this.#finish();
  }

  #takeError(payload: Buffer): void {
    const error = payload.readUInt32BE(0);
    const words = payload.readUInt16BE(4);
    const hasOffset = this.#type === NBD_REPLY_TYPE_ERROR_OFFSET;
    if (error === 0) throw broken('an error without a number');
    if (words > NBD_MAX_STRING || words > payload.length - (hasOffset ? ERROR_OFFSET_SIZE : ERROR_SIZE))
      throw broken(`an error with ${words} bytes of words in ${payload.length}`);
    const { offset, length } = this.#awaited.request;
    if (hasOffset) {
      const at = payload.readBigUInt64BE(ERROR_SIZE + words) - BigInt(offset);
      if (at < 0n || at >= BigInt(length)) throw broken('an error at an offset outside of the request');
    }
    this.#awaited.fail(error, payload.subarray(ERROR_SIZE, ERROR_SIZE + words));
    this.#finish();
  }

  /** The data of a read follows. */
  #receive(offset: bigint, bytes: number): void {
    this.#dataAt = this.#cover(offset, bytes);
    this.#dataBytes = bytes;
  }

  /** Notes that a piece of a read has come: where in its memory it belongs. */
  #cover(offset: bigint, bytes: number): number {
    const { request, coverage } = this.#awaited;
    const at = offset - BigInt(request.offset);
    if (bytes === 0 || at < 0n || at + BigInt(bytes) > BigInt(request.length))
      throw broken(`${bytes} bytes at offset ${offset}, outside of the read`);
    if (!coverage.add(Number(at), Number(at) + bytes))
      throw broken('the same bytes of a read twice, or in too many pieces');
    return Number(at);
  }

  /** A chunk, or a simple reply, has ended. */
  #finish(): void {
    this.#expect('magic', MAGIC_SIZE);
    if (!this.#done) return;
    const { request, coverage, failed } = this.#awaited;
    if (request.type === NBD_CMD_READ && !failed && coverage.bytes < request.length)
      throw broken(`${coverage.bytes} of the ${request.length} bytes of a read`);
    this.#listener.answered(this.#awaited);
  }

  #find(header: Buffer): Awaited {
    // Of a cookie's 64 bits the lower half is in use.
    const awaited = header.readUInt32BE(8) === 0 ? this.#listener.find(header.readUInt32BE(12)) : undefined;
    if (!awaited) throw broken('a reply to a request that is not waited for');
    return awaited;
  }

  #expect(part: Part, bytes: number): void {
    this.#part = part;
    this.#wanted = bytes;
    this.#keptBytes = 0;
  }
}

function broken(what: string): RingbellError {
  return new RingbellError('ERR_NBD_PROTOCOL', `the server sent ${what}`);
}
