import {
  REQUEST_READABLE,
  REQUEST_READABLE_BYTES,
  REQUEST_WRITABLE,
  REQUEST_WRITABLE_BYTES,
} from '../../assembly/layout.js';
import { RingbellError } from '../errors.js';
import type { ModelQueue } from './model-queue.js';

/** How far a chain is: with the model, on its way back, or refused. */
type State = 'open' | 'completed' | 'refused';

const NO_BYTES = new Uint8Array(0);

/**
 * One request of a driver, in the hands of a device model: what the model may read of it, and room for what it writes, in
 * memory that no driver can change or take away. It ends with `complete`, `fail` or `refuse`, at any time and in any order;
 * its views are the model's until then.
 */
export class Chain {
  /** The queue that it came from. */
  readonly queue: ModelQueue;
  /** Bytes that the device may read, and write. */
  readonly readableBytes: number;
  readonly writableBytes: number;
  /** Linear address of its request block. @internal */
  readonly request: number;
  /** Life of the device, and of its queue, that it belongs to. @internal */
  readonly life: number;
  /** @internal */
  readonly epoch: number;
  /** Its bytes are in memory of its own, not in the block. @internal */
  readonly long: boolean;
  /** Milliseconds, as performance.now counts them, at which it was taken, if it is timed; else 0. @internal */
  takenAt = 0;
  /** Bytes that go out from the start of what is writable. @internal */
  written = 0;
  /** It is to be seen by the driver together with the one that was completed after it. @internal */
  tied = false;
  /** What goes out at the end of it. @internal */
  status: Uint8Array = NO_BYTES;
  #state: State = 'open';
  #readable: Uint8Array | undefined;
  #writable: Uint8Array | undefined;

  /** Of the chain that was taken into the block at `request`. @internal */
  constructor(queue: ModelQueue, request: number, life: number, epoch: number, readable?: Uint8Array) {
    const words = queue.aperture.u32;
    this.queue = queue;
    this.request = request;
    this.life = life;
    this.epoch = epoch;
    this.readableBytes = words[(request + REQUEST_READABLE_BYTES) >>> 2]!;
    this.writableBytes = words[(request + REQUEST_WRITABLE_BYTES) >>> 2]!;
    this.long = readable !== undefined;
    this.#readable = readable;
  }

  /** What the driver has sent, in one piece however it was cut into descriptors. */
  get readable(): Uint8Array {
    this.#checkOpen();
    this.#readable ??= this.#view(REQUEST_READABLE, this.readableBytes);
    return this.#readable;
  }

  /** Room for the answer, zeroed. What `complete` counts goes to the driver. */
  get writable(): Uint8Array {
    this.#checkOpen();
    return this.writableView;
  }

