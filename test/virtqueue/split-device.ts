import * as layout from '../../assembly/layout.js';
import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_AVAIL_FLAGS,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_USED_FLAGS,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
} from '../../assembly/virtio.js';
import type { Chain, DeviceSide, Request, Used } from './device-side.js';
import { passes } from './notification.js';
import type { Refusal } from './regions.js';
import { type SplitTable, segmentsOf, walkChain } from './split-chain.js';
import { Writes } from './writes.js';

/** A split virtqueue as its device knows it. */
export interface SplitQueue extends SplitTable {
  /** Linear addresses of the available and the used ring. */
  readonly avail: number;
  readonly used: number;
  readonly eventIdx: boolean;
  /** Chains that one burst takes at most, and segments that there is room for. */
  readonly burst: number;
  readonly segments: number;
}

/** The device side of a split virtqueue. */
export class SplitDevice implements DeviceSide {
  verdict = 0;
  miss: bigint | undefined;
  inFlight = 0;
  readonly writes = new Writes();
  readonly #queue: SplitQueue;
  /** Next entry of the available ring to take, and how far it is known to reach. */
  #lastAvail: number;
  #seenAvail: number;
  /** Next used index, and where it was when the driver was last thought of. */
  #used: number;
  #signalledUsed: number;
  readonly #held = new Set<number>();

  /** Starts at `lastAvail` of the available ring, and where the used ring says that it is. */
  constructor(queue: SplitQueue, lastAvail: number) {
    this.#queue = queue;
    this.#lastAvail = lastAvail;
    this.#seenAvail = lastAvail;
    this.#used = queue.data.getUint16(queue.used + VIRTQ_USED_IDX, true);
    this.#signalledUsed = this.#used;
  }

  mapped(): void {
    this.miss = undefined;
  }

  pop(max: number): Chain[] {
    const chains: Chain[] = [];
    let room = this.#queue.segments;
    for (let left = this.#available(Math.min(max, this.#queue.burst)); left > 0; left--) {
      const head = this.#head();
      const elements = walkChain(this.#queue, head);
      const segments = Array.isArray(elements) ? segmentsOf(this.#queue.regions, elements, room) : elements;
      if ('noRoom' in segments) {
        // A chain that fits an empty table has its turn in the next burst.
        if (chains.length === 0) this.#refuse({ verdict: layout.VERDICT_TOO_MANY_SEGMENTS });
        break;
      }
      if (!('readable' in segments)) {
        this.#refuse(segments);
        break;
      }
      chains.push({ head, ...segments });
      room -= segments.readable.length + segments.writable.length;
      this.#next();
    }
    return chains;
  }

  push(used: readonly Used[]): boolean {
    if (used.length === 0) return false;
    for (const { head, bytes } of used) this.#give(head, bytes);
    return this.publish();
  }

  take(): Request | undefined {
    if (this.#available(1) === 0) return undefined;
    const head = this.#head();
    const elements = walkChain(this.#queue, head);
    const segments = Array.isArray(elements) ? segmentsOf(this.#queue.regions, elements) : elements;
    if (!Array.isArray(elements) || !('readable' in segments)) {
      this.#refuse(segments as Refusal);
      return undefined;
    }
    if (this.#held.has(head)) {
      this.#refuse({ verdict: layout.VERDICT_HEAD_IN_FLIGHT });
      return undefined;
    }
    this.#held.add(head);
    this.#next();
    return { head, elements };
  }

  finish(request: Request, written: number): void {
    const writable = request.elements.reduce((sum, { bytes, writable }) => sum + (writable ? bytes : 0), 0);
    this.#give(request.head, Math.min(written, writable));
    this.#held.delete(request.head);
  }

  publish(): boolean {
    const { data, avail, used, size, eventIdx } = this.#queue;
    const before = this.#signalledUsed;
    this.writes.u16(used + VIRTQ_USED_IDX, this.#used);
    if (!eventIdx) return !(data.getUint16(avail + VIRTQ_AVAIL_FLAGS, true) & VIRTQ_AVAIL_F_NO_INTERRUPT);
    this.#signalledUsed = this.#used;
    return passes(data.getUint16(avail + VIRTQ_AVAIL_RING + size * 2, true), before, this.#used);
  }

  arm(): number {
    const { used, size, eventIdx } = this.#queue;
    if (eventIdx) this.writes.u16(used + VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE, this.#lastAvail);
    else this.writes.u16(used + VIRTQ_USED_FLAGS, 0);
    return this.pending();
  }

  disarm(): void {
    if (!this.#queue.eventIdx) this.writes.u16(this.#queue.used + VIRTQ_USED_FLAGS, VIRTQ_USED_F_NO_NOTIFY);
  }

  pending(): number {
    return this.verdict || this.miss !== undefined ? 0 : (this.#availIdx() - this.#lastAvail) & 0xffff;
  }

  /** Up to `max` chains that wait. The index is looked at when what was seen of it does not suffice. */
  #available(max: number): number {
    if (this.verdict || this.miss !== undefined) return 0;
    const { size } = this.#queue;
    if (((this.#seenAvail - this.#lastAvail) & 0xffff) < max) {
      const index = this.#availIdx();
      if (((index - this.#lastAvail) & 0xffff) > size) {
        this.#refuse({ verdict: layout.VERDICT_AVAIL_INDEX });
        return 0;
      }
      this.#seenAvail = index;
    }
    return Math.min(max, (this.#seenAvail - this.#lastAvail) & 0xffff);
  }

  #availIdx(): number {
    return this.#queue.data.getUint16(this.#queue.avail + VIRTQ_AVAIL_IDX, true);
  }

  #head(): number {
    const { data, avail, size } = this.#queue;
    return data.getUint16(avail + VIRTQ_AVAIL_RING + (this.#lastAvail % size) * 2, true);
  }

  #next(): void {
    this.#lastAvail = (this.#lastAvail + 1) & 0xffff;
    this.inFlight++;
  }

  #give(head: number, bytes: number): void {
    const { used, size } = this.#queue;
    const at = used + VIRTQ_USED_RING + (this.#used % size) * VIRTQ_USED_ENTRY_SIZE;
    this.writes.u32(at, head);
    this.writes.u32(at + 4, bytes);
    this.#used = (this.#used + 1) & 0xffff;
    this.inFlight--;
  }

  #refuse(refusal: Refusal): void {
    if ('miss' in refusal) this.miss = refusal.miss;
    else this.verdict = refusal.verdict;
  }
}
