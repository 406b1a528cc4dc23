import { CACHE_LINE, FRAME_BYTES, FRAME_SIZE, FRAME_SLOT } from '../../assembly/layout.js';
import { VIRTIO_NET_HDR_SIZE } from '../../assembly/virtio.js';
import type { FrameTap } from '../observability/frame-capture.js';
import { DriverLane, type DriverLaneOptions } from './driver-lane.js';
import type { DriverQueue, SlotShape } from './driver-queue.js';
import { maxFrameBytes } from './net-config.js';
import { RequestTimer } from './request-timer.js';

/** What a frame takes of a queue: one descriptor, for its header and itself. */
export function netSlot(mtu: number): SlotShape {
  const bytes = VIRTIO_NET_HDR_SIZE + maxFrameBytes(mtu);
  return { descriptors: 1, bytes: Math.ceil(bytes / CACHE_LINE) * CACHE_LINE, holdsData: true };
}

/** Bytes of private memory that the frame table of a queue of `size` entries takes. */
export function frameTableBytes(size: number): number {
  return size * FRAME_SIZE + CACHE_LINE;
}

/** What a queue of a network device is told when it is made. */
export interface NetQueueOptions extends DriverLaneOptions {
  /** Where it leaves frames that are captured. */
  tap: FrameTap | undefined;
}

/** What the two queues of a network device have in common: a table of frames, and the way to the ring and back. */
export abstract class NetQueue extends DriverLane {
  readonly #u32: Uint32Array;
  readonly #timer: RequestTimer;
  /** Index in `#u32`. */
  readonly #table: number;
  protected readonly tap: FrameTap | undefined;

  constructor(queue: DriverQueue, options: NetQueueOptions) {
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

  /** Linear address of a slot's frame. */
  protected frameOf(slot: number): number {
    return this.queue.slotMemory + slot * this.queue.slotBytes + VIRTIO_NET_HDR_SIZE;
  }

  /** Slot of entry `index` of the table. */
  protected slotAt(index: number): number {
    return this.#u32[this.#table + (index * FRAME_SIZE + FRAME_SLOT) / 4] as number;
  }

  /** Bytes of the frame of entry `index`. */
  protected bytesAt(index: number): number {
    return this.#u32[this.#table + (index * FRAME_SIZE + FRAME_BYTES) / 4] as number;
  }

  /** Fills in entry `index` of the table. */
  protected fillIn(index: number, slot: number, bytes: number): void {
    this.#u32[this.#table + (index * FRAME_SIZE + FRAME_SLOT) / 4] = slot;
    this.#u32[this.#table + (index * FRAME_SIZE + FRAME_BYTES) / 4] = bytes;
  }

  /** Puts the first `count` entries on the ring. A queue that breaks over it has told everybody. */
  protected offer(call: 'netTransmit' | 'netReceive', count: number): void {
    const { queue } = this;
    // A buffer to receive into waits for a frame: that is nobody's latency.
    const start = call === 'netTransmit' ? this.#timer.start : undefined;
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
      count = this.engine.netReap(queue.block, this.#table * 4, queue.slots);
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
