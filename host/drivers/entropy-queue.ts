import { RingbellError } from '../errors.js';
import type { BufferQueueOptions } from './buffer-queue.js';
import { CallQueue } from './call-queue.js';
import type { DriverQueue } from './driver-queue.js';
import type { EntropyRead } from './entropy-read.js';

/**
 * The request queue of an entropy device. As many bytes are asked for as somebody waits for; which of them come first, and to
 * whom they go, does not matter: what comes goes to whoever has waited longest.
 */
export class EntropyQueue extends CallQueue<EntropyRead> {
  /** By slot: bytes that the device is asked for. */
  #asked: number[] = [];
  /** The sum of those that are on the ring. */
  #due = 0;

  constructor(queue: DriverQueue, options: BufferQueueOptions) {
    super(queue, options);
    this.restarted();
  }

  override submit(read: EntropyRead): void {
    super.submit(read);
    // Whoever gives up keeps neither the process alive nor the queue from closing.
    read.promise.catch(() => this.settle());
  }

  protected override get idle(): boolean {
    while (this.waiting.first?.settled) this.waiting.leave();
    return this.waiting.first === undefined;
  }

  protected override takeUsed(): void {
    const count = this.reap();
    for (let index = 0; index < count; index++) {
      const slot = this.slotAt(index);
      this.free.push(slot);
      this.#due -= this.#asked[slot] as number;
      this.#give(slot, this.bytesAt(index));
    }
  }

  /** What the device has not given back, it will be asked for anew. */
  protected override recall(): void {}

  protected override restarted(): void {
    super.restarted();
    this.#asked = new Array(this.queue.slots).fill(0);
    this.#due = 0;
  }

  protected override failAll(error: RingbellError): void {
    this.waiting.dissolve((read) => read.fail(error));
  }

  /** Puts buffers on the ring for what is wanted and not yet asked for. */
  protected override flush(): void {
    if (this.paused || this.error) return;
    let wanted = -this.#due;
    for (let read = this.waiting.first; read; read = read.next) wanted += read.missing;
    let count = 0;
    for (; wanted > 0 && this.free.length > 0; count++) {
      const slot = this.free.pop() as number;
      const bytes = Math.min(wanted, this.queue.mostBytes);
      this.#asked[slot] = bytes;
      this.#due += bytes;
      wanted -= bytes;
      this.fillIn(count, slot, bytes);
    }
    if (count > 0) this.offer('bufferReceive', count);
  }

  /** Hands out the `bytes` bytes that have come in a slot. What nobody wants any more is dropped. */
  #give(slot: number, bytes: number): void {
    if (this.idle) return;
    if (bytes === 0) {
      // "The device MUST place one or more random bytes into the buffer."
      this.waiting.first?.fail(new RingbellError('ERR_IO', `the device gave back a buffer without a byte`));
      return;
    }
    let payload = new Uint8Array(bytes);
    this.queue.memory.copyOut(this.payloadOf(slot), payload);
    while (payload.length > 0 && !this.idle)
      payload = payload.subarray((this.waiting.first as EntropyRead).take(payload));
  }
}
