import type { Aperture } from '../aperture/aperture.js';
import type { VduseDeviceLayout, VduseDeviceListener } from './device-layout.js';
import { DriverMemory } from './driver-memory.js';
import type { VduseFile } from './file.js';

const LAST_IOVA = (1n << 64n) - 1n;

/** The driver's address spaces, and which one each group of queues uses: all of them number 0, until the driver says. */
export class AddressSpaces {
  readonly #memories: readonly DriverMemory[];
  /** Address space by group. */
  readonly #asids: number[];

  /** Windows are cut from `aperture`, which must be this thread's. */
  constructor(file: VduseFile, aperture: Aperture, layout: VduseDeviceLayout, listener: VduseDeviceListener) {
    this.#memories = layout.iotlbs.map((_, asid) => new DriverMemory(file, aperture, asid, layout, listener));
    this.#asids = Array.from({ length: layout.groups }, () => 0);
  }

  [Symbol.iterator](): Iterator<DriverMemory> {
    return this.#memories[Symbol.iterator]();
  }

  /** Group of queue `index`. */
  groupOf(index: number): number {
    return index % this.#asids.length;
  }

  /** The memory that queue `index` sees. */
  memoryOf(index: number): DriverMemory {
    return this.#memories[this.#asids[this.groupOf(index)]!]!;
  }

  /** Gives a group another address space: false if there is no such group or address space. */
  assign(group: number, asid: number): boolean {
    if (group >= this.#asids.length || asid >= this.#memories.length) return false;
    this.#asids[group] = asid;
    return true;
  }

  /** Forgets what overlaps [first, last] of address space `asid`. Its queues must be stopped. */
  async drop(asid: number, first: bigint, last: bigint): Promise<void> {
    await this.#memories[asid]?.drop(first, last);
  }

  /** Forgets everything, as a reset does. All queues must be stopped. */
  async reset(): Promise<void> {
    this.#asids.fill(0);
    for (const memory of this.#memories) await memory.drop(0n, LAST_IOVA);
  }
}
