import {
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  VERDICT_ADDRESS_OVERFLOW,
  VERDICT_AVAIL_INDEX,
  VERDICT_CHAIN_TOO_LONG,
  VERDICT_HEAD,
  VERDICT_INDIRECT_LENGTH,
  VERDICT_INDIRECT_NESTED,
  VERDICT_INDIRECT_NEXT,
  VERDICT_INDIRECT_NOT_NEGOTIATED,
  VERDICT_NEXT,
  VERDICT_NONE,
  VERDICT_ORDER,
  VERDICT_PERMISSION,
  VERDICT_TOO_MANY_SEGMENTS,
  VERDICT_TOTAL_LENGTH,
  VERDICT_UNMAPPED,
  VERDICT_ZERO_LENGTH,
  VQ_F_EVENT_IDX,
  VQ_F_INDIRECT_DESC,
} from '../../assembly/layout.js';
import {
  VIRTQ_AVAIL_ENTRY_SIZE,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_AVAIL_FLAGS,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
} from '../../assembly/virtio.js';

/** A piece of memory that the driver may name by IOVA. */
export interface Region {
  iova: bigint;
  bytes: bigint;
  /** Offset in the shared memory. */
  linear: number;
  /** IOTLB_ACCESS_* bits that are permitted. */
  access: number;
}

/** Where a queue lies in the shared memory, and what was negotiated for it. */
export interface Queue {
  /** Entries: a power of two. */
  size: number;
  table: number;
  avail: number;
  used: number;
  /** VQ_F_* bits. */
  flags: number;
  /** Ascending by IOVA, never overlapping. */
  regions: Region[];
  /** The most segments that a chain may have. */
  segmentsCapacity: number;
}

/** Bytes that every side of a benchmark reports as written. */
const USED_LENGTH = 1;
const INDEX_MASK = 0xffff;
const U64_MASK = 0xffff_ffff_ffff_ffffn;

/**
 * The device side of a split virtqueue in plain TypeScript over a DataView, with the engine's checks and verdicts: what one
 * would write without WebAssembly. IOVAs are bigint, the language's 64-bit integers; as numbers they would be several times
 * as fast, and wrong from 2^53 on.
 */
export class TypeScriptRing {
  readonly #queue: Queue;
  readonly #view: DataView;
  readonly #indices: Uint16Array;
  readonly #mask: number;
  #current: Region;
  #lastAvail = 0;
  #shadowAvail = 0;
  #used = 0;
  #signalledUsed = 0;
  /** First VERDICT_* that was given; the queue takes no more chains after it. */
  verdict = VERDICT_NONE;
  requests = 0;
  interrupts = 0;
  #digest = 0;
  // The chain that was popped last.
  head = 0;
  readable = 0;
  segments = 0;
  readonly linear: Uint32Array;
  readonly bytes: Uint32Array;

  constructor(memory: SharedArrayBuffer, queue: Queue) {
    this.#queue = queue;
    this.#view = new DataView(memory);
    this.#indices = new Uint16Array(memory);
    this.#mask = queue.size - 1;
    this.#current = queue.regions[0]!;
    this.linear = new Uint32Array(queue.segmentsCapacity);
    this.bytes = new Uint32Array(queue.segmentsCapacity);
  }

  /** Begins at an index of the available ring; the used index is what the ring says. */
  start(lastAvail: number): void {
    this.#lastAvail = this.#shadowAvail = lastAvail;
    this.#used = this.#signalledUsed = this.#view.getUint16(this.#queue.used + VIRTQ_USED_IDX, true);
    this.verdict = VERDICT_NONE;
  }

  /** Sum over linear ^ bytes of every segment since the last call, modulo 2^32. */
  takeDigest(): number {
    const digest = this.#digest;
    this.#digest = 0;
    return digest;
  }

