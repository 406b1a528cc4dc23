import type { RingbellError } from '../errors.js';
import type { BufferQueueOptions } from './buffer-queue.js';
import { CallQueue } from './call-queue.js';
import type { DriverQueue } from './driver-queue.js';
import type { Transmission } from './transmission.js';

/** A payload that the device holds. */
interface Transmitted {
  readonly transmission: Transmission;
  readonly payload: Uint8Array;
  /** How many payloads have gone to the ring before it. */
  readonly order: number;
}

/**
 * A transmit queue: payloads come in, wait for a slot if need be, go to the ring once a turn with at most one notification, in
 * order, and are completed from interrupts or by polling.
 */
export class TransmitQueue extends CallQueue<Transmission> {
  /** By slot: what the device holds. */
  #pending: (Transmitted | undefined)[] = [];
  /** What has been taken back from the device, or from the line, and goes to the ring before all else. */
  #recalled: Transmitted[] = [];
  /** Payloads that have gone to the ring. */
  #sent = 0;

  constructor(queue: DriverQueue, options: BufferQueueOptions) {
    super(queue, options);
    this.restarted();
  }

  protected override get idle(): boolean {
    const waits = this.waiting.first !== undefined || this.#recalled.length > 0;
    return !waits && this.free.length === this.queue.slots;
  }

  protected override takeUsed(): void {
    const count = this.reap();
    for (let index = 0; index < count; index++) {
      const slot = this.slotAt(index);
      this.free.push(slot);
      this.#pending[slot]?.transmission.completed();
      this.#pending[slot] = undefined;
    }
  }

  /** In the order in which they were sent. The device may have sent some of them: they go out twice then. */
  protected override recall(): void {
    const held = this.#pending.filter((one) => one !== undefined);
    this.#recalled = [...held.sort((a, b) => a.order - b.order), ...this.#recalled];
  }

  protected override restarted(): void {
    super.restarted();
    this.#pending = new Array(this.queue.slots).fill(undefined);
  }

  protected override failAll(error: RingbellError): void {
    for (const one of [...this.#pending, ...this.#recalled]) one?.transmission.fail(error);
    this.waiting.dissolve((transmission) => transmission.fail(error));
  }

  /** Moves payloads that wait to free slots. */
  protected override flush(): void {
    if (this.paused) return;
    let count = 0;
    while (this.#recalled.length > 0 && this.free.length > 0) {
      const { transmission, payload } = this.#recalled.shift() as Transmitted;
      if (!transmission.settled && this.#fill(count, transmission, payload)) count++;
    }
    while (this.waiting.first && this.free.length > 0) {
      const transmission = this.waiting.first;
      const payload = transmission.take();
      if (!payload) {
        this.waiting.leave();
      } else if (this.#fill(count, transmission, payload)) count++;
    }
    if (count > 0) this.offer('bufferTransmit', count);
  }

  /** Puts a payload into a slot, as entry `index` of the table: false, and its transmission fails, if it is none any more. */
  #fill(index: number, transmission: Transmission, payload: Uint8Array): boolean {
    const { leastBytes, mostBytes, memory } = this.queue;
    if (payload.byteLength < leastBytes || payload.byteLength > mostBytes) {
      transmission.fail(new TypeError('the buffer was detached, or resized, before it was sent'));
      return false;
    }
    const slot = this.free.pop() as number;
    this.#pending[slot] = { transmission, payload, order: this.#sent++ };
    memory.copyIn(this.payloadOf(slot), payload);
    if (index === 0) this.tap?.begin();
    this.tap?.record(payload);
    this.fillIn(index, slot, payload.byteLength);
    return true;
  }
}
