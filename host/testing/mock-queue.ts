import { closeSync } from 'node:fs';
import { VIRTQ_DESC_F_WRITE, VIRTQ_DESC_SIZE } from '../../assembly/virtio.js';
import { RingbellError } from '../errors.js';
import { loadAddon, type Watcher } from '../native/addon.js';
import type { Vring } from '../vhost-vdpa/vring.js';
import type { MockMemory } from './mock-memory.js';
import { MockPackedRing } from './mock-packed-ring.js';
import { type MockDescriptor, type MockRing, writeIndirect } from './mock-ring.js';
import { MockSplitRing } from './mock-split-ring.js';

/** A chain that a driver makes available. */
export interface MockRequest {
  /** Index of its queue; 0 if left out. */
  readonly queue?: number;
  /** What the device may read, a descriptor each; none if left out. */
  readonly readable?: Uint8Array | readonly Uint8Array[];
  /** Bytes that the device may write, a descriptor each; none if left out. */
  readonly writable?: number | readonly number[];
  /** Whether its descriptors are in an indirect table; false if left out. Needs VIRTIO_RING_F_INDIRECT_DESC. */
  readonly indirect?: boolean;
}

/** A chain that the device has given back. */
export interface MockAnswer {
  /** Used length: bytes that the device says it has written. */
  readonly written: number;
  /** All of what it could write, in one piece, as it is now: bytes behind `written` are the driver's own zeroes. */
  readonly writable: Uint8Array;
}

/** A chain that is with the device. */
interface Pending {
  readonly pieces: { offset: number; bytes: number; writable: boolean }[];
  readonly table: { offset: number; bytes: number } | undefined;
  readonly writableBytes: number;
  resolve(answer: MockAnswer): void;
  reject(error: Error): void;
}

/** What a queue is like. */
export interface MockQueueShape {
  index: number;
  /** Entries. */
  size: number;
  packed: boolean;
  inOrder: boolean;
}

/** One queue of a mock driver: a ring by hand, the chains that are in it, and its eventfds. */
export class MockQueue {
  readonly index: number;
  readonly ring: MockRing;
  readonly packed: boolean;
  /** What the device has done that none may: used ids that are in no flight, used lengths beyond what is writable. */
  readonly violations: string[] = [];
  /** Chains that the device has given back since the queue was made. */
  used = 0;
  readonly #memory: MockMemory;
  readonly #kickFd = loadAddon().eventfd();
  readonly #callFd = loadAddon().eventfd();
  readonly #watcher: Watcher;
  /** Chains that the device has, oldest first. */
  readonly #pending = new Map<number, Pending>();
  #reaping = true;
  #interrupts = 0;

