import { REQUEST_EPOCH, REQUEST_READABLE_BYTES, REQUEST_WRITABLE_BYTES } from '../../../assembly/layout.js';
import type { Aperture } from '../../aperture/aperture.js';
import {
  VIRTIO_BLK_HEADER_SECTOR,
  VIRTIO_BLK_HEADER_SIZE,
  VIRTIO_BLK_HEADER_TYPE,
  VIRTIO_BLK_RANGE_FLAGS,
  VIRTIO_BLK_RANGE_NUM_SECTORS,
  VIRTIO_BLK_RANGE_SECTOR,
  VIRTIO_BLK_RANGE_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from '../../uapi/virtio.js';
import { type BlockGeometry, JAVASCRIPT_REQUEST_LIMIT, MAX_RANGE_SECTORS } from './block-config.js';

/** Bytes of a request that come before its data: header, and range of a DISCARD or WRITE_ZEROES. */
export const REQUEST_HEADER_BYTES = VIRTIO_BLK_HEADER_SIZE + VIRTIO_BLK_RANGE_SIZE;

/** What a request asks of the model; 'none' when its status is known already. */
export type Operation = 'none' | 'id' | 'read' | 'write' | 'flush' | 'discard' | 'writeZeroes';

/** One request that a JavaScript model holds. */
export class BlockRequest {
  /** Linear address of the REQUEST block. */
  readonly linear: number;
  readonly operation: Operation;
  /** Bytes from the start of the disk. */
  readonly offset: number;
  /** Bytes to be moved, discarded or zeroed. */
  readonly length: number;
  /** Of a WRITE_ZEROES: its storage may be given back. */
  readonly unmap: boolean;
  /** VIRTIO_BLK_S_*. */
  status: number;
  /** Milliseconds, as performance.now counts them, at which it was taken, if it is timed. */
  takenAt: number | undefined;
  /** Of a read or write, its bytes: memory of JavaScript's own, which no driver can change or take away. */
  readonly data: Uint8Array | undefined;
  /** Bytes of `data` as it was made: the model can transfer its buffer away, which leaves an array of none. */
  readonly dataBytes: number;
  readonly #epoch: number;
  readonly #writable: number;

  /** Whether a taken chain can be a block request at all: a header to read and a status byte to write. */
  static isOne(aperture: Aperture, linear: number): boolean {
    const { data } = aperture;
    return (
      data.getUint32(linear + REQUEST_READABLE_BYTES, true) >= VIRTIO_BLK_HEADER_SIZE &&
      data.getUint32(linear + REQUEST_WRITABLE_BYTES, true) >= 1
    );
  }

  /**
   * Judges the chain taken to `linear`, whose first REQUEST_HEADER_BYTES bytes, as far as it has them, are at `header`, by
   * "Device Operation" of the block device.
   */
  constructor(aperture: Aperture, linear: number, header: number, geometry: BlockGeometry) {
    const { data } = aperture;
    const type = data.getUint32(header + VIRTIO_BLK_HEADER_TYPE, true);
    const readable = data.getUint32(linear + REQUEST_READABLE_BYTES, true) - VIRTIO_BLK_HEADER_SIZE;
    this.linear = linear;
    this.#epoch = data.getUint32(linear + REQUEST_EPOCH, true);
    this.#writable = data.getUint32(linear + REQUEST_WRITABLE_BYTES, true);
    let sector = data.getBigUint64(header + VIRTIO_BLK_HEADER_SECTOR, true);
    let operation: Operation = 'none';
    let length = 0;
    let status = VIRTIO_BLK_S_OK;
    let unmap = false;
    const isRange =
      (type === VIRTIO_BLK_T_DISCARD && geometry.discard) ||
      (type === VIRTIO_BLK_T_WRITE_ZEROES && geometry.writeZeroes);
    if (type === VIRTIO_BLK_T_IN) {
      operation = 'read';
      length = this.#writable - 1;
    } else if (type === VIRTIO_BLK_T_OUT) {
      operation = 'write';
      length = readable;
      if (geometry.readOnly) status = VIRTIO_BLK_S_IOERR;
    } else if (type === VIRTIO_BLK_T_FLUSH && geometry.flush) operation = 'flush';
    else if (type === VIRTIO_BLK_T_GET_ID) operation = 'id';
    else if (isRange) {
      const range = header + VIRTIO_BLK_HEADER_SIZE;
      const flags = data.getUint32(range + VIRTIO_BLK_RANGE_FLAGS, true);
      const sectors = data.getUint32(range + VIRTIO_BLK_RANGE_NUM_SECTORS, true);
      operation = type === VIRTIO_BLK_T_DISCARD ? 'discard' : 'writeZeroes';
      sector = data.getBigUint64(range + VIRTIO_BLK_RANGE_SECTOR, true);
      length = sectors * VIRTIO_BLK_SECTOR_SIZE;
      unmap = (flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) !== 0;
      // One range, as the config space says; unknown flags, and unmap on a DISCARD, are not supported.
      if (readable < VIRTIO_BLK_RANGE_SIZE) status = VIRTIO_BLK_S_IOERR;
      else if (readable > VIRTIO_BLK_RANGE_SIZE) status = VIRTIO_BLK_S_UNSUPP;
      else if (flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP || (unmap && operation === 'discard'))
        status = VIRTIO_BLK_S_UNSUPP;
      else if (sectors > MAX_RANGE_SECTORS) status = VIRTIO_BLK_S_IOERR;
    } else status = VIRTIO_BLK_S_UNSUPP;
    if (length % VIRTIO_BLK_SECTOR_SIZE) status ||= VIRTIO_BLK_S_IOERR;
    const capacity = BigInt(geometry.capacity / VIRTIO_BLK_SECTOR_SIZE);
    const inside =
      sector <= capacity && BigInt(Math.ceil(length / VIRTIO_BLK_SECTOR_SIZE)) <= capacity - sector;
    if (operation !== 'flush' && operation !== 'id' && !inside) status ||= VIRTIO_BLK_S_IOERR;
    const moves = operation === 'read' || operation === 'write';
    if (moves && length > JAVASCRIPT_REQUEST_LIMIT) status ||= VIRTIO_BLK_S_IOERR;
    this.operation = status === VIRTIO_BLK_S_OK ? operation : 'none';
    this.status = status;
    this.unmap = unmap;
    this.length = this.operation === 'none' ? 0 : length;
    this.offset = inside ? Number(sector) * VIRTIO_BLK_SECTOR_SIZE : 0;
    this.data = moves && status === VIRTIO_BLK_S_OK ? new Uint8Array(length) : undefined;
    this.dataBytes = this.data ? length : 0;
  }

  /** Whether the model has transferred the buffer of `data` away. */
  get isDetached(): boolean {
    return this.data !== undefined && this.data.length !== this.dataBytes;
  }

  /** Whether it comes from before a reset, which `epoch` (the queue's now) shows: then its ring is gone. */
  isStale(epoch: number): boolean {
    return this.#epoch !== epoch;
  }

  /** Offset of the status byte among the writable bytes. */
  get statusOffset(): number {
    return this.#writable - 1;
  }
}
