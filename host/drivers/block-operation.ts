import { VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP } from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import { PendingCall } from './pending-call.js';

/** What an application can ask of a disk. */
export type BlockOperationKind = 'read' | 'write' | 'flush' | 'discard' | 'writeZeroes' | 'getId';

/** One request on a ring: an operation, or a part of one. */
export interface BlockRequest {
  readonly operation: BlockOperation;
  /** VIRTIO_BLK_T_*. */
  readonly type: number;
  readonly sector: number;
  /** Bytes of data; sectors of a DISCARD or WRITE_ZEROES. */
  readonly count: number;
  /** Linear address of data that the device sees, 0 where a bounce buffer is needed or there is no data. */
  readonly linear: number;
  /** Source or destination of the bounce buffer. */
  readonly data: Uint8Array | undefined;
  /** Flags of a DISCARD or WRITE_ZEROES range. */
  readonly rangeFlags: number;
  /** Next one in the queue's list of those that wait for a slot. */
  next: BlockRequest | undefined;
}

/** A promise of one call of the application, kept by one or more requests. */
export class BlockOperation extends PendingCall {
  readonly kind: BlockOperationKind;
  /** Bytes from the start of the disk. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  #remaining: number;
  #failure: { sector: number; error: RingbellError } | undefined;

  /** `requests`: how many keep the promise; an operation of none has succeeded. */
  constructor(kind: BlockOperationKind, offset: number, length: number, requests: number) {
    super();
    this.kind = kind;
    this.offset = offset;
    this.length = length;
    this.#remaining = requests;
    if (requests === 0) this.succeed();
  }

  /** For messages: 'read of 512 bytes at 0', 'flush'. */
  get description(): string {
    return this.kind === 'flush' || this.kind === 'getId'
      ? this.kind
      : `${this.kind} of ${this.length} bytes at ${this.offset}`;
  }

  /**
   * Takes note that the device gave `request` back. The promise waits for all requests, so that the device is done with
   * the application's memory; of several failures, that at the lowest address counts.
   */
  completed(request: BlockRequest, error: RingbellError | undefined): void {
    if (error && (!this.#failure || request.sector < this.#failure.sector))
      this.#failure = { sector: request.sector, error };
    if (--this.#remaining > 0) return;
    if (this.#failure) this.fail(this.#failure.error);
    else this.succeed();
  }
}

/** What a completion's status means: undefined for success. `missing`: bytes that the device should have written. */
export function statusError(
  operation: BlockOperation,
  status: number,
  missing: number,
): RingbellError | undefined {
  switch (status) {
    case VIRTIO_BLK_S_OK:
      return undefined;
    case VIRTIO_BLK_S_IOERR:
      return new RingbellError(
        'ERR_IO',
        `${operation.description}: I/O error${missing ? `, bytes missing: ${missing}` : ' of the device'}`,
      );
    case VIRTIO_BLK_S_UNSUPP:
      return new RingbellError(
        'ERR_UNSUPPORTED_REQUEST',
        `${operation.description}: the device does not know the request`,
      );
    default:
      return new RingbellError(
        'ERR_IO',
        `${operation.description}: the device reported status ${status}, which there is not`,
      );
  }
}
