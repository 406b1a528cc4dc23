import {
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from '../../assembly/virtio.js';
import { BlockOperation, type BlockOperationKind, type BlockRequest } from './block-operation.js';
import type { BlockQueue } from './block-queue.js';

/** What limits the requests of one operation. */
export interface BlockSchedulerLimits {
  /** Bytes of a bounce buffer. */
  bouncedBytes: number;
  /** Bytes of one request without a bounce buffer, now. */
  zeroCopyBytes(): number;
}

/** Makes requests of operations, as large as the device takes them, and spreads them over the queues of a disk. */
export class BlockScheduler {
  readonly #lanes: readonly BlockQueue[];
  readonly #limits: BlockSchedulerLimits;
  #next = 0;

  constructor(lanes: readonly BlockQueue[], limits: BlockSchedulerLimits) {
    this.#lanes = lanes;
    this.#limits = limits;
  }

  /** Starts a read into `data`, or a write of it, at `offset` (bytes). Memory that the device sees is not copied. */
  transfer(kind: 'read' | 'write', offset: number, data: Uint8Array): BlockOperation {
    const lane = this.#lanes[0] as BlockQueue;
    const linear = lane.queue.memory.linearOf(data);
    const zeroCopyBytes = this.#limits.zeroCopyBytes();
    const most = linear ? zeroCopyBytes : Math.min(zeroCopyBytes, this.#limits.bouncedBytes);
    return this.#split(kind, offset, data.byteLength, most, (operation, at, bytes) => ({
      operation,
      type: kind === 'read' ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT,
      sector: (offset + at) / VIRTIO_BLK_SECTOR_SIZE,
      count: bytes,
      linear: linear ? linear + at : 0,
      data: linear ? undefined : bytes === data.byteLength ? data : data.subarray(at, at + bytes),
      rangeFlags: 0,
      next: undefined,
    }));
  }

  /** Starts a discard or write of zeroes of `length` bytes from `offset`, in ranges of at most `most` bytes. */
  ranges(
    kind: 'discard' | 'writeZeroes',
    offset: number,
    length: number,
    most: number,
    rangeFlags: number,
  ): BlockOperation {
    return this.#split(kind, offset, length, most, (operation, at, bytes) => ({
      operation,
      type: kind === 'discard' ? VIRTIO_BLK_T_DISCARD : VIRTIO_BLK_T_WRITE_ZEROES,
      sector: (offset + at) / VIRTIO_BLK_SECTOR_SIZE,
      count: bytes / VIRTIO_BLK_SECTOR_SIZE,
      linear: 0,
      data: undefined,
      rangeFlags,
      next: undefined,
    }));
  }

  /** Starts a flush. */
  flush(): BlockOperation {
    return this.#single('flush', VIRTIO_BLK_T_FLUSH, undefined);
  }

  /** Starts a request for the id, which goes to `id`. */
  getId(id: Uint8Array): BlockOperation {
    return this.#single('getId', VIRTIO_BLK_T_GET_ID, id);
  }

  #single(kind: BlockOperationKind, type: number, data: Uint8Array | undefined): BlockOperation {
    const count = data?.byteLength ?? 0;
    const operation = new BlockOperation(kind, 0, count, 1);
    this.#submit({ operation, type, sector: 0, count, linear: 0, data, rangeFlags: 0, next: undefined });
    return operation;
  }

  #split(
    kind: BlockOperationKind,
    offset: number,
    length: number,
    most: number,
    request: (operation: BlockOperation, at: number, bytes: number) => BlockRequest,
  ): BlockOperation {
    const operation = new BlockOperation(kind, offset, length, Math.ceil(length / most));
    for (let at = 0; at < length; at += most)
      this.#submit(request(operation, at, Math.min(most, length - at)));
    return operation;
  }

  #submit(request: BlockRequest): void {
    const lane = this.#lanes[this.#next] as BlockQueue;
    this.#next = (this.#next + 1) % this.#lanes.length;
    lane.submit(request);
  }
}
