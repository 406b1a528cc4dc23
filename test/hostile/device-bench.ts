import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { VERDICT_CODES } from '../../host/errors.js';
import { DRIVER_LINEAR, Ring, type RingOptions } from '../engine/fixture.js';
import { PackedRing } from '../engine/packed-ring.js';
import type { Side } from './hostile-case.js';

/** A descriptor, whatever the format. Where `next` is missing, the following one of the list is meant. */
export interface Element {
  /** The start of a buffer of the driver's by default. */
  iova?: bigint;
  /** 16 by default. */
  bytes?: number;
  /** VIRTQ_DESC_F_WRITE, _INDIRECT, _NEXT beyond what the list needs. */
  flags?: number;
  /** Index of the next descriptor, of a split ring. */
  next?: number;
}

/** A ring under a hostile driver, of either format, and what its device makes of it. */
export abstract class DeviceBench {
  readonly ring: Ring;
  /** Chains taken and given back. */
  served = 0;

  static make(side: Side, options: RingOptions = {}): DeviceBench {
    return side === 'packed device' ? new PackedBench(options) : new SplitBench(options);
  }

  protected constructor(ring: Ring) {
    this.ring = ring;
  }

  /** Makes a chain of these descriptors available. */
  abstract offer(...elements: Element[]): void;

  /** Makes a chain available that is sound; on a split ring with the last descriptor of the table. */
  abstract offerSound(): void;

  /** Writes an indirect table at `at`: the descriptor that refers to it. */
  abstract table(elements: Element[], at?: number): Element;

  /** IOVA of byte `offset` of the buffers. */
  buffer(offset = 0): bigint {
    return this.ring.iova(this.ring.buffers + offset);
  }

  /** Takes what is there, and gives it back: what became of it. */
  outcome(): string {
    const { ring } = this;
    const taken = ring.pop();
    const segments = taken ? this.segments(taken - 1) : 0;
    this.served += ring.engine.devicePush(ring.vq, taken) & layout.COUNT_MASK;
    const verdict = ring.verdict();
    if (verdict) {
      if (ring.pop() !== 0) return 'taken after a verdict';
      if (ring.counter(ring.vq, layout.VQ_HOSTILE_CHAINS) !== 1) return 'not counted';
      ring.start();
      return ring.verdict() ? 'broken after a reset' : `breaks: ${VERDICT_CODES[verdict]}`;
    }
    if (ring.missed()) return 'waits for a mapping';
    if (taken === 0) return 'nothing is taken';
    if (taken > 1) return `${taken} chains served`;
    return segments > 1 ? `served, ${segments} segments` : 'served';
  }

  /** Segments of chain `index` of the last burst. */
  segments(index: number): number {
    const { readable, writable } = this.ring.chain(index);
    return readable.length + writable.length;
  }
}

class SplitBench extends DeviceBench {
  #next = 0;

  constructor(options: RingOptions) {
    super(new Ring(options));
  }

  offer(...elements: Element[]): void {
    const head = this.#next;
    for (const [i, element] of elements.entries())
      this.#write(this.#next++, element, i + 1 < elements.length, this.ring.desc);
    this.ring.offer(head);
  }

  offerSound(): void {
    const head = this.ring.size - 1;
    this.ring.descriptor(head, this.buffer(), 64);
    this.ring.offer(head);
  }

  table(elements: Element[], at = this.ring.buffers + 0x2000): Element {
    for (const [i, element] of elements.entries()) this.#write(i, element, i + 1 < elements.length, at);
    return tableElement(this.ring, at, elements.length);
  }

  #write(index: number, { iova, bytes = 16, flags = 0, next }: Element, more: boolean, table: number): void {
    const link = more || next !== undefined ? virtio.VIRTQ_DESC_F_NEXT : 0;
    this.ring.descriptor(index, iova ?? this.buffer(), bytes, flags | link, next ?? index + 1, table);
  }
}

class PackedBench extends DeviceBench {
  readonly #packed: PackedRing;

  constructor(options: RingOptions) {
    const ring = new PackedRing(options);
    super(ring);
    this.#packed = ring;
  }

  offer(...elements: Element[]): void {
    this.#packed.list(
      ...elements.map(({ iova = this.buffer(), bytes = 16, flags = 0, next }, i) => {
        const link = i + 1 < elements.length || next !== undefined ? virtio.VIRTQ_DESC_F_NEXT : 0;
        return { iova, bytes, flags: flags | link };
      }),
    );
  }

  offerSound(): void {
    this.offer({ bytes: 64 });
  }

  table(elements: Element[], at = this.ring.buffers + 0x2000): Element {
    const entries = elements.map(({ iova = this.buffer(), bytes = 16, flags = 0 }) => ({
      iova,
      bytes,
      flags,
    }));
    this.#packed.table(at, ...entries);
    return tableElement(this.ring, at, elements.length);
  }
}

function tableElement(ring: Ring, at: number, entries: number): Element {
  const bytes = entries * virtio.VIRTQ_DESC_SIZE;
  return { iova: ring.iova(at), bytes, flags: virtio.VIRTQ_DESC_F_INDIRECT };
}

/** Linear memory of two pages for regions apart from the driver's own, and far from each other. */
export const ELSEWHERE = [DRIVER_LINEAR + 0x40000, DRIVER_LINEAR + 0x60000] as const;
/** IOVA of the first of two adjacent regions that the cases map there. */
export const ADJACENT = 0x10000n;

/** Maps two adjacent pages that lie apart in linear memory. */
export function mapAdjacent(bench: DeviceBench, second = 3): void {
  bench.ring.map(ADJACENT, ELSEWHERE[0], layout.PAGE_SIZE);
  bench.ring.map(ADJACENT + BigInt(layout.PAGE_SIZE), ELSEWHERE[1], layout.PAGE_SIZE, second);
}
