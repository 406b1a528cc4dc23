import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { type Engine, instantiateEngine } from '../../host/aperture/engine.js';
import { Memory } from '../../host/aperture/web-assembly.js';
import { loadAddon } from '../../host/native/addon.js';
import { PACKED_VRING_BASE_RESET, SPLIT_VRING_BASE_RESET } from '../../host/uapi/vring-base.js';

/** Bytes; unit of WebAssembly.Memory limits. */
const WASM_PAGE_SIZE = 65536;
/** Linear address and bytes of the memory that plays the driver's, shared with the device. */
export const DRIVER_LINEAR = 0x100000;
/** Where private memory ends that is given out: behind it there is a page before the driver's. */
export const PRIVATE_END = DRIVER_LINEAR - layout.PAGE_SIZE;
export const DRIVER_BYTES = 0x100000;
/** IOVA of its first byte: beyond 32 bits, so that a truncated IOVA shows. */
export const DRIVER_IOVA = 0x7f00_0000_0000n;
/** Linear address of the disk of a memory-backed device, and its sectors. */
export const DISK_LINEAR = 0x300000;
export const DISK_SECTORS = 2048;
/** Linear address of a section of an in-flight log, and its bytes: room for the largest ring of these tests. */
export const LOG_LINEAR = 0x400000;
export const LOG_BYTES = 0x10000;

export interface RingOptions {
  size?: number;
  eventIdx?: boolean;
  indirect?: boolean;
  packed?: boolean;
  inOrder?: boolean;
  burst?: number;
  segments?: number;
  access?: number;
  /** Keeps an in-flight log. */
  log?: boolean;
  /** Bytes of the linear memory. */
  bytes?: number;
  /** Makes all memory inaccessible that is neither private nor the driver's, the disk or the log: a wild access traps. */
  fence?: boolean;
}

/**
 * One virtqueue with both of its sides on one memory: blocks as the host makes them, driver memory mapped at DRIVER_IOVA,
 * a memory-backed disk. The tests write descriptors by hand through `descriptor` and `offer`, or use the driver's calls.
 */
export class Ring {
  /** Makes the engine: another one, for whoever wants to know how a ring is run. */
  static instantiate: (memory: Memory) => Engine = instantiateEngine;
  readonly memory: Memory;
  readonly engine: Engine;
  readonly data: DataView;
  readonly u8: Uint8Array;
  readonly size: number;
  readonly packed: boolean;
  readonly iotlb: number;
  readonly vq: number;
  readonly dq: number;
  readonly disk: number;
  readonly io: number;
  readonly request: number;
  readonly submissions: number;
  readonly completions: number;
  readonly chains: number;
  readonly segments: number;
  /** Linear addresses of the three areas, of the slots' memory, and of free driver memory behind them. */
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly buffers: number;
  #top = 0x1000;

