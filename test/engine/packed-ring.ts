import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { Ring, type RingOptions } from './fixture.js';

/** One descriptor, as a driver writes it. `id` counts in the last one of a list only. */
export interface PackedDescriptor {
  iova: bigint;
  bytes: number;
  flags?: number;
  id?: number;
}

/** Index of a descriptor, and the wrap counter there. */
interface Place {
  index: number;
  wrap: number;
}

/** A packed ring whose driver is the test: descriptors written by hand, by the letter of "Packed Virtqueues". */
export class PackedRing extends Ring {
  /** The next available descriptor, and the next used one. Set by `start`, which the base class calls. */
  declare available: Place;
  declare nextUsed: Place;

  constructor(options: RingOptions = {}) {
    super({ ...options, packed: true });
  }

  /** Forgets everything, on both sides. */
  override start(): void {
    super.start();
    this.available = { index: 0, wrap: 1 };
    this.nextUsed = { index: 0, wrap: 1 };
  }

  /** Makes a list available. `flags` are taken as they are, with AVAIL and USED added. */
  list(...descriptors: PackedDescriptor[]): void {
    for (const { iova, bytes, flags = 0, id = 0 } of descriptors) {
      const { index, wrap } = this.available;
      const owner = wrap ? virtio.VIRTQ_DESC_F_AVAIL : virtio.VIRTQ_DESC_F_USED;
      this.place(index, iova, bytes, id, flags | owner);
      this.available = this.#after(this.available, 1);
    }
  }

  /** Writes descriptor `index` of the ring, or of an indirect table at a linear address, whatever it says. */
  place(index: number, iova: bigint, bytes: number, id: number, flags: number, table = this.desc): void {
    this.descriptor(index, iova, bytes, id, flags, table);
  }

  /** An indirect table at `at`. */
  table(at: number, ...entries: PackedDescriptor[]): PackedDescriptor {
    for (const [i, { iova, bytes, flags = 0, id = 0 }] of entries.entries())
      this.place(i, iova, bytes, id, flags, at);
    return {
      iova: this.iova(at),
      bytes: entries.length * virtio.VIRTQ_DESC_SIZE,
      flags: virtio.VIRTQ_DESC_F_INDIRECT,
    };
  }

  /**
   * Takes the next used descriptor, of a chain or a batch of `descriptors` descriptors; undefined if it is not used. Throws
   * where its flags are not what a device may say.
   */
  use(descriptors: number): { id: number; bytes: number } | undefined {
    const { index, wrap } = this.nextUsed;
    const at = this.desc + index * virtio.VIRTQ_DESC_SIZE;
    const owners = virtio.VIRTQ_DESC_F_AVAIL | virtio.VIRTQ_DESC_F_USED;
    const flags = this.u16(at + virtio.PVIRTQ_DESC_FLAGS);
    if ((flags & owners) !== (wrap ? owners : 0)) return undefined;
    this.nextUsed = this.#after(this.nextUsed, descriptors);
    const bytes = this.u32(at + virtio.PVIRTQ_DESC_LEN);
    assert.is(
      flags & ~owners,
      bytes ? virtio.VIRTQ_DESC_F_WRITE : 0,
      `WRITE for ${bytes} bytes, and no more`,
    );
    return { id: this.u16(at + virtio.PVIRTQ_DESC_ID), bytes };
  }

  /** Buffer id of entry `index` of the chain table, and how many descriptors of the ring it takes. */
  buffer(index: number): { id: number; descriptors: number } {
    const at = this.chains + index * layout.CHAIN_SIZE;
    return { id: this.u16(at), descriptors: this.u16(at + 2) };
  }

  /** Gives the first chains of the chain table back, each with its used length. */
  push(...written: number[]): number {
    for (const [i, bytes] of written.entries())
      this.data.setUint32(this.chains + i * layout.CHAIN_SIZE + layout.CHAIN_COUNTS, bytes, true);
    return this.engine.devicePush(this.vq, written.length);
  }

  #after({ index, wrap }: Place, count: number): Place {
    return index + count < this.size
      ? { index: index + count, wrap }
      : { index: index + count - this.size, wrap: wrap ^ 1 };
  }
}
