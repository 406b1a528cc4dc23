import {
  CACHE_LINE,
  COMPLETION_BYTES,
  COMPLETION_SIZE,
  COMPLETION_STATUS,
  COMPLETION_TAG,
  COUNT_MASK,
  NOTIFY_DUE,
  PAGE_SIZE,
  SLOT_DESCRIPTORS,
  SLOT_SIZE,
  SUBMISSION_SIZE,
} from '../../assembly/layout.js';
import { VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT } from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import { type BlockRequest, statusError } from './block-operation.js';
import { DriverLane, type DriverLaneOptions } from './driver-lane.js';
import type { DriverQueue, SlotShape } from './driver-queue.js';
import { writeSubmission } from './submission.js';

/** Bit of a tag: the request belongs to a promise, not to a batch. The other bits are then the index in `#pending`. */
const TAG_PROMISE = 0x80000000;
/** Completions that one turn of the event loop takes, times the size of the completion table. */
const TABLES_PER_TURN = 8;
/** Looks at the used ring that poll mode takes in one turn of the event loop. */
const POLL_SPINS = 100;
/** Tables of a queue: submissions of promises and of its batch. */
const SUBMISSION_TABLES = 2;
/** Completions of promises, of the batch, and the batch's backlog. */
const COMPLETION_TABLES = 3;

/** What a request takes of a queue: header, data and status. */
export const BLOCK_SLOT: SlotShape = { descriptors: SLOT_DESCRIPTORS, bytes: SLOT_SIZE };

/** What takes completions of requests that belong to no promise. */
export interface BatchSink {
  deliver(tag: number, status: number, bytes: number): void;
  /** Called after deliveries, and when the queue broke. */
  wake(error?: RingbellError): void;
  /** Whether somebody waits for `wake`. */
  waits(): boolean;
}

/** Bytes of shared memory that bounce buffers of `slots` requests take. */
export function bounceBytes(slots: number, slotBytes: number): number {
  return slots * bounceStride(slotBytes) + PAGE_SIZE;
}

/** Bytes of private memory that the tables of a queue with `slots` slots take. */
export function tableBytes(slots: number): number {
  return (
    slots * (SUBMISSION_TABLES * SUBMISSION_SIZE + COMPLETION_TABLES * COMPLETION_SIZE) +
    (SUBMISSION_TABLES + COMPLETION_TABLES) * CACHE_LINE
  );
}

/** One page more than the buffer: a power of two apart, all buffers would compete for the same few cache sets. */
function bounceStride(slotBytes: number): number {
  return Math.ceil(slotBytes / PAGE_SIZE) * PAGE_SIZE + PAGE_SIZE;
}

/**
 * One virtqueue of a block device on the caller's event loop: requests of promises come in, wait for a slot if need be,
 * go to the ring once a turn with at most one notification, and are completed from interrupts or by polling.
 */
export class BlockQueue extends DriverLane {
  readonly #i32: Int32Array;
  readonly #submissions: number;
  readonly #completions: number;
  readonly #bounce: number;
  readonly #bounceStride: number;
  /** By tag: requests in flight. */
  readonly #pending: (BlockRequest | undefined)[];
  readonly #freeTags: number[];
  #waitingFirst: BlockRequest | undefined;
  #waitingLast: BlockRequest | undefined;
  #flushScheduled = false;
  #batch: BatchSink | undefined;
  #idle: (() => void) | undefined;

  constructor(queue: DriverQueue, options: DriverLaneOptions & { slotBytes: number }) {
    super(queue, options);
    const { memory, slots } = queue;
    const { aperture } = memory;
    this.#i32 = aperture.i32;
    this.#submissions = aperture.allocate(slots * SUBMISSION_SIZE);
    this.#completions = aperture.allocate(slots * COMPLETION_SIZE);
    this.#bounceStride = bounceStride(options.slotBytes);
    this.#bounce = memory.take(slots * this.#bounceStride, PAGE_SIZE);
    this.#pending = new Array(slots).fill(undefined);
    // A stack: the bounce buffer used last is the one that is still in the cache.
    this.#freeTags = Array.from({ length: slots }, (_, index) => slots - 1 - index);
  }

  /** Requests of promises that the device holds. */
  get inFlight(): number {
    return this.queue.slots - this.#freeTags.length;
  }

  /** Whether nothing is on its way, of promises or of the batch. */
  get idle(): boolean {
    return this.#waitingFirst === undefined && this.queue.free === this.queue.slots;
  }

