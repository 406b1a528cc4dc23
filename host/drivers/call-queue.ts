import { BufferQueue } from './buffer-queue.js';
import type { PendingCall } from './pending-call.js';
import { WaitingLine } from './waiting-line.js';

/** A queue of buffers on which calls wait for slots, first come first served, and go to the ring once a turn. */
export abstract class CallQueue<T extends PendingCall & { next: T | undefined }> extends BufferQueue {
  protected override readonly timed = true;
  // A stack: the slot used last is the one that is still in the cache.
  protected free: number[] = [];
  protected readonly waiting = new WaitingLine<T>(() => {
    this.flush();
    this.settle();
  });
  #drained: (() => void) | undefined;

  /** Takes a call. It goes to the ring, with all others of this turn, when the caller's code has ended. */
  submit(call: T): void {
    if (this.error) call.fail(this.error);
    else this.waiting.join(call);
  }

  override drained(): Promise<void> {
    if (this.idle || this.error) return Promise.resolve();
    return new Promise((resolve) => {
      this.#drained = resolve;
    });
  }

  /** Whether nobody waits. */
  protected abstract get idle(): boolean;
  /** Moves what waits to free slots, and to the ring, unless the queue is paused. */
  protected abstract flush(): void;

  protected override look(): void {
    this.takeUsed();
    this.flush();
    this.settle();
  }

  protected override restarted(): void {
    super.restarted();
    const { slots } = this.queue;
    this.free = Array.from({ length: slots }, (_, index) => slots - 1 - index);
  }

  protected override resume(): void {
    this.flush();
    this.settle();
  }

  protected override settle(): void {
    const waits = !this.error && !this.idle;
    if (!waits) {
      this.#drained?.();
      this.#drained = undefined;
    }
    this.watch.settle(waits);
  }
}
