import { ETH_HLEN, VIRTIO_NET_HDR_SIZE } from '../../assembly/virtio.js';
import type { RingbellError } from '../errors.js';
import type { DriverQueue } from './driver-queue.js';
import { NetQueue, type NetQueueOptions } from './net-queue.js';
import type { Transmission } from './transmission.js';
import { WaitingLine } from './waiting-line.js';

/**
 * The transmit queue of a network device: frames come in, wait for a slot if need be, go to the ring once a turn with at
 * most one notification, in order, and are completed from interrupts or by polling.
 */
export class NetTransmitQueue extends NetQueue {
  /** By slot: whose frame the device holds. */
  readonly #pending: (Transmission | undefined)[];
  /** Bytes that a slot has room for. */
  readonly #longest: number;
  // A stack: the slot used last is the one that is still in the cache.
  readonly #free: number[];
  readonly #waiting = new WaitingLine<Transmission>(() => {
    this.#flush();
    this.settle();
  });
  #drained: (() => void) | undefined;

  constructor(queue: DriverQueue, options: NetQueueOptions) {
    super(queue, options);
    const { slots, slotBytes } = queue;
    this.#longest = slotBytes - VIRTIO_NET_HDR_SIZE;
    this.#pending = new Array(slots).fill(undefined);
    this.#free = Array.from({ length: slots }, (_, index) => slots - 1 - index);
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
    return this.#waiting.first === undefined && this.#free.length === this.queue.slots;
  }

  protected override look(): void {
    const count = this.reap();
    for (let index = 0; index < count; index++) {
      const slot = this.slotAt(index);
      this.#free.push(slot);
      this.#pending[slot]?.completed();
      this.#pending[slot] = undefined;
    }
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
    for (const transmission of this.#pending) transmission?.fail(error);
    this.#waiting.dissolve((transmission) => transmission.fail(error));
  }

  /** Moves frames that wait to free slots. */
  #flush(): void {
    let count = 0;
    while (this.#waiting.first && this.#free.length > 0) {
      const transmission = this.#waiting.first;
      const frame = transmission.take();
      if (!frame) {
        this.#waiting.leave();
      } else if (frame.byteLength < ETH_HLEN || frame.byteLength > this.#longest) {
        transmission.fail(new TypeError('the buffer was detached, or resized, before it was sent'));
      } else {
        const slot = this.#free.pop() as number;
        this.#pending[slot] = transmission;
        this.queue.memory.copyIn(this.frameOf(slot), frame);
        if (count === 0) this.tap?.begin();
        this.tap?.record(frame);
        this.fillIn(count++, slot, frame.byteLength);
      }
    }
    if (count > 0) this.offer('netTransmit', count);
  }
}