  /** Takes a request of a promise. It goes to the ring, with all others of this turn, when the caller's code has ended. */
  submit(request: BlockRequest): void {
    if (this.error) {
      request.operation.fail(this.error);
      return;
    }
    if (this.#waitingLast) this.#waitingLast.next = request;
    else this.#waitingFirst = request;
    this.#waitingLast = request;
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    queueMicrotask(() => {
      this.#flushScheduled = false;
      this.#flush();
      this.settle();
    });
  }

  /** Puts `count` submissions at `table` on the ring: how many there was room for. Throws what broke the queue. */
  submitTable(table: number, count: number): number {
    if (this.error) throw this.error;
    const { queue } = this;
    let result: number;
    queue.crossings++;
    try {
      result = this.engine.blkSubmit(queue.block, table, count);
    } catch (error) {
      throw this.trapped(error);
    }
    if (result & NOTIFY_DUE) queue.kick();
    if (queue.broken) throw this.break(queue.verdict());
    return result & COUNT_MASK;
  }

  /** Collects completions to `table`, as blkReap. Throws what broke the queue. */
  reapTable(table: number, max: number, min: number, spins: number): number {
    if (this.error) throw this.error;
    const { queue } = this;
    let count: number;
    queue.crossings++;
    try {
      count = this.engine.blkReap(queue.block, table, max, min, spins);
    } catch (error) {
      throw this.trapped(error);
    }
    if (queue.broken) throw this.break(queue.verdict());
    return count;
  }

  /** Completes the promise's request behind a tag with the sign bit. */
  complete(tag: number, status: number, bytes: number): void {
    const index = tag & ~TAG_PROMISE;
    const request = this.#pending[index] as BlockRequest;
    this.#pending[index] = undefined;
    this.#freeTags.push(index);
    const { operation } = request;
    const reads = request.type === VIRTIO_BLK_T_IN || request.type === VIRTIO_BLK_T_GET_ID;
    // The status byte counts as written.
    const error = statusError(operation, status, reads ? request.count + 1 - bytes : 0);
    if (!error && reads && request.data && !operation.settled) {
      if (detached(request)) operation.fail(new TypeError('the buffer was detached before it was read into'));
      else this.queue.memory.copyOut(this.#bounceOf(index), request.data);
    }
    operation.completed(request, error);
  }

  /** The one batch of this queue. */
  attach(batch: BatchSink): void {
    this.#batch = batch;
  }

  /** Somebody waits for the batch: completions must now be noticed. */
  watchBatch(): void {
    this.settle();
  }

  override drained(): Promise<void> {
    if (this.idle || this.error) return Promise.resolve();
    return new Promise((resolve) => {
      this.#idle = resolve;
      this.settle();
    });
  }

  protected override failAll(error: RingbellError): void {
    for (const request of this.#pending) request?.operation.fail(error);
    for (let request = this.#waitingFirst; request; request = request.next) request.operation.fail(error);
    this.#waitingFirst = this.#waitingLast = undefined;
    this.#batch?.wake(error);
  }

  /** Moves requests that wait to free slots. */
  #flush(): void {
    const room = Math.min(this.#freeTags.length, this.queue.free);
    let count = 0;
    while (count < room && this.#waitingFirst) {
      const request = this.#waitingFirst;
      this.#waitingFirst = request.next;
      if (!this.#waitingFirst) this.#waitingLast = undefined;
      // Aborted before its turn.
      if (request.operation.settled) continue;
      if (detached(request)) {
        request.operation.fail(new TypeError('the buffer was detached before it was written'));
        continue;
      }
      this.#write(this.#submissions + count * SUBMISSION_SIZE, request);
      count++;
    }
    if (count === 0) return;
    try {
      this.submitTable(this.#submissions, count);
    } catch (error) {
      if (!(error instanceof RingbellError)) throw error;
    }
  }

  /** Writes one entry of the submission table. */
  #write(entry: number, request: BlockRequest): void {
    const index = this.#freeTags.pop() as number;
    this.#pending[index] = request;
    let { linear } = request;
    if (request.data && linear === 0) {
      linear = this.#bounceOf(index);
      if (request.type === VIRTIO_BLK_T_OUT) this.queue.memory.copyIn(linear, request.data);
    }
    writeSubmission(
      this.#i32,
      entry,
      request.type,
      index | TAG_PROMISE,
      request.sector,
      linear,
      request.count,
      request.rangeFlags,
    );
  }

  #bounceOf(index: number): number {
    return this.#bounce + index * this.#bounceStride;
  }

  /** What is left over is for the next turn. */
  protected override look(): void {
    const { slots } = this.queue;
    const spins = this.watch.mode === 'poll' ? POLL_SPINS : 0;
    try {
      for (let tables = 0; tables < TABLES_PER_TURN; tables++) {
        const count = this.reapTable(this.#completions, slots, spins ? 1 : 0, spins);
        this.#dispatch(count);
        if (count < slots) break;
      }
      this.#flush();
    } catch (error) {
      if (!(error instanceof RingbellError)) throw error;
    }
    this.settle();
  }

  #dispatch(count: number): void {
    let delivered = false;
    for (let entry = this.#completions / 4, left = count; left > 0; left--, entry += COMPLETION_SIZE / 4) {
      const tag = this.#i32[entry + COMPLETION_TAG / 4] as number;
      const status = this.#i32[entry + COMPLETION_STATUS / 4] as number;
      const bytes = (this.#i32[entry + COMPLETION_BYTES / 4] as number) >>> 0;
      if (tag < 0) this.complete(tag, status, bytes);
      else {
        this.#batch?.deliver(tag, status, bytes);
        delivered = true;
      }
    }
    if (delivered) this.#batch?.wake();
  }

  protected override settle(): void {
    const waits =
      !this.error &&
      (this.inFlight > 0 ||
        this.#waitingFirst !== undefined ||
        this.#batch?.waits() === true ||
        (this.#idle !== undefined && !this.idle));
    if (!waits) {
      this.#idle?.();
      this.#idle = undefined;
    }
    this.watch.settle(waits);
  }
}

/** Whether the application gave the buffer away, to a worker for one, while the request was on its way. */
function detached(request: BlockRequest): boolean {
  return request.data !== undefined && request.data.byteLength !== request.count;
}
