import { systemError } from '../errors.js';
import type { MapFile } from './map-file.js';

/** One mapping of an address space: the kernel's struct vhost_iotlb_map. */
export interface IotlbMap {
  /** First and last IOVA, both included. */
  readonly start: bigint;
  readonly last: bigint;
  /** VHOST_ACCESS_*. */
  readonly perm: number;
  /** The file that backs it, one reference of which is the mapping's. */
  readonly file: MapFile;
  /** Bytes into the file where `start` lies. */
  readonly offset: bigint;
}

/** The mappings of one address space, by IOVA, never overlapping: the kernel's struct vhost_iotlb. */
export class IotlbTree implements Iterable<IotlbMap> {
  /** Ascending. */
  readonly #maps: IotlbMap[] = [];

  /** Adds a mapping. EEXIST where it overlaps one: nothing is replaced implicitly. */
  add(map: IotlbMap): void {
    const index = this.#firstEndingAt(map.start);
    const next = this.#maps[index];
    if (next && next.start <= map.last)
      throw systemError('EEXIST', 'write', `IOVA 0x${next.start.toString(16)} is mapped already`);
    this.#maps.splice(index, 0, map);
  }

  /** The first mapping that overlaps [start, last]. */
  first(start: bigint, last: bigint): IotlbMap | undefined {
    const map = this.#maps[this.#firstEndingAt(start)];
    return map && map.start <= last ? map : undefined;
  }

  /** Removes every mapping that overlaps [start, last], whole: the kernel splits none. */
  remove(start: bigint, last: bigint): IotlbMap[] {
    const index = this.#firstEndingAt(start);
    let end = index;
    while ((this.#maps[end]?.start ?? last + 1n) <= last) end++;
    return this.#maps.splice(index, end - index);
  }

  /** Removes everything. */
  clear(): IotlbMap[] {
    return this.#maps.splice(0);
  }

  get size(): number {
    return this.#maps.length;
  }

  [Symbol.iterator](): Iterator<IotlbMap> {
    return this.#maps.values();
  }

  /** Index of the first mapping whose last IOVA is `iova` or above. */
  #firstEndingAt(iova: bigint): number {
    let low = 0;
    let high = this.#maps.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#maps[middle]!.last < iova) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
