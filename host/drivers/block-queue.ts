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
  SUBMISSION_TAG,
} from '../../assembly/layout.js';
import {
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import { type BlockRequest, statusError } from './block-operation.js';
import { DriverLane, type DriverLaneOptions } from './driver-lane.js';
import type { DriverQueue, SlotShape } from './driver-queue.js';
import type { BounceUser } from './iova-domain.js';
import { RequestTimer } from './request-timer.js';
import { keepSubmissions, writeSubmission } from './submission.js';
import { WaitingLine } from './waiting-line.js';

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
export const BLOCK_SLOT: SlotShape = { descriptors: SLOT_DESCRIPTORS, bytes: SLOT_SIZE, holdsData: false };

/** What takes completions of requests that belong to no promise. */
export interface BatchSink {
  deliver(tag: number, status: number, bytes: number): void;
  /** Called after deliveries, and when the queue broke. */
  wake(error?: RingbellError): void;
  /** Whether somebody waits for `wake`. */
  waits(): boolean;
}

/** Bytes of memory that the buffers of `slots` requests take. */
export function bufferBytes(slots: number, slotBytes: number): number {
  return slots * bufferStride(slotBytes) + PAGE_SIZE;
}

/** Bytes of private memory that the tables of a queue with `slots` slots take. */
export function tableBytes(slots: number): number {
  return (
    slots * (SUBMISSION_TABLES * SUBMISSION_SIZE + COMPLETION_TABLES * COMPLETION_SIZE) +
    (SUBMISSION_TABLES + COMPLETION_TABLES) * CACHE_LINE
  );
}

/** One page more than the buffer: a power of two apart, all buffers would compete for the same few cache sets. */
function bufferStride(slotBytes: number): number {
  return Math.ceil(slotBytes / PAGE_SIZE) * PAGE_SIZE + PAGE_SIZE;
}

/**
 * One virtqueue of a block device on the caller's event loop: requests of promises come in, wait for a slot if need be,
 * go to the ring once a turn with at most one notification, and are completed from interrupts or by polling.
 */
export class BlockQueue extends DriverLane implements BounceUser {
  readonly #i32: Int32Array;
  readonly #timer: RequestTimer;
  readonly #submissions: number;
  readonly #completions: number;
  readonly #buffers: number;
  readonly #bufferStride: number;
  /** By tag: requests in flight. */
  #pending: (BlockRequest | undefined)[] = [];
  #freeTags: number[] = [];
  readonly #waiting = new WaitingLine<BlockRequest>(() => {
    this.#flush();
    this.settle();
  });
  /** Entries of the submission table that the IOVA domain has had no room for yet. */
  #staged = 0;
  #batch: BatchSink | undefined;
  #idle: (() => void) | undefined;

  constructor(queue: DriverQueue, options: DriverLaneOptions & { slotBytes: number }) {
    super(queue, options);
    const { memory, maxSlots } = queue;
    const { aperture } = memory;
    this.#i32 = aperture.i32;
    this.#timer = new RequestTimer(queue.latency);
    this.#submissions = aperture.allocate(maxSlots * SUBMISSION_SIZE);
    this.#completions = aperture.allocate(maxSlots * COMPLETION_SIZE);
    this.#bufferStride = bufferStride(options.slotBytes);
    this.#buffers = memory.take(maxSlots * this.#bufferStride, PAGE_SIZE);
    this.restarted();
  }

  /** Requests of promises that the device holds. */
  get inFlight(): number {
    return this.queue.slots - this.#freeTags.length;
  }

  /** Whether nothing is on its way, of promises or of the batch. */
  get idle(): boolean {
    return this.#waiting.first === undefined && this.#staged === 0 && this.queue.free === this.queue.slots;
  }

  /** Whether the queue waits for room in the IOVA domain. */
  get waitsForRoom(): boolean {
    return this.queue.memory.domain?.waits(this) === true;
  }

  /** Takes a request of a promise. It goes to the ring, with all others of this turn, when the caller's code has ended. */
  submit(request: BlockRequest): void {
    if (this.error) {
      request.operation.fail(this.error);
      return;
    }
    this.#waiting.join(request);
  }

  /**
   * Puts `count` submissions at `table` on the ring: how many there was room for, there and in the IOVA domain. Where the
   * domain had none the queue waits for it, and so does all that comes later. Throws what broke the queue.
   */
  submitTable(table: number, count: number): number {
    if (this.error) throw this.error;
    if (this.paused) return 0;
    const { queue } = this;
    const { domain } = queue.memory;
    const fitting = Math.min(count, queue.free);
    if (domain && !domain.turnOf(this)) {
      domain.wait(this);
      return 0;
    }
    let result: number;
    const start = this.#timer.start;
    queue.enter();
    try {
      result = this.engine.blkSubmit(queue.block, table, count);
    } catch (error) {
      throw this.trapped(error);
    }
    if (result & NOTIFY_DUE) queue.kick();
    if (queue.broken) throw this.break(queue.verdict());
    const taken = result & COUNT_MASK;
    if (taken > 0) this.#timer.offered(start, this.#i32[(table + SUBMISSION_TAG) / 4] as number);
    if (taken < fitting) domain?.wait(this);
    else domain?.leave(this);
    return taken;
  }

  /** Collects completions to `table`, as blkReap; none while the queue is being reset. Throws what broke the queue. */
  reapTable(table: number, max: number, min: number, spins: number): number {
    return this.paused ? 0 : this.#reap(table, max, min, spins);
  }

  #reap(table: number, max: number, min: number, spins: number): number {
    if (this.error) throw this.error;
    const { queue } = this;
    let count: number;
    queue.enter();
    try {
      count = this.engine.blkReap(queue.block, table, max, min, spins);
    } catch (error) {
      throw this.trapped(error);
    }
    if (queue.broken) throw this.break(queue.verdict());
    this.#timer.reaped(this.#i32, (table + COMPLETION_TAG) / 4, COMPLETION_SIZE / 4, count);
    if (count > 0) queue.memory.domain?.released();
    return count;
  }

  /** There may be room in the IOVA domain: for what waits here first, then for the batch. */
  retry(): void {
    this.#flush();
    // It was the batch that waited, which may have other plans by now: nobody is to wait behind it.
    if (this.#staged === 0) this.queue.memory.domain?.leave(this);
    this.#batch?.wake();
    this.settle();
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
      else this.queue.memory.copyOut(this.#bufferOf(index), request.data);
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
    this.#waiting.dissolve((request) => request.operation.fail(error));
    this.queue.memory.domain?.leave(this);
    this.#batch?.wake(error);
  }

  protected override takeUsed(): void {
    const { slots } = this.queue;
    for (let count = slots; count === slots; ) {
      count = this.#reap(this.#completions, slots, 0, 0);
      this.#dispatch(count);
    }
  }

  /**
   * Requests of promises wait for the new ring: whether the device has carried them out does not matter, since what they do to
   * a disk is the same the second time. Those of the batch, whose submissions are no longer there, end with IOERR.
   */
  protected override recall(): void {
    for (const tag of this.queue.tagsInFlight())
      if (tag >= 0) this.#batch?.deliver(tag, VIRTIO_BLK_S_IOERR, 0);
    this.#waiting.rejoin(this.#pending.filter((request) => request !== undefined));
    this.#staged = 0;
    this.queue.memory.domain?.leave(this);
  }

  protected override restarted(): void {
    this.#timer.forget();
    const { slots } = this.queue;
    this.#pending = new Array(slots).fill(undefined);
    // A stack: the buffer used last is the one that is still in the cache.
    this.#freeTags = Array.from({ length: slots }, (_, index) => slots - 1 - index);
  }

  protected override resume(): void {
    this.#flush();
    this.queue.memory.domain?.released();
    this.#batch?.wake();
    this.settle();
  }

  /** Moves requests that wait to free slots. */
  #flush(): void {
    if (this.paused) return;
    let count = this.#unstageSettled();
    const limit = count + Math.min(this.#freeTags.length, this.queue.free - count);
    for (let request = this.#waiting.first; request && count < limit; request = this.#waiting.first) {
      this.#waiting.leave();
      // Aborted before its turn.
      if (request.operation.settled) continue;
      if (detached(request)) {
        request.operation.fail(new TypeError('the buffer was detached before it was written'));
        continue;
      }
      this.#write(this.#submissions + count * SUBMISSION_SIZE, request);
      count++;
    }
    this.#staged = count;
    if (count === 0) return;
    try {
      const taken = this.submitTable(this.#submissions, count);
      this.#staged = keepSubmissions(this.#i32, this.#submissions, taken, count);
    } catch (error) {
      if (!(error instanceof RingbellError)) throw error;
    }
  }

  /** Takes requests that were aborted out of those that have waited for room: how many are left. */
  #unstageSettled(): number {
    const words = SUBMISSION_SIZE / 4;
    const first = this.#submissions / 4;
    let kept = first;
    for (let entry = first, end = first + this.#staged * words; entry < end; entry += words) {
      const index = (this.#i32[entry + SUBMISSION_TAG / 4] as number) & ~TAG_PROMISE;
      if ((this.#pending[index] as BlockRequest).operation.settled) {
        this.#pending[index] = undefined;
        this.#freeTags.push(index);
      } else {
        if (kept !== entry) this.#i32.copyWithin(kept, entry, entry + words);
        kept += words;
      }
    }
    return (kept - first) / words;
  }

  /** Writes one entry of the submission table. */
  #write(entry: number, request: BlockRequest): void {
    const index = this.#freeTags.pop() as number;
    this.#pending[index] = request;
    let { linear } = request;
    if (request.data && linear === 0) {
      linear = this.#bufferOf(index);
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

  #bufferOf(index: number): number {
    return this.#buffers + index * this.#bufferStride;
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
        this.#waiting.first !== undefined ||
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
