import * as layout from '../../assembly/layout.js';
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../../assembly/virtio.js';
import type { Chain, DeviceSide, Request, Used } from './device-side.js';
import { type PackedChain, type PackedRing, walkPackedChain } from './packed-chain.js';
import type { PackedPlace } from './packed-place.js';
import type { Refusal } from './regions.js';
import { segmentsOf } from './split-chain.js';
import { Writes } from './writes.js';

/** A packed virtqueue as its device knows it. */
export interface PackedQueue extends PackedRing {
  /** Linear addresses of the event suppression structures: the driver's, and the device's own. */
  readonly avail: number;
  readonly used: number;
  readonly eventIdx: boolean;
  /** Whether VIRTIO_F_IN_ORDER was negotiated: buffers are used in order, a whole batch by one descriptor. */
  readonly inOrder: boolean;
  /** Chains that one burst takes at most, and segments that there is room for. */
  readonly burst: number;
  readonly segments: number;
}

/** The device side of a packed virtqueue. */
export class PackedDevice implements DeviceSide {
  verdict = 0;
  miss: bigint | undefined;
  inFlight = 0;
  readonly writes = new Writes();
  readonly #queue: PackedQueue;
  /** Next descriptor to take, next one to use, and where that was when the driver was last thought of. */
  readonly #available: PackedPlace;
  readonly #used: PackedPlace;
  #signalled: PackedPlace;
  /** Bytes that the device may write to each chain of the last burst. */
  #writable: number[] = [];
  /** What `finish` gave back, and `publish` has not published. */
  #unpublished: (() => void)[] = [];

  constructor(queue: PackedQueue, available: PackedPlace, used: PackedPlace) {
    this.#queue = queue;
    this.#available = available;
    this.#used = used;
    this.#signalled = used.copy();
  }

  mapped(): void {
    this.miss = undefined;
  }

  pop(max: number): Chain[] {
    const chains: Chain[] = [];
    let room = this.#queue.segments;
    while (chains.length < Math.min(max, this.#queue.burst) && this.pending()) {
      const chain = this.#walk();
      const segments = 'elements' in chain ? segmentsOf(this.#queue.regions, chain.elements, room) : chain;
      if ('noRoom' in segments) {
        if (chains.length === 0) this.#refuse({ verdict: layout.VERDICT_TOO_MANY_SEGMENTS });
        break;
      }
      if (!('readable' in segments) || !('elements' in chain)) {
        this.#refuse(segments as Refusal);
        break;
      }
      chains.push({ head: this.#take(chain), ...segments });
      room -= segments.readable.length + segments.writable.length;
    }
    this.#writable = chains.map(({ writable }) => writable.reduce((sum, [, bytes]) => sum + bytes, 0));
    return chains;
  }

  push(used: readonly Used[]): boolean {
    if (used.length === 0) return false;
    let batch = 0;
    for (const [i, { head, bytes }] of used.entries()) {
      batch += head >> 16;
      this.inFlight--;
      // Buffers before the last of a batch count as written completely.
      const joins = this.#queue.inOrder && bytes === this.#writable[i] && i + 1 < used.length;
      if (joins) continue;
      this.#give((head & 0xffff) | (batch << 16), bytes);
      batch = 0;
    }
    return this.publish();
  }

  take(): Request | undefined {
    if (!this.pending()) return undefined;
    const chain = this.#walk();
    const segments = 'elements' in chain ? segmentsOf(this.#queue.regions, chain.elements) : chain;
    if (!('readable' in segments) || !('elements' in chain)) {
      this.#refuse(segments as Refusal);
      return undefined;
    }
    return { head: this.#take(chain), elements: chain.elements };
  }

  finish(request: Request, written: number): void {
    const writable = request.elements.reduce((sum, { bytes, writable }) => sum + (writable ? bytes : 0), 0);
    this.inFlight--;
    this.#give(request.head, Math.min(written, writable));
  }

  publish(): boolean {
    const { data, avail, eventIdx, size } = this.#queue;
    for (const write of this.#unpublished.splice(0)) write();
    const before = this.#signalled;
    this.#signalled = this.#used.copy();
    const event = data.getUint16(avail, true);
    const flags = data.getUint16(avail + 2, true);
    if (flags === RING_EVENT_FLAGS_DESC && eventIdx) {
      // A place that is none cannot be waited for.
      if ((event & 0x7fff) >= size) return true;
      return before.passes(event, this.#used);
    }
    return flags !== RING_EVENT_FLAGS_DISABLE;
  }

  arm(): number {
    const { used, eventIdx } = this.#queue;
    this.writes.u16(used, eventIdx ? this.#available.value : 0);
    this.writes.u16(used + 2, eventIdx ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE);
    return this.pending();
  }

  disarm(): void {
    this.writes.u16(this.#queue.used, 0);
    this.writes.u16(this.#queue.used + 2, RING_EVENT_FLAGS_DISABLE);
  }

  /** 1 if the next descriptor is available: AVAIL like the driver's wrap counter, USED unlike it. */
  pending(): number {
    if (this.verdict || this.miss !== undefined) return 0;
    const { data, desc } = this.#queue;
    const { index, wrap } = this.#available;
    const flags = data.getUint16(desc + index * VIRTQ_DESC_SIZE + PVIRTQ_DESC_FLAGS, true);
    const avail = (flags & VIRTQ_DESC_F_AVAIL) !== 0;
    const used = (flags & VIRTQ_DESC_F_USED) !== 0;
    return avail === wrap && used !== wrap ? 1 : 0;
  }

  /** The next chain. What the device has not used, its driver cannot offer again. */
  #walk(): Refusal | PackedChain {
    const chain = walkPackedChain(this.#queue, this.#available.index);
    if ('elements' in chain && chain.descriptors > this.#queue.size - this.#used.to(this.#available))
      return { verdict: layout.VERDICT_AVAIL_INDEX };
    return chain;
  }

  #take({ id, descriptors }: PackedChain): number {
    this.#available.advance(descriptors);
    this.inFlight++;
    return id | (descriptors << 16);
  }

  /** Writes a used descriptor in place of the first that it uses, once published. */
  #give(head: number, bytes: number): void {
    const at = this.#queue.desc + this.#used.index * VIRTQ_DESC_SIZE;
    const owner = this.#used.wrap ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0;
    // "Write Flag": whether the device has written any data into the buffer.
    const flags = owner | (bytes ? VIRTQ_DESC_F_WRITE : 0);
    const write = () => {
      this.writes.u32(at + PVIRTQ_DESC_LEN, bytes);
      this.writes.u16(at + PVIRTQ_DESC_ID, head & 0xffff);
      this.writes.u16(at + PVIRTQ_DESC_FLAGS, flags);
    };
    this.#unpublished.push(write);
    this.#used.advance(head >>> 16);
  }

  #refuse(refusal: Refusal): void {
    if ('miss' in refusal) this.miss = refusal.miss;
    else this.verdict = refusal.verdict;
  }
}
