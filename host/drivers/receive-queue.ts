import { RingbellError } from '../errors.js';
import { BufferQueue } from './buffer-queue.js';

/** Somebody who waits for payloads. */
interface Receiver {
  resolve(payloads: Uint8Array[]): void;
  reject(error: Error): void;
}

/**
 * A receive queue. All of its slots are on the ring, until the device has put something into them: there it waits, and nowhere
 * else, until somebody receives it. When all are full a network device drops what comes, and a console waits.
 */
export class ReceiveQueue extends BufferQueue {
  protected override readonly timed = false;
  #receiver: Receiver | undefined;
  /** Payloads that were received already, and given back. */
  #returned: Uint8Array[] = [];

  /** Puts every slot on the ring. After DRIVER_OK: a device may not be notified before. */
  start(): void {
    const { slots } = this.queue;
    for (let slot = 0; slot < slots; slot++) this.fillIn(slot, slot, this.queue.mostBytes);
    this.offer('bufferReceive', slots);
  }

  /** Resolves to the payloads that have come, in order, at least one. Rejects with what broke or closed the queue. */
  receive(): { readonly promise: Promise<Uint8Array[]>; cancel(error: Error): void } {
    if (this.error) return { promise: Promise.reject(this.error), cancel: () => {} };
    if (this.#receiver) {
      const busy = new RingbellError('ERR_ARGUMENT', 'somebody waits already');
      return { promise: Promise.reject(busy), cancel: () => {} };
    }
    if (this.#returned.length > 0)
      return { promise: Promise.resolve(this.#returned.splice(0)), cancel: () => {} };
    let receiver!: Receiver;
    const promise = new Promise<Uint8Array[]>((resolve, reject) => {
      receiver = { resolve, reject };
    });
    this.#receiver = receiver;
    this.settle();
    return {
      promise,
      cancel: (error) => {
        if (this.#receiver !== receiver) return;
        this.#receiver = undefined;
        receiver.reject(error);
        this.settle();
      },
    };
  }

  /** Payloads that whoever received them did not want yet: the next `receive` gets them. */
  giveBack(payloads: readonly Uint8Array[]): void {
    this.#returned.unshift(...payloads);
  }

  override drained(): Promise<void> {
    return Promise.resolve();
  }

  protected override look(): void {
    if (this.#receiver) {
      const payloads = this.#collect();
      if (payloads.length > 0) {
        this.#receiver?.resolve(payloads);
        this.#receiver = undefined;
      }
    }
    this.settle();
  }

  protected override settle(): void {
    this.watch.settle(!this.error && this.#receiver !== undefined);
  }

  protected override failAll(error: RingbellError): void {
    this.#receiver?.reject(error);
    this.#receiver = undefined;
  }

  /** What has come already is for whoever receives next. */
  protected override takeUsed(): void {
    this.#returned.push(...this.#copyOut(this.reap()));
  }

  protected override recall(): void {}

  protected override resume(): void {
    this.start();
    if (this.#receiver && this.#returned.length > 0) {
      this.#receiver.resolve(this.#returned.splice(0));
      this.#receiver = undefined;
    }
    this.settle();
  }

  /** Copies what has come out of its slots, and puts these on the ring again. */
  #collect(): Uint8Array[] {
    const count = this.reap();
    const payloads = this.#copyOut(count);
    for (let index = 0; index < count; index++) this.fillIn(index, this.slotAt(index), this.queue.mostBytes);
    if (count > 0) this.offer('bufferReceive', count);
    return payloads;
  }

  /** The payloads of the first `count` entries of the table. */
  #copyOut(count: number): Uint8Array[] {
    const payloads: Uint8Array[] = [];
    if (count > 0) this.tap?.begin();
    for (let index = 0; index < count; index++) {
      const bytes = this.bytesAt(index);
      if (bytes === 0) continue;
      const payload = new Uint8Array(bytes);
      this.queue.memory.copyOut(this.payloadOf(this.slotAt(index)), payload);
      payloads.push(payload);
      this.tap?.record(payload);
    }
    return payloads;
  }
}
