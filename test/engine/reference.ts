import * as layout from '../../assembly/layout.js';

/** A region of the IOTLB, as a list searched from end to end. */
export interface Region {
  iova: bigint;
  bytes: number;
  linear: number;
  access: number;
}

/** What a device sees: memory by linear address, one split queue, its regions. */
export interface Queue {
  data: DataView;
  size: number;
  desc: number;
  indirect: boolean;
  regions: Region[];
}

export type Outcome =
  | { verdict: number }
  | { miss: bigint }
  | { readable: [number, number][]; writable: [number, number][] };

interface Descriptor {
  iova: bigint;
  bytes: number;
  flags: number;
  next: number;
}

const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;

/**
 * One chain by the letter of the specification ("The Virtqueue Descriptor Table", "Indirect Descriptors", "Message
 * Framing"), with no thought of speed: the oracle that the engine is compared with.
 */
export function referenceChain(queue: Queue, head: number): Outcome {
  const chain: Descriptor[] = [];
  let table: (index: number) => Descriptor | { miss: bigint } | { verdict: number } = (index) =>
    direct(queue, index);
  let entries = queue.size;
  let inTable = false;
  if (head >= entries) return { verdict: layout.VERDICT_HEAD };
  for (let index = head; ; ) {
    const descriptor = table(index);
    if (!('flags' in descriptor)) return descriptor;
    const { iova, bytes, flags, next } = descriptor;
    if (flags & INDIRECT) {
      if (inTable) return { verdict: layout.VERDICT_INDIRECT_NESTED };
      if (!queue.indirect) return { verdict: layout.VERDICT_INDIRECT_NOT_NEGOTIATED };
      if (flags & NEXT) return { verdict: layout.VERDICT_INDIRECT_NEXT };
      if (bytes === 0 || bytes % 16) return { verdict: layout.VERDICT_INDIRECT_LENGTH };
      if (bytes / 16 > queue.size) return { verdict: layout.VERDICT_CHAIN_TOO_LONG };
      if (iova + BigInt(bytes) > 2n ** 64n) return { verdict: layout.VERDICT_ADDRESS_OVERFLOW };
      table = (i) => indirect(queue, iova + BigInt(i) * 16n);
      entries = bytes / 16;
      inTable = true;
      index = 0;
      continue;
    }
    if (chain.length === queue.size) return { verdict: layout.VERDICT_CHAIN_TOO_LONG };
    if (bytes === 0) return { verdict: layout.VERDICT_ZERO_LENGTH };
    if (iova + BigInt(bytes) > 2n ** 64n) return { verdict: layout.VERDICT_ADDRESS_OVERFLOW };
    chain.push(descriptor);
    if (chain.reduce((sum, d) => sum + d.bytes, 0) >= 2 ** 32)
      return { verdict: layout.VERDICT_TOTAL_LENGTH };
    if (!(flags & WRITE) && chain.some((d) => d.flags & WRITE)) return { verdict: layout.VERDICT_ORDER };
    if (!(flags & NEXT)) break;
    if (next >= entries) return { verdict: layout.VERDICT_NEXT };
    index = next;
  }
  const outcome = { readable: [] as [number, number][], writable: [] as [number, number][] };
  for (const { iova, bytes, flags } of chain) {
    const pieces = translate(
      queue,
      iova,
      bytes,
      flags & WRITE ? layout.IOTLB_ACCESS_WRITE : layout.IOTLB_ACCESS_READ,
    );
    if (!Array.isArray(pieces)) return pieces;
    (flags & WRITE ? outcome.writable : outcome.readable).push(...pieces);
  }
  return outcome;
}

function parse(bytes: DataView, at: number): Descriptor {
  return {
    iova: bytes.getBigUint64(at, true),
    bytes: bytes.getUint32(at + 8, true),
    flags: bytes.getUint16(at + 12, true),
    next: bytes.getUint16(at + 14, true),
  };
}

function direct(queue: Queue, index: number): Descriptor {
  return parse(queue.data, queue.desc + index * 16);
}

/** An entry of an indirect table, byte by byte, each translated for itself. */
function indirect(queue: Queue, iova: bigint): Descriptor | { miss: bigint } | { verdict: number } {
  const entry = new DataView(new ArrayBuffer(16));
  for (let i = 0; i < 16; i++) {
    const piece = translate(queue, iova + BigInt(i), 1, layout.IOTLB_ACCESS_READ);
    if (!Array.isArray(piece)) return piece;
    entry.setUint8(i, queue.data.getUint8(piece[0]![0]));
  }
  return parse(entry, 0);
}

function translate(
  queue: Queue,
  iova: bigint,
  bytes: number,
  access: number,
): [number, number][] | { miss: bigint } | { verdict: number } {
  const pieces: [number, number][] = [];
  for (let left = bytes; left > 0; ) {
    const region = queue.regions.find((r) => r.iova <= iova && iova < r.iova + BigInt(r.bytes));
    if (!region) return { miss: iova };
    if (!(region.access & access)) return { verdict: layout.VERDICT_PERMISSION };
    const offset = Number(iova - region.iova);
    const piece = Math.min(left, region.bytes - offset);
    pieces.push([region.linear + offset, piece]);
    iova += BigInt(piece);
    left -= piece;
  }
  return pieces;
}
