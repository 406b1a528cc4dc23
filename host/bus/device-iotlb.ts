import { type IotlbMap, IotlbTree } from './iotlb-tree.js';

/** The mappings of one address space as the device sees them: what VDUSE_IOTLB_GET_FD looks up. */
export class DeviceIotlb {
  readonly #iotlb = new IotlbTree();

  /** Replaces the whole table by a copy of `table`. */
  setMap(table: Iterable<IotlbMap>): void {
    this.clear();
    for (const map of table) this.dmaMap(map);
  }

  /** Adds a copy of one mapping. EEXIST where it overlaps. */
  dmaMap(map: IotlbMap): void {
    this.#iotlb.add(map);
    map.file.get();
  }

  /** Removes every mapping that overlaps [start, last]. */
  dmaUnmap(start: bigint, last: bigint): void {
    for (const map of this.#iotlb.remove(start, last)) map.file.put();
  }

  /** The first mapping that overlaps [start, last]. */
  first(start: bigint, last: bigint): IotlbMap | undefined {
    return this.#iotlb.first(start, last);
  }

  clear(): void {
    for (const map of this.#iotlb.clear()) map.file.put();
  }
}