  constructor(options: RingOptions = {}) {
    const bytes = options.bytes ?? 0x500000;
    this.memory = new Memory({
      initial: bytes / WASM_PAGE_SIZE,
      maximum: bytes / WASM_PAGE_SIZE,
      shared: true,
    });
    this.engine = Ring.instantiate(this.memory);
    this.data = new DataView(this.memory.buffer);
    this.u8 = new Uint8Array(this.memory.buffer);
    if (options.fence) {
      const { reserve } = loadAddon();
      reserve(this.u8, 0, layout.PAGE_SIZE);
      const disk = DISK_LINEAR + DISK_SECTORS * virtio.VIRTIO_BLK_SECTOR_SIZE;
      reserve(this.u8, DRIVER_LINEAR + DRIVER_BYTES, DISK_LINEAR - DRIVER_LINEAR - DRIVER_BYTES);
      // The log lies right behind the disk.
      const end = options.log ? LOG_LINEAR + LOG_BYTES : disk;
      reserve(this.u8, end, bytes - end);
    }
    const size = options.size ?? 8;
    this.size = size;
    this.packed = options.packed ?? false;
    const burst = options.burst ?? 64;
    const capacity = options.segments ?? 1024;
    this.iotlb = this.allocate(layout.IOTLB_ENTRIES + 32 * layout.IOTLB_ENTRY_SIZE);
    this.vq = this.allocate(layout.VQ_BLOCK_SIZE);
    this.dq = this.allocate(layout.DQ_BLOCK_SIZE);
    this.disk = this.allocate(layout.DISK_BLOCK_SIZE);
    this.chains = this.allocate(burst * layout.CHAIN_SIZE);
    this.segments = this.allocate((capacity + layout.SEGMENTS_SLACK) * layout.SEGMENT_SIZE);
    const snapshot = this.allocate(Math.max(size + 1, 4) * virtio.VIRTQ_DESC_SIZE);
    const heads = this.allocate(size);
    const writable = this.allocate(burst * 4);
    this.io = this.allocate((burst + 1) * layout.IO_SIZE);
    this.request = this.allocate(layout.REQUEST_DESCRIPTORS + (size + 1) * virtio.VIRTQ_DESC_SIZE);
    this.submissions = this.allocate(256 * layout.SUBMISSION_SIZE);
    this.completions = this.allocate(256 * layout.COMPLETION_SIZE);

    const indirect = options.indirect ?? false;
    const slots = indirect ? size : Math.max(1, Math.floor(size / layout.SLOT_DESCRIPTORS));
    this.desc = DRIVER_LINEAR;
    this.avail = this.desc + size * virtio.VIRTQ_DESC_SIZE;
    this.used = align(this.avail + virtio.VIRTQ_AVAIL_RING + size * 2 + 2, 4);
    const slotMemory = align(this.used + virtio.VIRTQ_USED_RING + size * 8 + 2, 128);
    this.buffers = align(slotMemory + slots * layout.SLOT_SIZE, 4096);

    const flags =
      (options.eventIdx ? layout.VQ_F_EVENT_IDX : 0) |
      (indirect ? layout.VQ_F_INDIRECT_DESC : 0) |
      (this.packed ? layout.VQ_F_PACKED : 0) |
      (options.inOrder ? layout.VQ_F_IN_ORDER : 0);
    this.set(this.vq, {
      [layout.VQ_SIZE]: size,
      [layout.VQ_FLAGS]: flags,
      [layout.VQ_DESC]: this.desc,
      [layout.VQ_DRIVER]: this.avail,
      [layout.VQ_DEVICE]: this.used,
      [layout.VQ_IOTLB]: this.iotlb,
      [layout.VQ_CHAINS]: this.chains,
      [layout.VQ_SEGMENTS]: this.segments,
      [layout.VQ_SEGMENTS_CAPACITY]: capacity,
      [layout.VQ_BURST]: burst,
      [layout.VQ_SNAPSHOT]: snapshot,
      [layout.VQ_HEADS]: heads,
      [layout.VQ_WRITABLE]: writable,
      [layout.VQ_FEATURES]: 1 << virtio.VIRTIO_BLK_F_FLUSH,
    });
    if (options.log)
      this.set(this.vq, {
        [layout.VQ_LOG]: LOG_LINEAR,
        [layout.VQ_REPLAY]: this.allocate(size * virtio.VIRTQ_DESC_SIZE),
        [layout.VQ_REPLAY_ENTRIES]: this.allocate(size * 2),
        [layout.VQ_FREE_ENTRIES]: this.allocate(size * 2),
      });
    this.set(this.dq, {
      [layout.DQ_SIZE]: size,
      [layout.DQ_FLAGS]: flags,
      [layout.DQ_DESC]: this.desc,
      [layout.DQ_DRIVER]: this.avail,
      [layout.DQ_DEVICE]: this.used,
      [layout.DQ_SLOTS]: slots,
      [layout.DQ_SLOT_MEMORY]: slotMemory,
      [layout.DQ_SLOT_DESCRIPTORS]: indirect ? 1 : layout.SLOT_DESCRIPTORS,
      [layout.DQ_SLOT_STATE]: this.allocate(slots * layout.SLOT_STATE_SIZE),
      [layout.DQ_FREE_STACK]: this.allocate(slots * 2),
      [layout.DQ_ORDER]: this.allocate(slots * 2),
      [layout.DQ_REAPED]: this.allocate(slots * layout.FRAME_SIZE),
    });
    this.data.setBigUint64(this.dq + layout.DQ_IOVA_DELTA, DRIVER_IOVA - BigInt(DRIVER_LINEAR), true);
    this.set(this.disk, {
      [layout.DISK_LINEAR]: DISK_LINEAR,
      [layout.DISK_FLAGS]: layout.DISK_F_FLUSH | layout.DISK_F_DISCARD | layout.DISK_F_WRITE_ZEROES,
      [layout.DISK_MAX_RANGE_SECTORS]: 1024,
    });
    this.data.setBigUint64(this.disk + layout.DISK_CAPACITY, BigInt(DISK_SECTORS), true);
    this.u8.set(new TextEncoder().encode('serial-0123456789abc'), this.disk + layout.DISK_ID);
    this.engine.iotlbInit(this.iotlb, 32);
    this.map(DRIVER_IOVA, DRIVER_LINEAR, DRIVER_BYTES, options.access ?? 3);
    this.start();
  }

  /** Empties the rings and starts both sides. */
  start(): void {
    this.engine.driverStart(this.dq);
    this.engine.deviceStart(this.vq, this.packed ? PACKED_VRING_BASE_RESET : SPLIT_VRING_BASE_RESET);
  }

  map(iova: bigint, linear: number, bytes: number, access = 3): number {
    return this.engine.iotlbMap(this.iotlb, iova, BigInt(bytes), linear, access);
  }

  /** IOVA of a linear address in driver memory. */
  iova(linear: number): bigint {
    return DRIVER_IOVA + BigInt(linear - DRIVER_LINEAR);
  }