  /** @internal */
  constructor(memory: MockMemory, { index, size, packed, inOrder }: MockQueueShape) {
    this.#memory = memory;
    this.index = index;
    this.packed = packed;
    this.ring = packed ? new MockPackedRing(memory, size, inOrder) : new MockSplitRing(memory, size, inOrder);
    this.#watcher = loadAddon().watch(this.#callFd, () => {
      this.#interrupts += loadAddon().eventfdDrain(this.#callFd);
      if (this.#reaping) this.reap();
    });
    this.#watcher.unref();
  }

  /** Chains that the device has. While there are any, they keep the process alive. */
  get inFlight(): number {
    return this.#pending.size;
  }

  /** Interrupts of the device so far. */
  get interrupts(): number {
    return this.#interrupts;
  }

  /** Whether used elements are looked at when the device interrupts, as from the start. `reap` looks at any time. */
  get reaping(): boolean {
    return this.#reaping;
  }

  set reaping(reaping: boolean) {
    this.#reaping = reaping;
    if (reaping) this.reap();
  }

  /** What the device has to be told of the queue, which goes on at `base`; at the start if left out. */
  vring(base: number = this.ring.startBase): Vring {
    const { areas, size } = this.ring;
    return {
      index: this.index,
      num: size,
      base,
      desc: this.#memory.iova(areas.desc),
      avail: this.#memory.iova(areas.driver),
      used: this.#memory.iova(areas.device),
      kickFd: this.#kickFd,
      callFd: this.#callFd,
    };
  }

  /** Whether there is room for a chain. */
  fits(request: MockRequest): boolean {
    const { readable, writable, indirect } = request;
    return this.ring.free >= (indirect ? 1 : readableOf(readable).length + writableOf(writable).length);
  }

  /**
   * Makes a chain available, without a kick: resolves once the device has given it back, and rejects when the driver resets
   * before. Throws ERR_RING_FULL, ERR_APERTURE_FULL, ERR_ARGUMENT for a chain of no bytes.
   */
  publish(request: MockRequest): Promise<MockAnswer> {
    const readable = readableOf(request.readable);
    const writable = writableOf(request.writable);
    if (readable.length + writable.length === 0)
      throw new RingbellError('ERR_ARGUMENT', 'a chain of no bytes');
    if (!this.fits(request)) throw new RingbellError('ERR_RING_FULL');
    const pieces = [
      ...readable.map((bytes) => this.#place(bytes.byteLength, bytes)),
      ...writable.map((bytes) => this.#place(bytes)),
    ];
    const descriptors = pieces.map(({ offset, bytes, writable: write }) => ({
      addr: this.#memory.iova(offset),
      len: bytes,
      flags: write ? VIRTQ_DESC_F_WRITE : 0,
    }));
    const table = request.indirect ? this.#table(descriptors) : undefined;
    return new Promise((resolve, reject) => {
      const pending: Pending = {
        pieces,
        table: table?.memory,
        writableBytes: writable.reduce((sum, bytes) => sum + bytes, 0),
        resolve,
        reject,
      };
      // The device may have given it back before `publish` returns, but nobody looks until the next turn.
      this.#watcher.ref();
      this.#pending.set(this.ring.publish(table ? [table.descriptor] : descriptors), pending);
    });
  }

  /** Rings the bell. */
  kick(): void {
    loadAddon().eventfdSignal(this.#kickFd);
  }

  /** Looks at used elements: how many chains came back. */
  reap(): number {
    let reaped = 0;
    for (let element = this.ring.reap(); element; element = this.ring.reap()) {
      const { id, len } = element;
      if (!this.#pending.has(id)) {
        this.violations.push(`queue ${this.index}: used id ${id} is not in flight`);
        break;
      }
      // In order one element stands for all of the chains before its own: those are full.
      for (const [older, pending] of this.#pending) {
        const skipped = this.ring.inOrder && older !== id;
        if (!skipped && older !== id) continue;
        this.#ended(older, pending, skipped ? pending.writableBytes : len);
        reaped++;
        if (older === id) break;
      }
    }
    return reaped;
  }

  /** Nothing comes back any more: the device has been reset. Gives back all memory. */
  close(reason: Error): void {
    this.#watcher.close();
    for (const [, pending] of this.#pending) {
      this.#free(pending);
      pending.reject(reason);
    }
    this.#pending.clear();
    this.ring.close();
    closeSync(this.#kickFd);
    closeSync(this.#callFd);
  }

  #ended(id: number, pending: Pending, written: number): void {
    this.#pending.delete(id);
    if (this.#pending.size === 0) this.#watcher.unref();
    this.ring.retire(id);
    this.used++;
    if (written > pending.writableBytes)
      this.violations.push(
        `queue ${this.index}: ${written} bytes written to a chain of ${pending.writableBytes} writable`,
      );
    const parts = pending.pieces
      .filter(({ writable }) => writable)
      .map(({ offset, bytes }) => this.#memory.bytes.slice(offset, offset + bytes));
    this.#free(pending);
    pending.resolve({ written, writable: Buffer.concat(parts) });
  }

  #place(bytes: number, content?: Uint8Array): Pending['pieces'][number] {
    const offset = this.#memory.take(bytes);
    if (content) this.#memory.bytes.set(content, offset);
    return { offset, bytes, writable: content === undefined };
  }

  #table(descriptors: readonly MockDescriptor[]) {
    const bytes = descriptors.length * VIRTQ_DESC_SIZE;
    const offset = this.#memory.take(bytes);
    return {
      memory: { offset, bytes },
      descriptor: writeIndirect(this.#memory, offset, descriptors, this.packed),
    };
  }

  #free({ pieces, table }: Pending): void {
    for (const { offset, bytes } of pieces) this.#memory.give(offset, bytes);
    if (table) this.#memory.give(table.offset, table.bytes);
  }
}

/** What a request has to read, piece by piece. */
export function readableOf(readable: MockRequest['readable'] = []): readonly Uint8Array[] {
  return readable instanceof Uint8Array ? [readable] : readable;
}

/** What a request has to write, piece by piece, in bytes. */
export function writableOf(writable: MockRequest['writable'] = []): readonly number[] {
  return typeof writable === 'number' ? [writable] : writable;
}
