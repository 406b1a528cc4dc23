import { RangeAllocator } from '../aperture/range-allocator.js';
import { SharedMemory } from '../aperture/shared-memory.js';
import type { IotlbRegion } from '../vhost-vdpa/iotlb-mapper.js';

/** IOVA of the first byte: more than 32 bits, so that nothing works by accident. */
const IOVA = 0x7f12_0000_0000n;
/** Bytes; what is taken is a multiple of it, and so aligned as every area of a ring has to be. */
const UNIT = 64;

/** The memory of a mock driver, which its device sees in one piece: offsets in it stand for IOVAs. */
export class MockMemory {
  /** All of it, as numbers of both kinds. */
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** For accesses that the device must see in order. */
  readonly words: Uint16Array;
  readonly #shared: SharedMemory;
  readonly #ranges: RangeAllocator;

  constructor(bytes: number) {
    this.#shared = SharedMemory.create(bytes);
    this.bytes = this.#shared.bytes;
    const { buffer, byteOffset, byteLength } = this.bytes;
    this.view = new DataView(buffer, byteOffset, byteLength);
    this.words = new Uint16Array(buffer, byteOffset, byteLength / Uint16Array.BYTES_PER_ELEMENT);
    this.#ranges = new RangeAllocator(0, byteLength, UNIT);
  }

  /** What the device has to be told of. */
  get region(): IotlbRegion {
    return { iova: IOVA, bytes: BigInt(this.bytes.byteLength), address: this.#shared.address };
  }

  /** IOVA of an offset. */
  iova(offset: number): bigint {
    return IOVA + BigInt(offset);
  }

  /** Offset of `bytes` zeroed bytes. Throws ERR_APERTURE_FULL. */
  take(bytes: number): number {
    const offset = this.#ranges.allocate(whole(bytes));
    this.bytes.fill(0, offset, offset + bytes);
    return offset;
  }

  /** Takes back what `take` gave. */
  give(offset: number, bytes: number): void {
    this.#ranges.free(offset, whole(bytes));
  }

  close(): void {
    this.#shared.close();
  }
}

function whole(bytes: number): number {
  return Math.max(Math.ceil(bytes / UNIT), 1) * UNIT;
}
