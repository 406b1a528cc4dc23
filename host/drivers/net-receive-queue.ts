import { RingbellError } from '../errors.js';
import { NetQueue } from './net-queue.js';

/** Somebody who waits for frames. */
interface Receiver {
  resolve(frames: Uint8Array[]): void;
  reject(error: Error): void;
}

/**
 * The receive queue of a network device. All of its slots are on the ring, until the device has put a frame into them: there
 * frames wait, and nowhere else, until somebody receives them. When all are full the device drops what comes.
 */
export class NetReceiveQueue extends NetQueue {
  #receiver: Receiver | undefined;
  /** Frames that were received already, and given back. */
  #returned: Uint8Array[] = [];

  /** Puts every slot on the ring. After DRIVER_OK: a device may not be notified before. */
  start(): void {
    const { slots } = this.queue;
    for (let slot = 0; slot < slots; slot++) this.fillIn(slot, slot, 0);
    this.offer('netReceive', slots);
  }

  /** Resolves to the frames that have come, in order, at least one. Rejects with what broke or closed the queue. */
  receive(): { readonly promise: Promise<Uint8Array[]>; cancel(error: Error): void } {
    if (this.error) return { promise: Promise.reject(this.error), cancel: () => {} };
    if (this.#receiver) {
      const busy = new RingbellError('ERR_ARGUMENT', 'somebody waits for frames already');
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

  /** Frames that whoever received them did not want yet: the next `receive` gets them. */
  giveBack(frames: readonly Uint8Array[]): void {
    this.#returned.unshift(...frames);
  }

  override drained(): Promise<void> {
    return Promise.resolve();
  }

  protected override look(): void {
    if (this.#receiver) {
      const frames = this.#collect();
      if (frames.length > 0) {
        this.#receiver?.resolve(frames);
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
    const frames = this.#copyOut(count);
    if (count > 0) this.offer('netReceive', count);
    return frames;
  }

  /** The frames of the first `count` entries of the table. */
  #copyOut(count: number): Uint8Array[] {
    const frames: Uint8Array[] = [];
    if (count > 0) this.tap?.begin();
    for (let index = 0; index < count; index++) {
      const bytes = this.bytesAt(index);
      if (bytes === 0) continue;
      const frame = new Uint8Array(bytes);
      this.queue.memory.copyOut(this.frameOf(this.slotAt(index)), frame);
      frames.push(frame);
      this.tap?.record(frame);
    }
    return frames;
  }
}
