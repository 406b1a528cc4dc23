import { ETH_HLEN, VIRTIO_NET_HDR_SIZE } from '../../assembly/virtio.js';
import type { RingbellError } from '../errors.js';
import type { DriverQueue } from './driver-queue.js';
import { NetQueue, type NetQueueOptions } from './net-queue.js';
import type { Transmission } from './transmission.js';
import { WaitingLine } from './waiting-line.js';

/** A frame that the device holds. */
interface TransmittedFrame {
  readonly transmission: Transmission;
  readonly frame: Uint8Array;
  /** How many frames have gone to the ring before it. */
  readonly order: number;
}

/**
 * The transmit queue of a network device: frames come in, wait for a slot if need be, go to the ring once a turn with at
 * most one notification, in order, and are completed from interrupts or by polling.
 */
export class NetTransmitQueue extends NetQueue {
  /** By slot: which frame the device holds. */
  #pending: (TransmittedFrame | undefined)[] = [];
  /** Frames that have been taken back from the device, or from the line, and go to the ring before all others. */
  #recalled: TransmittedFrame[] = [];
  /** Frames that have gone to the ring. */
  #sent = 0;
  /** Bytes that a slot has room for. */
  readonly #longest: number;
  // A stack: the slot used last is the one that is still in the cache.
  #free: number[] = [];
  readonly #waiting = new WaitingLine<Transmission>(() => {
    this.#flush();
    this.settle();
  });
  #drained: (() => void) | undefined;

  constructor(queue: DriverQueue, options: NetQueueOptions) {
    super(queue, options);
    this.#longest = queue.slotBytes - VIRTIO_NET_HDR_SIZE;
    this.restarted();
  }

  /** Takes frames. They go to the ring, with all others of this turn, when the caller's code has ended. */
  submit(transmission: Transmission): void {
    if (this.error) {
      transmission.fail(this.error);
      return;
    }
    this.#waiting.join(transmission);
  }

  override drained(): Promise<void> {
    if (this.#idle || this.error) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drained = resolve;
    });
  }

  get #idle(): boolean {
    const waits = this.#waiting.first !== undefined || this.#recalled.length > 0;
    return !waits && this.#free.length === this.queue.slots;
  }

  protected override look(): void {
    this.takeUsed();
    this.#flush();
    this.settle();
  }

  protected override takeUsed(): void {
    const count = this.reap();
    for (let index = 0; index < count; index++) {
      const slot = this.slotAt(index);
      this.#free.push(slot);
      this.#pending[slot]?.transmission.completed();
      this.#pending[slot] = undefined;
    }
  }

  /** In the order in which they were sent. Whether the device has sent some of them does not matter: networks repeat frames. */
  protected override recall(): void {
    const held = this.#pending.filter((frame) => frame !== undefined);
    this.#recalled = [...held.sort((a, b) => a.order - b.order), ...this.#recalled];
  }

  protected override restarted(): void {
    super.restarted();
    const { slots } = this.queue;
    this.#pending = new Array(slots).fill(undefined);
    this.#free = Array.from({ length: slots }, (_, index) => slots - 1 - index);
  }

  protected override resume(): void {
    this.#flush();
    this.settle();
  }

  protected override settle(): void {
    const waits = !this.error && !this.#idle;
    if (!waits) {
      this.#drained?.();
      this.#drained = undefined;
    }
    this.watch.settle(waits);
  }

  protected override failAll(error: RingbellError): void {
    for (const frame of [...this.#pending, ...this.#recalled]) frame?.transmission.fail(error);
    this.#waiting.dissolve((transmission) => transmission.fail(error));
  }

  /** Moves frames that wait to free slots. */
  #flush(): void {
    if (this.paused) return;
    let count = 0;
    while (this.#recalled.length > 0 && this.#free.length > 0) {
      const { transmission, frame } = this.#recalled.shift() as TransmittedFrame;
      if (!transmission.settled && this.#fill(count, transmission, frame)) count++;
    }
    while (this.#waiting.first && this.#free.length > 0) {
      const transmission = this.#waiting.first;
      const frame = transmission.take();
      if (!frame) {
        this.#waiting.leave();
      } else if (this.#fill(count, transmission, frame)) count++;
    }
    if (count > 0) this.offer('netTransmit', count);
  }

  /** Puts a frame into a slot, as entry `index` of the table: false, and its transmission fails, if it is none any more. */
  #fill(index: number, transmission: Transmission, frame: Uint8Array): boolean {
    if (frame.byteLength < ETH_HLEN || frame.byteLength > this.#longest) {
      transmission.fail(new TypeError('the buffer was detached, or resized, before it was sent'));
      return false;
    }
    const slot = this.#free.pop() as number;
    this.#pending[slot] = { transmission, frame, order: this.#sent++ };
    this.queue.memory.copyIn(this.frameOf(slot), frame);
    if (index === 0) this.tap?.begin();
    this.tap?.record(frame);
    this.fillIn(index, slot, frame.byteLength);
    return true;
  }
}