  u32(address: number): number {
    return this.data.getUint32(address, true);
  }

  u16(address: number): number {
    return this.data.getUint16(address, true);
  }

  counter(block: number, offset: number): number {
    return Number(this.data.getBigUint64(block + offset, true));
  }

  verdict(): number {
    return this.u32(this.vq + layout.VQ_VERDICT);
  }

  missed(): boolean {
    return this.u32(this.vq + layout.VQ_MISS) === 1;
  }

  /** Writes descriptor `index` of `table` (linear; the queue's own by default). */
  descriptor(index: number, iova: bigint, bytes: number, flags = 0, next = 0, table = this.desc): void {
    const at = table + index * virtio.VIRTQ_DESC_SIZE;
    this.data.setBigUint64(at, iova, true);
    this.data.setUint32(at + 8, bytes, true);
    this.data.setUint16(at + 12, flags, true);
    this.data.setUint16(at + 14, next, true);
  }

  /** Makes heads available, in one publication. */
  offer(...heads: number[]): void {
    let index = this.u16(this.avail + virtio.VIRTQ_AVAIL_IDX);
    for (const head of heads) {
      this.data.setUint16(this.avail + virtio.VIRTQ_AVAIL_RING + (index % this.size) * 2, head, true);
      index = (index + 1) & 0xffff;
    }
    this.data.setUint16(this.avail + virtio.VIRTQ_AVAIL_IDX, index, true);
  }

  pop(max = 64): number {
    return this.engine.devicePop(this.vq, max);
  }

  /** Entry `index` of the chain table, with its segments as [linear, bytes]. */
  chain(index: number): { head: number; readable: [number, number][]; writable: [number, number][] } {
    let first = 0;
    for (let i = 0; i < index; i++)
      first += this.u32(this.chains + i * layout.CHAIN_SIZE + layout.CHAIN_COUNTS) >>> 16;
    const at = this.chains + index * layout.CHAIN_SIZE;
    const counts = this.u32(at + layout.CHAIN_COUNTS);
    const segments = Array.from({ length: counts >>> 16 }, (_, i): [number, number] => {
      const segment = this.segments + (first + i) * layout.SEGMENT_SIZE;
      return [this.u32(segment), this.u32(segment + layout.SEGMENT_BYTES)];
    });
    return {
      head: this.u32(at),
      readable: segments.slice(0, counts & 0xffff),
      writable: segments.slice(counts & 0xffff),
    };
  }

  /** The used entries that the device has published, since `from`. */
  usedEntries(from = 0): { id: number; bytes: number }[] {
    const index = this.u16(this.used + virtio.VIRTQ_USED_IDX);
    return Array.from({ length: (index - from) & 0xffff }, (_, i) => {
      const at = this.used + virtio.VIRTQ_USED_RING + ((from + i) % this.size) * virtio.VIRTQ_USED_ENTRY_SIZE;
      return { id: this.u32(at), bytes: this.u32(at + 4) };
    });
  }

  /** Writes submission `index`. */
  submission(
    index: number,
    fields: { type: number; sector?: number; linear?: number; bytes?: number; tag?: number; flags?: number },
  ): void {
    const at = this.submissions + index * layout.SUBMISSION_SIZE;
    this.data.setUint32(at + layout.SUBMISSION_TYPE, fields.type, true);
    this.data.setUint32(at + layout.SUBMISSION_TAG, fields.tag ?? index, true);
    this.data.setBigUint64(at + layout.SUBMISSION_SECTOR, BigInt(fields.sector ?? 0), true);
    this.data.setUint32(at + layout.SUBMISSION_LINEAR, fields.linear ?? 0, true);
    this.data.setUint32(at + layout.SUBMISSION_BYTES, fields.bytes ?? 0, true);
    this.data.setUint32(at + layout.SUBMISSION_RANGE_FLAGS, fields.flags ?? 0, true);
  }

  /** Completions [0, count) of the completion table. */
  completed(count: number): { tag: number; status: number; bytes: number }[] {
    return Array.from({ length: count }, (_, i) => {
      const at = this.completions + i * layout.COMPLETION_SIZE;
      return {
        tag: this.u32(at + layout.COMPLETION_TAG),
        status: this.u32(at + layout.COMPLETION_STATUS),
        bytes: this.u32(at + layout.COMPLETION_BYTES),
      };
    });
  }

  /** Zeroed private memory of this fixture. */
  allocate(bytes: number): number {
    const at = this.#top;
    this.#top = align(at + bytes, layout.CACHE_LINE);
    if (this.#top > PRIVATE_END) throw new RangeError('the fixture has no private memory left');
    return at;
  }

  set(block: number, fields: Record<number, number>): void {
    for (const [offset, value] of Object.entries(fields))
      this.data.setUint32(block + Number(offset), value, true);
  }
}

function align(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
