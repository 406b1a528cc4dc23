import * as layout from '../../assembly/layout.js';
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../../assembly/virtio.js';
import { type Piece, type Refusal, type Region, readAt, translate } from './regions.js';

/** What a device sees of a split virtqueue: memory by linear address, the table, the regions. */
export interface SplitTable {
  readonly data: DataView;
  /** Entries of the queue. */
  readonly size: number;
  /** Linear address of the descriptor table. */
  readonly desc: number;
  /** Whether VIRTIO_F_INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
  readonly regions: readonly Region[];
}

/** One element of a chain, its address still the driver's. */
export interface Element {
  readonly iova: bigint;
  readonly bytes: number;
  readonly writable: boolean;
}

/** A chain as its device may use it: linear memory to read, then linear memory to write. */
export interface Segments {
  readable: Piece[];
  writable: Piece[];
}

/** The chain at `head`, translated, or why it is none. */
export function referenceChain(table: SplitTable, head: number): Refusal | Segments {
  const chain = walkChain(table, head);
  return Array.isArray(chain) ? segmentsOf(table.regions, chain) : chain;
}

/**
 * One chain by the letter of the specification ("The Virtqueue Descriptor Table", "Indirect Descriptors", "Message
 * Framing"), with no thought of speed: the oracle that the engine is compared with.
 */
export function walkChain(queue: SplitTable, head: number): Refusal | Element[] {
  const chain: Element[] = [];
  let total = 0;
  let entries = queue.size;
  let tableIova: bigint | undefined;
  if (head >= entries) return { verdict: layout.VERDICT_HEAD };
  for (let index = head; ; ) {
    let at = queue.desc + index * VIRTQ_DESC_SIZE;
    let data = queue.data;
    if (tableIova !== undefined) {
      const where = tableIova + BigInt(index * VIRTQ_DESC_SIZE);
      const entry = readAt(queue.data, queue.regions, where, VIRTQ_DESC_SIZE);
      if (!(entry instanceof DataView)) return entry;
      data = entry;
      at = 0;
    }
    const iova = data.getBigUint64(at, true);
    const bytes = data.getUint32(at + 8, true);
    const flags = data.getUint16(at + 12, true);
    const next = data.getUint16(at + 14, true);
    if (flags & VIRTQ_DESC_F_INDIRECT) {
      if (tableIova !== undefined) return { verdict: layout.VERDICT_INDIRECT_NESTED };
      if (!queue.indirect) return { verdict: layout.VERDICT_INDIRECT_NOT_NEGOTIATED };
      if (flags & VIRTQ_DESC_F_NEXT) return { verdict: layout.VERDICT_INDIRECT_NEXT };
      if (bytes === 0 || bytes % VIRTQ_DESC_SIZE) return { verdict: layout.VERDICT_INDIRECT_LENGTH };
      if (bytes / VIRTQ_DESC_SIZE > queue.size) return { verdict: layout.VERDICT_CHAIN_TOO_LONG };
      if (iova + BigInt(bytes) > 2n ** 64n) return { verdict: layout.VERDICT_ADDRESS_OVERFLOW };
      tableIova = iova;
      entries = bytes / VIRTQ_DESC_SIZE;
      index = 0;
      continue;
    }
    if (chain.length === queue.size) return { verdict: layout.VERDICT_CHAIN_TOO_LONG };
    if (bytes === 0) return { verdict: layout.VERDICT_ZERO_LENGTH };
    if (iova + BigInt(bytes) > 2n ** 64n) return { verdict: layout.VERDICT_ADDRESS_OVERFLOW };
    total += bytes;
    if (total >= 2 ** 32) return { verdict: layout.VERDICT_TOTAL_LENGTH };
    const writable = (flags & VIRTQ_DESC_F_WRITE) !== 0;
    if (!writable && chain.some((element) => element.writable)) return { verdict: layout.VERDICT_ORDER };
    chain.push({ iova, bytes, writable });
    if (!(flags & VIRTQ_DESC_F_NEXT)) return chain;
    if (next >= entries) return { verdict: layout.VERDICT_NEXT };
    index = next;
  }
}

/** The elements of a chain in linear memory. `room`: the most pieces that there is a place for; one more is `noRoom`. */
export function segmentsOf(regions: readonly Region[], chain: readonly Element[]): Refusal | Segments;
export function segmentsOf(
  regions: readonly Region[],
  chain: readonly Element[],
  room: number,
): Refusal | Segments | { noRoom: true };
export function segmentsOf(
  regions: readonly Region[],
  chain: readonly Element[],
  room = Number.POSITIVE_INFINITY,
): Refusal | Segments | { noRoom: true } {
  const segments: Segments = { readable: [], writable: [] };
  for (const { iova, bytes, writable } of chain) {
    const access = writable ? layout.IOTLB_ACCESS_WRITE : layout.IOTLB_ACCESS_READ;
    const pieces = writable ? segments.writable : segments.readable;
    const refusal = translate(regions, iova, bytes, access, pieces);
    if (segments.readable.length + segments.writable.length > room) return { noRoom: true };
    if (refusal) return refusal;
  }
  return segments;
}
