import { readFileSync } from 'node:fs';
import { instantiateSync } from '@assemblyscript/loader';
import {
  CACHE_LINE,
  CHAIN_SIZE,
  DIRTY_BITMAP,
  DIRTY_BITS_PER_PAGE,
  IOTLB_DIRTY,
  IOTLB_ENTRIES,
  IOTLB_ENTRY_SIZE,
  IOTLB_OK,
  PAGE_SIZE,
  SEGMENT_SIZE,
  SEGMENTS_SLACK,
  VQ_BLOCK_SIZE,
  VQ_BURST,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_F_PACKED,
  VQ_FLAGS,
  VQ_HEADS,
  VQ_IOTLB,
  VQ_SEGMENTS,
  VQ_SEGMENTS_CAPACITY,
  VQ_SIZE,
  VQ_SNAPSHOT,
  VQ_WRITABLE,
} from '../../assembly/layout.js';
import {
  VIRTQ_AVAIL_ENTRY_SIZE,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_SIZE,
  VIRTQ_EVENT_SIZE,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_RING,
} from '../../assembly/virtio.js';
import { type Engine, instantiateEngine } from '../../host/aperture/engine.js';
import { Memory, Module } from '../../host/aperture/web-assembly.js';
import { PACKED_VRING_BASE_RESET, SPLIT_VRING_BASE_RESET } from '../../host/uapi/vring-base.js';
import { assemblyFile } from '../build.js';
import type { Queue, Region } from '../reference/ring.js';

/** Bytes of the memory that all sides share; WebAssembly pages are 64 KiB. */
const MEMORY_BYTES = 2 ** 26;
const WASM_PAGE_SIZE = 65536;
/** The most chains that one pop takes. */
const MAX_BURST = 64;

/** One virtqueue in shared memory, with everything that the engine keeps for its device side. */
export class Ring implements Queue {
  readonly memory: Memory;
  readonly data: DataView;
  readonly engine: Engine;
  readonly size: number;
  readonly flags: number;
  readonly segmentsCapacity: number;
  readonly table: number;
  readonly avail: number;
  readonly used: number;
  readonly vq: number;
  /** Where the driver's buffers and indirect tables may lie; `regions` map parts of it. */
  readonly buffers: number;
  readonly buffersBytes: number;
  regions: Region[] = [];
  readonly #iotlb: number;
  readonly #dirty: number;
  /** The lowest page is left alone: no linear address is 0. */
  #top = PAGE_SIZE;

  /** `size`: entries; `flags`: VQ_F_* bits; `segmentsCapacity`: segments that the tables hold. */
  constructor(size: number, flags: number, segmentsCapacity: number) {
    const pages = MEMORY_BYTES / WASM_PAGE_SIZE;
    this.memory = new Memory({ initial: pages, maximum: pages, shared: true });
    this.data = new DataView(this.memory.buffer);
    this.engine = instantiateEngine(this.memory);
    this.size = size;
    this.flags = flags;
    this.segmentsCapacity = segmentsCapacity;
    this.vq = this.allocate(VQ_BLOCK_SIZE);
    const iotlbCapacity = 64;
    this.#iotlb = this.allocate(IOTLB_ENTRIES + iotlbCapacity * IOTLB_ENTRY_SIZE);
    this.engine.iotlbInit(this.#iotlb, iotlbCapacity);
    const dirtyBits = (MEMORY_BYTES / PAGE_SIZE) * DIRTY_BITS_PER_PAGE;
    this.#dirty = this.allocate(DIRTY_BITMAP + dirtyBits / 8);
    // Each area on pages of its own, as drivers allocate them.
    this.table = this.allocate(size * VIRTQ_DESC_SIZE, PAGE_SIZE);
    this.avail = this.allocate(
      VIRTQ_AVAIL_RING + size * VIRTQ_AVAIL_ENTRY_SIZE + VIRTQ_EVENT_SIZE,
      PAGE_SIZE,
    );
    this.used = this.allocate(VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE + VIRTQ_EVENT_SIZE, PAGE_SIZE);
    const fields: [number, number][] = [
      [VQ_SIZE, size],
      [VQ_FLAGS, flags],
      [VQ_DESC, this.table],
      [VQ_DRIVER, this.avail],
      [VQ_DEVICE, this.used],
      [VQ_IOTLB, this.#iotlb],
      [VQ_CHAINS, this.allocate(MAX_BURST * CHAIN_SIZE)],
      [VQ_SEGMENTS, this.allocate((segmentsCapacity + SEGMENTS_SLACK) * SEGMENT_SIZE)],
      [VQ_SEGMENTS_CAPACITY, segmentsCapacity],
      [VQ_BURST, MAX_BURST],
      [VQ_SNAPSHOT, this.allocate((size + 1) * VIRTQ_DESC_SIZE)],
      [VQ_HEADS, this.allocate(size)],
      [VQ_WRITABLE, this.allocate(MAX_BURST * Uint32Array.BYTES_PER_ELEMENT)],
    ];
    for (const [offset, value] of fields) this.data.setUint32(this.vq + offset, value, true);
    this.buffersBytes = MEMORY_BYTES / 2;
    this.buffers = this.allocate(this.buffersBytes, PAGE_SIZE);
  }

  /** Linear address of zeroed memory. */
  allocate(bytes: number, align = CACHE_LINE): number {
    const linear = Math.ceil(this.#top / align) * align;
    this.#top = linear + bytes;
    return linear;
  }

  /** Replaces what the driver may name. Throws if the engine refuses a region. */
  map(regions: Region[]): void {
    this.engine.iotlbUnmap(this.#iotlb, 0n, 0xffff_ffff_ffff_ffffn);
    this.regions = regions;
    for (const { iova, bytes, linear, access } of regions)
      if (this.engine.iotlbMap(this.#iotlb, iova, bytes, linear, access) !== IOTLB_OK)
        throw new Error(`the engine refused the region at 0x${iova.toString(16)}`);
  }

  /** Has what the device writes marked, or not. Marks are never fetched: each is set again and again. */
  track(on: boolean): void {
    this.data.setUint32(this.#iotlb + IOTLB_DIRTY, on ? this.#dirty + DIRTY_BITMAP : 0, true);
  }

  /** Empties the ring: both indices 0, notification words 0, the engine at the start. */
  reset(): void {
    new Uint8Array(this.memory.buffer, this.avail, VIRTQ_AVAIL_RING).fill(0);
    new Uint8Array(this.memory.buffer, this.used, VIRTQ_USED_RING).fill(0);
    this.engine.deviceStart(
      this.vq,
      this.flags & VQ_F_PACKED ? PACKED_VRING_BASE_RESET : SPLIT_VRING_BASE_RESET,
    );
  }
}

/** What bench/assembly/ring.ts exports. */
export interface EngineLoop {
  /** Serves the ring in bursts until it is empty, adding to the u32 at `digest`: chains served, each with `usedLength` bytes. */
  drain(vq: number, burst: number, digest: number, usedLength: number): number;
  /** The same, copying each segment to linear address `to`. */
  drainCopying(vq: number, burst: number, digest: number, usedLength: number, to: number): number;
}

/** The loop on the memory of a ring; `module` is one made from bench/assembly/ring.ts otherwise. */
export function instantiateLoop(
  ring: Ring,
  module = new Module(readFileSync(assemblyFile('ring'))),
): EngineLoop {
  const imports = { env: { memory: ring.memory } };
  return instantiateSync(module as never, imports as never).instance.exports as unknown as EngineLoop;
}