  /** Serves the ring in bursts until it is empty: chains served. */
  drain(burst: number): number {
    let served = 0;
    while (true) {
      let count = 0;
      for (; count < burst && this.pop(); count++) {
        for (let i = 0; i < this.segments; i++)
          this.#digest = (this.#digest + (this.linear[i]! ^ this.bytes[i]!)) >>> 0;
        this.push(this.head, USED_LENGTH);
      }
      if (!count) return served;
      this.publish(count);
      served += count;
    }
  }

  /** Takes the next chain; false when there is none, or when it was refused. */
  pop(): boolean {
    if (this.verdict) return false;
    const { size, avail } = this.#queue;
    if (this.#lastAvail === this.#shadowAvail) {
      this.#shadowAvail = Atomics.load(this.#indices, (avail + VIRTQ_AVAIL_IDX) / 2);
      if (this.#lastAvail === this.#shadowAvail) return false;
      if (((this.#shadowAvail - this.#lastAvail) & INDEX_MASK) > size)
        return this.#refuse(VERDICT_AVAIL_INDEX);
    }
    const entry = (this.#lastAvail & this.#mask) * VIRTQ_AVAIL_ENTRY_SIZE;
    this.head = this.#view.getUint16(avail + VIRTQ_AVAIL_RING + entry, true);
    if (!this.#walk()) return false;
    this.#lastAvail = (this.#lastAvail + 1) & INDEX_MASK;
    return true;
  }

  push(head: number, length: number): void {
    const element = this.#queue.used + VIRTQ_USED_RING + (this.#used & this.#mask) * VIRTQ_USED_ENTRY_SIZE;
    this.#view.setUint32(element, head, true);
    this.#view.setUint32(element + 4, length, true);
    this.#used = (this.#used + 1) & INDEX_MASK;
  }

  /** Publishes what was pushed, and decides on an interrupt. */
  publish(count: number): void {
    Atomics.store(this.#indices, (this.#queue.used + VIRTQ_USED_IDX) / 2, this.#used);
    this.requests += count;
    if (this.#interruptDue()) this.interrupts++;
    this.#signalledUsed = this.#used;
  }

  #walk(): boolean {
    let view = this.#view;
    const { size } = this.#queue;
    let table = this.#queue.table;
    let entries = size;
    let index = this.head;
    let indirect = false;
    let descriptors = 0;
    let total = 0;
    let writable = 0;
    let fault = VERDICT_NONE;
    this.segments = 0;
    this.readable = 0;
    if (index >= entries) return this.#refuse(VERDICT_HEAD);
    while (true) {
      const descriptor = table + index * VIRTQ_DESC_SIZE;
      const iova = view.getBigUint64(descriptor, true);
      const bytes = view.getUint32(descriptor + 8, true);
      const flags = view.getUint16(descriptor + 12, true);
      const next = view.getUint16(descriptor + 14, true);
      if (flags & VIRTQ_DESC_F_INDIRECT) {
        if (indirect) return this.#refuse(VERDICT_INDIRECT_NESTED);
        const found = this.#indirectTable(iova, bytes, flags);
        if (!found) return false;
        view = found.view;
        table = found.table;
        entries = bytes / VIRTQ_DESC_SIZE;
        index = 0;
        indirect = true;
        continue;
      }
      if (descriptors++ === size) return this.#refuse(VERDICT_CHAIN_TOO_LONG);
      if (bytes === 0) return this.#refuse(VERDICT_ZERO_LENGTH);
      const write = flags & VIRTQ_DESC_F_WRITE;
      const mapped = this.#append(iova, bytes, write ? IOTLB_ACCESS_WRITE : IOTLB_ACCESS_READ);
      if (mapped === VERDICT_ADDRESS_OVERFLOW) return this.#refuse(mapped);
      fault ||= mapped;
      total += bytes;
      if (total > 0xffff_ffff) return this.#refuse(VERDICT_TOTAL_LENGTH);
      if (!write) {
        if (writable) return this.#refuse(VERDICT_ORDER);
        this.readable = this.segments;
      }
      writable |= write;
      if (!(flags & VIRTQ_DESC_F_NEXT)) return fault ? this.#refuse(fault) : true;
      if (next >= entries) return this.#refuse(VERDICT_NEXT);
      index = next;
    }
  }

  /** The table that an indirect descriptor refers to; undefined after a verdict. */
  #indirectTable(iova: bigint, bytes: number, flags: number): { view: DataView; table: number } | undefined {
    const { size, flags: features } = this.#queue;
    const first = this.segments;
    let verdict = VERDICT_NONE;
    if (!(features & VQ_F_INDIRECT_DESC)) verdict = VERDICT_INDIRECT_NOT_NEGOTIATED;
    else if (flags & VIRTQ_DESC_F_NEXT) verdict = VERDICT_INDIRECT_NEXT;
    else if (bytes === 0 || bytes % VIRTQ_DESC_SIZE) verdict = VERDICT_INDIRECT_LENGTH;
    else if (bytes / VIRTQ_DESC_SIZE > size) verdict = VERDICT_CHAIN_TOO_LONG;
    else verdict = this.#append(iova, bytes, IOTLB_ACCESS_READ);
    // The pieces of the table stand behind the chain's segments only until it has been found.
    const last = this.segments;
    this.segments = first;
    if (verdict) {
      this.#refuse(verdict);
      return undefined;
    }
    if (last - first === 1) return { view: this.#view, table: this.linear[first]! };
    const copy = new Uint8Array(bytes);
    for (let i = first, at = 0; i < last; at += this.bytes[i]!, i++)
      copy.set(new Uint8Array(this.#view.buffer, this.linear[i]!, this.bytes[i]!), at);
    return { view: new DataView(copy.buffer), table: 0 };
  }

  /** Translates a range and adds it to the segments: VERDICT_NONE, or what is wrong with it. */
  #append(iova: bigint, bytes: number, access: number): number {
    const region = this.#current;
    const offset = iova - region.iova;
    if (
      offset >= 0n &&
      offset + BigInt(bytes) <= region.bytes &&
      region.access & access &&
      this.segments < this.linear.length
    ) {
      this.linear[this.segments] = region.linear + Number(offset);
      this.bytes[this.segments++] = bytes;
      return VERDICT_NONE;
    }
    return this.#appendPieces(iova, bytes, access);
  }

  /** The same for a range outside the current region, or in more than one. */
  #appendPieces(iova: bigint, bytes: number, access: number): number {
    if (iova + BigInt(bytes - 1) > U64_MASK) return VERDICT_ADDRESS_OVERFLOW;
    while (bytes) {
      const region = this.#find(iova);
      if (!region) return VERDICT_UNMAPPED;
      if (!(region.access & access)) return VERDICT_PERMISSION;
      if (this.segments === this.linear.length) return VERDICT_TOO_MANY_SEGMENTS;
      const offset = iova - region.iova;
      const left = region.bytes - offset;
      const piece = left < bytes ? Number(left) : bytes;
      this.linear[this.segments] = region.linear + Number(offset);
      this.bytes[this.segments] = piece;
      this.segments++;
      iova += BigInt(piece);
      bytes -= piece;
    }
    return VERDICT_NONE;
  }

  #find(iova: bigint): Region | undefined {
    const found = this.#queue.regions.find(
      (region) => iova >= region.iova && iova < region.iova + region.bytes,
    );
    if (found) this.#current = found;
    return found;
  }

  #interruptDue(): boolean {
    const { avail, size, flags } = this.#queue;
    if (!(flags & VQ_F_EVENT_IDX))
      return !(this.#view.getUint16(avail + VIRTQ_AVAIL_FLAGS, true) & VIRTQ_AVAIL_F_NO_INTERRUPT);
    const usedEvent = this.#view.getUint16(avail + VIRTQ_AVAIL_RING + size * VIRTQ_AVAIL_ENTRY_SIZE, true);
    const sinceEvent = (this.#used - usedEvent - 1) & INDEX_MASK;
    return sinceEvent < ((this.#used - this.#signalledUsed) & INDEX_MASK);
  }

  #refuse(verdict: number): false {
    this.verdict = verdict;
    return false;
  }
}
