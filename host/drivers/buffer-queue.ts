import { CACHE_LINE, FRAME_BYTES, FRAME_SIZE, FRAME_SLOT, PAGE_SIZE } from '../../assembly/layout.js';
import type { FrameTap } from '../observability/frame-capture.js';
import { DriverLane, type DriverLaneOptions } from './driver-lane.js';
import type { DriverQueue, SlotShape } from './driver-queue.js';
import { RequestTimer } from './request-timer.js';
import type { QueuePlan } from './virtio-driver.js';

/** What a buffer takes of a queue: one descriptor, for `headerBytes` of header and payloads of `least` to `most` bytes. */
export function bufferSlot(headerBytes: number, least: number, most: number): SlotShape {
  const bytes = Math.ceil((headerBytes + most) / CACHE_LINE) * CACHE_LINE;
  return { descriptors: 1, bytes, holdsData: true, headerBytes, leastBytes: least };
}

/** What `queues` queues of buffers are set up with, besides their sizes. Bounce buffers have room for every slot: none ever waits. */
export function bufferPlan(
  slot: SlotShape,
  queues: number,
  maxQueueSize: number,
  bounce: boolean | undefined,
): Omit<QueuePlan, 'queueSize' | 'maxQueueSize' | 'doorbell'> {
  const bounceBytes = queues * maxQueueSize * Math.ceil(slot.bytes / PAGE_SIZE) * PAGE_SIZE;
  return {
    slot,
    queues,
    bufferBytesPerQueue: 0,
    privateBytesPerQueue: maxQueueSize * FRAME_SIZE + CACHE_LINE,
    arenaBytes: 0,
    bounce: bounce ? { first: bounceBytes, most: bounceBytes } : undefined,
  };
}

/** What a queue of buffers is told when it is made. */
export interface BufferQueueOptions extends DriverLaneOptions {
  /** Where it leaves frames that are captured. */
  tap?: FrameTap | undefined;
}

/** A queue whose requests are one buffer each, in whichever direction: a table of them, and the way to the ring and back. */
export abstract class BufferQueue extends DriverLane {
  readonly #u32: Uint32Array;
  readonly #timer: RequestTimer;
  /** Index in `#u32`. */
  readonly #table: number;
  protected readonly tap: FrameTap | undefined;
  /** Whether its buffers are requests that are answered at once: those that wait for something to come are nobody's latency. */
  protected abstract readonly timed: boolean;

  constructor(queue: DriverQueue, options: BufferQueueOptions) {
    super(queue, options);
    this.tap = options.tap;
    const { aperture } = queue.memory;
    this.#timer = new RequestTimer(queue.latency);
    this.#u32 = aperture.u32;
    this.#table = aperture.allocate(queue.maxSlots * FRAME_SIZE) / 4;
  }

  protected override restarted(): void {
    this.#timer.forget();
  }

  /** Linear address of a slot's payload. */
  protected payloadOf(slot: number): number {
    return this.queue.slotMemory + slot * this.queue.slotBytes + this.queue.headerBytes;
  }

  /** Slot of entry `index` of the table. */
  protected slotAt(index: number): number {
    return this.#u32[this.#table + (index * FRAME_SIZE + FRAME_SLOT) / 4] as number;
  }

  /** Bytes of the payload of entry `index`. */
  protected bytesAt(index: number): number {
    return this.#u32[this.#table + (index * FRAME_SIZE + FRAME_BYTES) / 4] as number;
  }

  /** Fills in entry `index` of the table. */
  protected fillIn(index: number, slot: number, bytes: number): void {
    this.#u32[this.#table + (index * FRAME_SIZE + FRAME_SLOT) / 4] = slot;
    this.#u32[this.#table + (index * FRAME_SIZE + FRAME_BYTES) / 4] = bytes;
  }

  /** Puts the first `count` entries on the ring. A queue that breaks over it has told everybody. */
  protected offer(call: 'bufferTransmit' | 'bufferReceive', count: number): void {
    const { queue } = this;
    const start = this.timed ? this.#timer.start : undefined;
    queue.enter();
    try {
      if (start !== undefined) this.#timer.offered(start, this.slotAt(0));
      if (this.engine[call](queue.block, this.#table * 4, count)) queue.kick();
    } catch (error) {
      this.#judge(error);
    }
    if (queue.broken) this.break(queue.verdict());
  }

  /** Collects what the device has used to the table: how many entries. None of a queue that breaks over it. */
  protected reap(): number {
    const { queue } = this;
    let count = 0;
    queue.enter();
    try {
      count = this.engine.bufferReap(queue.block, this.#table * 4, queue.slots);
    } catch (error) {
      this.#judge(error);
    }
    this.#timer.reaped(this.#u32, this.#table + FRAME_SLOT / 4, FRAME_SIZE / 4, count);
    if (queue.broken) this.break(queue.verdict());
    return this.error ? 0 : count;
  }

  #judge(error: unknown): void {
    const outcome = this.trapped(error);
    if (outcome !== this.error) throw outcome;
  }
}
