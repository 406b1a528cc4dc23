import * as layout from '../../assembly/layout.js';
import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../../assembly/virtio.js';
import { type Refusal, type Region, readAt } from './regions.js';
import type { Element } from './split-chain.js';

/** What a device sees of a packed virtqueue: memory by linear address, the ring, the regions. */
export interface PackedRing {
  readonly data: DataView;
  /** Descriptors of the ring. */
  readonly size: number;
  /** Linear address of the descriptor ring. */
  readonly desc: number;
  /** Whether VIRTIO_F_INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
  readonly regions: readonly Region[];
}

/** A chain of a packed ring: its elements, its buffer id, and how many descriptors of the ring it takes. */
export interface PackedChain {
  readonly elements: Element[];
  readonly id: number;
  readonly descriptors: number;
}

interface Descriptor {
  iova: bigint;
  bytes: number;
  id: number;
  flags: number;
}

function parse(data: DataView, at: number): Descriptor {
  return {
    iova: data.getBigUint64(at, true),
    bytes: data.getUint32(at + PVIRTQ_DESC_LEN, true),
    id: data.getUint16(at + PVIRTQ_DESC_ID, true),
    flags: data.getUint16(at + PVIRTQ_DESC_FLAGS, true),
  };
}

/**
 * The chain whose first descriptor is number `index`, and available, by the letter of "Packed Virtqueues": in a list the
 * descriptors follow each other in the ring, in a table all entries are the chain. The id is that of the last descriptor in
 * the ring.
 */
export function walkPackedChain(ring: PackedRing, index: number): Refusal | PackedChain {
  const elements: Element[] = [];
  for (let descriptors = 1; ; descriptors++) {
    const at = (index + descriptors - 1) % ring.size;
    const descriptor = parse(ring.data, ring.desc + at * VIRTQ_DESC_SIZE);
    if (descriptor.flags & VIRTQ_DESC_F_INDIRECT) {
      if (!ring.indirect) return { verdict: layout.VERDICT_INDIRECT_NOT_NEGOTIATED };
      if (descriptor.flags & VIRTQ_DESC_F_NEXT || descriptors > 1)
        return { verdict: layout.VERDICT_INDIRECT_NEXT };
      const refusal = walkTable(ring, descriptor, elements);
      return refusal ?? { elements, id: descriptor.id, descriptors };
    }
    if (descriptors > ring.size) return { verdict: layout.VERDICT_CHAIN_TOO_LONG };
    const refusal = addElement(elements, descriptor);
    if (refusal) return refusal;
    if (!(descriptor.flags & VIRTQ_DESC_F_NEXT)) return { elements, id: descriptor.id, descriptors };
  }
}

/** The entries of an indirect table: NEXT says nothing in one. */
function walkTable(ring: PackedRing, { iova, bytes }: Descriptor, elements: Element[]): Refusal | undefined {
  if (bytes === 0 || bytes % VIRTQ_DESC_SIZE) return { verdict: layout.VERDICT_INDIRECT_LENGTH };
  if (bytes / VIRTQ_DESC_SIZE > ring.size) return { verdict: layout.VERDICT_CHAIN_TOO_LONG };
  if (iova + BigInt(bytes) > 2n ** 64n) return { verdict: layout.VERDICT_ADDRESS_OVERFLOW };
  for (let offset = 0; offset < bytes; offset += VIRTQ_DESC_SIZE) {
    const entry = readAt(ring.data, ring.regions, iova + BigInt(offset), VIRTQ_DESC_SIZE);
    if (!(entry instanceof DataView)) return entry;
    const descriptor = parse(entry, 0);
    if (descriptor.flags & VIRTQ_DESC_F_INDIRECT) return { verdict: layout.VERDICT_INDIRECT_NESTED };
    const refusal = addElement(elements, descriptor);
    if (refusal) return refusal;
  }
  return undefined;
}

function addElement(elements: Element[], { iova, bytes, flags }: Descriptor): Refusal | undefined {
  if (bytes === 0) return { verdict: layout.VERDICT_ZERO_LENGTH };
  if (iova + BigInt(bytes) > 2n ** 64n) return { verdict: layout.VERDICT_ADDRESS_OVERFLOW };
  const total = elements.reduce((sum, element) => sum + element.bytes, bytes);
  if (total >= 2 ** 32) return { verdict: layout.VERDICT_TOTAL_LENGTH };
  const writable = (flags & VIRTQ_DESC_F_WRITE) !== 0;
  if (!writable && elements.some((element) => element.writable)) return { verdict: layout.VERDICT_ORDER };
  elements.push({ iova, bytes, writable });
  return undefined;
}