  /** @internal */
  get writableView(): Uint8Array {
    // An array that was transferred away has no bytes left: one of its own memory is made anew.
    if (this.#writable?.length !== this.writableBytes)
      this.#writable = this.long
        ? new Uint8Array(this.writableBytes)
        : this.#view(REQUEST_WRITABLE, this.writableBytes);
    return this.#writable;
  }

  /** Whether the model has transferred the memory of `writable` away. @internal */
  get detached(): boolean {
    return this.#writable !== undefined && this.#writable.length !== this.writableBytes;
  }

  /** Little-endian numbers among the readable bytes, without an array for them. Throws RangeError outside of these. */
  getUint8(offset: number): number {
    return this.#readView(offset, 1).getUint8(this.#readableAt + offset);
  }

  getUint16(offset: number): number {
    return this.#readView(offset, 2).getUint16(this.#readableAt + offset, true);
  }

  getUint32(offset: number): number {
    return this.#readView(offset, 4).getUint32(this.#readableAt + offset, true);
  }

  getBigUint64(offset: number): bigint {
    return this.#readView(offset, 8).getBigUint64(this.#readableAt + offset, true);
  }

  /** A copy of `bytes` readable bytes from `offset` on, to keep. Throws RangeError outside of these. */
  read(offset: number, bytes: number): Uint8Array<ArrayBuffer> {
    if (!(bytes >= 0)) throw new RangeError(`${bytes} bytes of a chain`);
    const { buffer, byteOffset } = this.#readView(offset, bytes);
    const copy = new Uint8Array(bytes);
    copy.set(new Uint8Array(buffer, byteOffset + this.#readableAt + offset, bytes));
    return copy;
  }

  /** Copies `bytes` to what is writable, from `offset` on. Throws RangeError outside of that. */
  write(offset: number, bytes: Uint8Array): void {
    this.#checkOpen();
    if (!(offset >= 0) || offset + bytes.length > this.writableBytes)
      throw new RangeError(
        `bytes ${offset} to ${offset + bytes.length} of a chain with room for ${this.writableBytes}`,
      );
    if (this.long) this.writableView.set(bytes, offset);
    else
      this.queue.aperture.u8.set(
        bytes,
        this.queue.aperture.u32[(this.request + REQUEST_WRITABLE) >>> 2]! + offset,
      );
  }

  /**
   * Whether its driver has reset the device, or this queue: nobody waits for it any more. It is the model's until it is ended all
   * the same, and counts as in hand: so resets do not pile up chains.
   */
  get stale(): boolean {
    return this.life !== this.queue.lifeCount || this.epoch !== this.queue.epoch;
  }

  /** Aborts when the driver resets the device. */
  get signal(): AbortSignal {
    return this.queue.signal;
  }

  /**
   * Gives it back with the first `written` bytes of `writable`, and `status` (a byte, or several) as the last bytes of what is
   * writable. False if nobody will see it: it is stale, or was completed before. What cannot be is an ERR_MODEL event, and
   * the chain fails.
   */
  complete(written = 0, status?: number | Uint8Array): boolean {
    if (this.#state !== 'open') {
      this.queue.report(new RingbellError('ERR_CHAIN_ENDED'));
      return false;
    }
    if (typeof status === 'number') status = Uint8Array.of(status);
    const room = this.writableBytes - (status?.length ?? 0);
    if (!Number.isInteger(written) || written < 0 || written > room) {
      this.fail(new RangeError(`it wrote ${written} bytes to a chain that has room for ${room}`));
      return false;
    }
    this.#end(written, status);
    return !this.stale;
  }

  /** Gives it back with the error status of its type of device (`errorStatus` of the model), or empty; `error` is an ERR_MODEL event. */
  fail(error: unknown): void {
    if (this.#state !== 'open') return;
    if (!this.stale) this.queue.report(error);
    this.failQuietly();
  }

  /** Fails it for an error that has been reported. @internal */
  failQuietly(): void {
    if (this.#state !== 'open') return;
    this.queue.countError();
    this.failTooLong();
  }

  /** Fails it for an error that is the driver's. @internal */
  failTooLong(): void {
    this.#end(0, this.queue.errorStatus(this.writableBytes));
  }

  /** Its bytes are gone, which was found when they should have gone out. @internal */
  lose(): void {
    this.#writable = undefined;
    this.written = 0;
    this.status = this.queue.errorStatus(this.writableBytes) ?? NO_BYTES;
  }

  /** Has it go back otherwise than its model has ended it: with `written` bytes, and `status`. @internal */
  amend(written: number, status: Uint8Array): void {
    this.written = written;
    this.status = status;
    if (this.long) return;
    const writable = this.queue.aperture.u32[(this.request + REQUEST_WRITABLE) >>> 2]!;
    this.queue.aperture.u8.set(status, writable + this.writableBytes - status.length);
  }

  /** Says that it is no request of this type of device: breaks the queue until the driver resets (ERR_RING_REQUEST). */
  refuse(): void {
    if (this.#state !== 'open') return;
    this.#state = 'refused';
    this.queue.refused(this);
  }

  /** @internal */
  get open(): boolean {
    return this.#state === 'open';
  }

  #end(written: number, status: Uint8Array | undefined): void {
    this.written = written;
    if (status) {
      if (!this.long) this.write(this.writableBytes - status.length, status);
      this.status = status;
    }
    this.#state = 'completed';
    this.queue.completed(this);
  }

  get #readableAt(): number {
    return this.long ? 0 : this.queue.aperture.u32[(this.request + REQUEST_READABLE) >>> 2]!;
  }

  #readView(offset: number, bytes: number): DataView {
    this.#checkOpen();
    if (!(offset >= 0) || offset + bytes > this.readableBytes)
      throw new RangeError(
        `bytes ${offset} to ${offset + bytes} of a chain with ${this.readableBytes} to read`,
      );
    if (!this.long) return this.queue.aperture.data;
    const { buffer, byteOffset, byteLength } = this.#readable!;
    return new DataView(buffer, byteOffset, byteLength);
  }

  #view(where: number, bytes: number): Uint8Array {
    const { aperture } = this.queue;
    const linear = aperture.u32[(this.request + where) >>> 2]!;
    return aperture.u8.subarray(linear, linear + bytes);
  }

  #checkOpen(): void {
    if (this.#state !== 'open') throw new RingbellError('ERR_CHAIN_ENDED');
  }
}
