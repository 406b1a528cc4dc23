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
import type { Chain } from '../chain.js';
import { type BlockGeometry, JAVASCRIPT_REQUEST_LIMIT, MAX_RANGE_SECTORS } from './block-config.js';

/** What a request asks of the model; 'none' when its status is known already. */
export type Operation = 'none' | 'id' | 'read' | 'write' | 'flush' | 'discard' | 'writeZeroes';

/** One request of a disk that a model serves. */
export class BlockRequest {
  readonly operation: Operation;
  /** Bytes from the start of the disk. */
  readonly offset: number;
  /** Bytes to be moved, discarded or zeroed. */
  readonly length: number;
  /** Of a WRITE_ZEROES: its storage may be given back. */
  readonly unmap: boolean;
  /** VIRTIO_BLK_S_*, as far as it is known before the model is asked. */
  readonly status: number;

  /** Whether a chain can be a block request at all: a header to read and a status byte to write. */
  static isOne({ readableBytes, writableBytes }: Chain): boolean {
    return readableBytes >= VIRTIO_BLK_HEADER_SIZE && writableBytes >= 1;
  }

  /** Judges a chain by "Device Operation" of the block device. */
  constructor(chain: Chain, geometry: BlockGeometry) {
    const type = chain.getUint32(VIRTIO_BLK_HEADER_TYPE);
    const readable = chain.readableBytes - VIRTIO_BLK_HEADER_SIZE;
    let sector = chain.getBigUint64(VIRTIO_BLK_HEADER_SECTOR);
    let operation: Operation = 'none';
    let length = 0;
    let status = VIRTIO_BLK_S_OK;
    let unmap = false;
    const isRange =
      (type === VIRTIO_BLK_T_DISCARD && geometry.discard) ||
      (type === VIRTIO_BLK_T_WRITE_ZEROES && geometry.writeZeroes);
    if (type === VIRTIO_BLK_T_IN) {
      operation = 'read';
      length = chain.writableBytes - 1;
    } else if (type === VIRTIO_BLK_T_OUT) {
      operation = 'write';
      length = readable;
      if (geometry.readOnly) status = VIRTIO_BLK_S_IOERR;
    } else if (type === VIRTIO_BLK_T_FLUSH && geometry.flush) operation = 'flush';
    else if (type === VIRTIO_BLK_T_GET_ID) operation = 'id';
    // One range, as the config space says.
    else if (isRange && readable < VIRTIO_BLK_RANGE_SIZE) status = VIRTIO_BLK_S_IOERR;
    else if (isRange) {
      const range = VIRTIO_BLK_HEADER_SIZE;
      const flags = chain.getUint32(range + VIRTIO_BLK_RANGE_FLAGS);
      const sectors = chain.getUint32(range + VIRTIO_BLK_RANGE_NUM_SECTORS);
      operation = type === VIRTIO_BLK_T_DISCARD ? 'discard' : 'writeZeroes';
      sector = chain.getBigUint64(range + VIRTIO_BLK_RANGE_SECTOR);
      length = sectors * VIRTIO_BLK_SECTOR_SIZE;
      unmap = (flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP) !== 0;
      // Unknown flags, and unmap on a DISCARD, are not supported.
      if (readable > VIRTIO_BLK_RANGE_SIZE) status = VIRTIO_BLK_S_UNSUPP;
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
  }
}
