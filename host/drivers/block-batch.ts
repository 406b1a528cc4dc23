import { inspect } from 'node:util';
import {
  COMPLETION_BYTES,
  COMPLETION_SIZE,
  COMPLETION_STATUS,
  COMPLETION_TAG,
  SUBMISSION_SIZE,
} from '../../assembly/layout.js';
import {
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import type { BatchSink, BlockQueue } from './block-queue.js';
import { keepSubmissions, writeSubmission } from './submission.js';

/** Looks at the used ring that a `reap` with a minimum takes unless told otherwise: of the order of a millisecond. */
const REAP_SPINS = 1 << 18;

/** What a batch needs to know of its disk. */
export interface BatchDisk {
  /** Bytes. */
  readonly capacity: number;
  readonly readOnly: boolean;
  /** Whether it takes flushes. */
  readonly flushes: boolean;
  /** Bytes of one read or write. */
  readonly maxBytes: number;
}

/**
 * Requests on one queue with nothing allocated, no promise and no copy: for those who count nanoseconds. `read`, `write`
 * and `flush` fill a table; `submit` puts the table on the ring with one call into WASM and at most one notification;
 * `reap` collects completions, and `tag`, `status` tell of each until the next `reap`. Data lies in memory from
 * `disk.alloc()`. A queue has one batch, and goes on serving promises next to it.
 */
export class BlockBatch {
  readonly #lane: BlockQueue;
  readonly #disk: BatchDisk;
  readonly #i32: Int32Array;
  readonly #submissions: number;
  readonly #completions: number;
  readonly #backlog: number;
  #staged = 0;
  /** On the ring, or in the backlog. */
  #inFlight = 0;
  /** Completions that the event loop collected while it looked after promises or a `wait`. */
  #backlogCount = 0;
  #waiter: { resolve: () => void; reject: (error: Error) => void } | undefined;

  /**
   * For `BlockDisk.batch`.
   * @internal
   */
  constructor(lane: BlockQueue, disk: BatchDisk) {
    const { aperture } = lane.queue.memory;
    this.#lane = lane;
    this.#disk = disk;
    this.#i32 = aperture.i32;
    const { maxSlots } = lane.queue;
    this.#submissions = aperture.allocate(maxSlots * SUBMISSION_SIZE);
    this.#completions = aperture.allocate(maxSlots * COMPLETION_SIZE);
    this.#backlog = aperture.allocate(maxSlots * COMPLETION_SIZE);
    const sink: BatchSink = {
      deliver: (tag, status, bytes) => this.#deliver(tag, status, bytes),
      wake: (error) => this.#wake(error),
      waits: () => this.#waiter !== undefined,
    };
    lane.attach(sink);
  }

  /** Requests that can still be filled in. */
  get free(): number {
    const { queue } = this.#lane;
    const slots = queue.free - this.#staged;
    const entries = queue.slots - this.#staged - this.#inFlight;
    const least = slots < entries ? slots : entries;
    // Below 0 after the queue has been given fewer entries.
    return least < 0 ? 0 : least;
  }

  /** Requests submitted and not yet reaped. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Fills in a read of the sectors at `offset` (bytes) into memory from `disk.alloc()`. `tag`, from 0 to 2^31 − 1, comes
   * back with the completion. Throws ERR_RING_FULL, ERR_ALIGNMENT, ERR_OUT_OF_RANGE, ERR_ARGUMENT for other memory.
   */
  read(offset: number, data: Uint8Array, tag: number): void {
    this.readLinear(offset, this.#linearOf(data), data.byteLength, tag);
  }

  /** The same with the address that `data.byteOffset` would give, and a length in bytes. */
  readLinear(offset: number, linear: number, bytes: number, tag: number): void {
    this.#stage(VIRTIO_BLK_T_IN, offset, linear, bytes, tag);
  }

  /** Fills in a write, as `read`. Throws ERR_READ_ONLY on a disk that is. */
  write(offset: number, data: Uint8Array, tag: number): void {
    this.writeLinear(offset, this.#linearOf(data), data.byteLength, tag);
  }

  /** The same with the address that `data.byteOffset` would give, and a length in bytes. */
  writeLinear(offset: number, linear: number, bytes: number, tag: number): void {
    if (this.#disk.readOnly) throw new RingbellError('ERR_READ_ONLY');
    this.#stage(VIRTIO_BLK_T_OUT, offset, linear, bytes, tag);
  }

  /**
   * Fills in a flush of what was reaped before. Throws ERR_NOT_SUPPORTED on a disk without a write cache: where
   * `disk.flush` just resolves, a batch would have no completion to bring `tag` back.
   */
  flush(tag: number): void {
    if (!this.#disk.flushes) throw new RingbellError('ERR_NOT_SUPPORTED', 'the disk has no write cache');
    this.#put(VIRTIO_BLK_T_FLUSH, 0, 0, 0, tag);
  }

  /**
   * Puts what was filled in on the ring: how many requests. What there was no room for, with `bounce`, stays filled in until
   * the next `submit`. Throws ERR_DEVICE_BROKEN, ERR_CLOSED.
   */
  submit(): number {
    const staged = this.#staged;
    const count = staged === 0 ? 0 : this.#lane.submitTable(this.#submissions, staged);
    // Promises may have taken slots meanwhile, or bounce buffers have run out: the rest stays filled in.
    this.#staged = keepSubmissions(this.#i32, this.#submissions, count, staged);
    this.#inFlight += count;
    return count;
  }

  /**
   * Collects completions: how many. While there are fewer than `min`, it looks again up to `spins` times, blocking the
   * thread meanwhile; then it returns what there is. Throws ERR_DEVICE_BROKEN, ERR_CLOSED.
   */
  reap(min = 0, spins: number = REAP_SPINS): number {
    const lane = this.#lane;
    let count = this.#backlogCount;
    if (count > 0) {
      const from = this.#backlog / 4;
      this.#i32.copyWithin(this.#completions / 4, from, from + (count * COMPLETION_SIZE) / 4);
      this.#backlogCount = 0;
    }
    const max = this.#lane.queue.slots - count;
    const wanted = min > this.#inFlight ? this.#inFlight : min;
    const table = this.#completions + count * COMPLETION_SIZE;
    if (max > 0) {
      const looks = wanted > count ? spins : 0;
      const reaped = lane.reapTable(table, max, looks ? wanted - count : 0, looks);
      count += lane.inFlight > 0 ? this.#sift(table, reaped) : reaped;
    }
    this.#inFlight -= count;
    return count;
  }

  /** Tag of the completion at `index` of the last `reap`. */
  tag(index: number): number {
    return this.#i32[(this.#completions + index * COMPLETION_SIZE + COMPLETION_TAG) >>> 2] as number;
  }

  /**
   * Status of the completion at `index` of the last `reap`: VIRTIO_BLK_S_*, 0 for success. VIRTIO_BLK_S_IOERR too for a
   * read that the device calls a success without having written all of it.
   */
  status(index: number): number {
    return this.#i32[(this.#completions + index * COMPLETION_SIZE + COMPLETION_STATUS) >>> 2] as number;
  }

  /**
   * Resolves when `reap` has something to collect, or nothing is in flight and `submit` may find room. Rejects when the
   * device breaks or is closed.
   */
  wait(): Promise<void> {
    if (this.#lane.error) return Promise.reject(this.#lane.error);
    const waitsForRoom = this.#staged > 0 && this.#lane.waitsForRoom;
    if (this.#backlogCount > 0 || (this.#inFlight === 0 && !waitsForRoom)) return Promise.resolve();
    if (this.#waiter)
      return Promise.reject(new RingbellError('ERR_ARGUMENT', 'somebody waits for this batch already'));
    return new Promise((resolve, reject) => {
      this.#waiter = { resolve, reject };
      this.#lane.watchBatch();
    });
  }

  #linearOf(data: Uint8Array): number {
    const { aperture } = this.#lane.queue.memory;
    if (data.buffer !== aperture.memory.buffer)
      throw new RingbellError('ERR_ARGUMENT', 'a batch takes memory from disk.alloc() only');
    return data.byteOffset;
  }

  #stage(type: number, offset: number, linear: number, bytes: number, tag: number): void {
    if (offset % VIRTIO_BLK_SECTOR_SIZE !== 0 || bytes % VIRTIO_BLK_SECTOR_SIZE !== 0 || bytes <= 0)
      throw new RingbellError(
        'ERR_ALIGNMENT',
        `${bytes} bytes at ${offset} are not one or more whole sectors of ${VIRTIO_BLK_SECTOR_SIZE} bytes`,
      );
    if (!(offset >= 0 && offset + bytes <= this.#disk.capacity))
      throw new RingbellError(
        'ERR_OUT_OF_RANGE',
        `${bytes} bytes at ${offset} reach beyond the end of the disk at ${this.#disk.capacity}`,
      );
    if (bytes > this.#disk.maxBytes)
      throw new RingbellError(
        'ERR_ARGUMENT',
        `${bytes} bytes are more than the ${this.#disk.maxBytes} of one request`,
      );
    if (!this.#lane.queue.memory.allocated(linear, bytes))
      throw new RingbellError('ERR_ARGUMENT', 'a batch takes memory from disk.alloc() only');
    this.#put(type, offset / VIRTIO_BLK_SECTOR_SIZE, linear, bytes, tag);
  }

  #put(type: number, sector: number, linear: number, bytes: number, tag: number): void {
    if (this.free <= 0)
      throw new RingbellError('ERR_RING_FULL', `all ${this.#lane.queue.slots} slots are taken`);
    if (tag >> 0 !== tag || tag < 0)
      throw new RingbellError('ERR_ARGUMENT', `a tag is an integer from 0 to 2^31 − 1, not ${tag}`);
    const entry = this.#submissions + this.#staged * SUBMISSION_SIZE;
    writeSubmission(this.#i32, entry, type, tag, sector, linear, bytes, 0);
    this.#staged++;
  }

  /** Completes promises among the `count` completions at `table`, and closes the gaps: how many are left. */
  #sift(table: number, count: number): number {
    const i32 = this.#i32;
    const words = COMPLETION_SIZE / 4;
    let kept = table / 4;
    for (let entry = kept, end = kept + count * words; entry < end; entry += words) {
      const tag = i32[entry + COMPLETION_TAG / 4] as number;
      if (tag < 0) {
        const bytes = (i32[entry + COMPLETION_BYTES / 4] as number) >>> 0;
        this.#lane.complete(tag, i32[entry + COMPLETION_STATUS / 4] as number, bytes);
      } else {
        if (kept !== entry) i32.copyWithin(kept, entry, entry + words);
        kept += words;
      }
    }
    return (kept - table / 4) / words;
  }

  #deliver(tag: number, status: number, bytes: number): void {
    const word = (this.#backlog + this.#backlogCount * COMPLETION_SIZE) / 4;
    this.#i32[word + COMPLETION_TAG / 4] = tag;
    this.#i32[word + COMPLETION_STATUS / 4] = status;
    this.#i32[word + COMPLETION_BYTES / 4] = bytes;
    this.#backlogCount++;
  }

  #wake(error?: RingbellError): void {
    const waiter = this.#waiter;
    this.#waiter = undefined;
    if (error) waiter?.reject(error);
    else waiter?.resolve();
  }

  [inspect.custom](): string {
    return `BlockBatch { queue ${this.#lane.queue.index}, ${this.#staged} filled in, ${this.#inFlight} in flight }`;
  }
}
