import type { DeviceIotlb } from './device-iotlb.js';
import type { IotlbMap, IotlbTree } from './iotlb-tree.js';

/** How a parent takes mappings: the whole table at once (VDUSE, mlx5, the simulators), or one at a time. */
export type ParentKind = 'set_map' | 'dma_map';

/** Tells the device that mappings in [start, last] of an address space changed, and waits for its answer. */
export type UpdateIotlb = (asid: number, start: bigint, last: bigint) => Promise<void>;

const LAST_IOVA = 2n ** 64n - 1n;

/** A parent with an on-chip IOMMU that is programmed with whole tables: `set_map` of struct vdpa_config_ops. */
export class SetMapParent {
  readonly kind = 'set_map';
  readonly #iotlbs: readonly DeviceIotlb[];
  readonly #update: UpdateIotlb;

  constructor(iotlbs: readonly DeviceIotlb[], update: UpdateIotlb) {
    this.#iotlbs = iotlbs;
    this.#update = update;
  }

  /** Puts `table` in place of the address space's. EIO when the device does not confirm; the table is then empty. */
  async setMap(asid: number, table: IotlbTree): Promise<void> {
    const iotlb = this.#iotlbs[asid]!;
    // The new table is live before the message arrives (vduse_vdpa_set_map): a lookup made while answering sees it.
    iotlb.setMap(table);
    try {
      await this.#update(asid, 0n, LAST_IOVA);
    } catch (error) {
      iotlb.clear();
      throw error;
    }
  }

  /** VDUSE has no reset_map and ignores VDPA_RESET_F_CLEAN_MAP: a reset leaves the table, even a closed driver's. */
  resetMap(): void {}
}

/** A parent behind which mappings change one by one: `dma_map` and `dma_unmap` of struct vdpa_config_ops. */
export class DmaMapParent {
  readonly kind = 'dma_map';
  readonly #iotlbs: readonly DeviceIotlb[];
  readonly #update: UpdateIotlb;

  constructor(iotlbs: readonly DeviceIotlb[], update: UpdateIotlb) {
    this.#iotlbs = iotlbs;
    this.#update = update;
  }

  /** Adds one mapping. EIO when the device does not confirm; the mapping is then gone. */
  async dmaMap(asid: number, map: IotlbMap): Promise<void> {
    const iotlb = this.#iotlbs[asid]!;
    iotlb.dmaMap(map);
    try {
      await this.#update(asid, map.start, map.last);
    } catch (error) {
      iotlb.dmaUnmap(map.start, map.last);
      throw error;
    }
  }

  /** Removes one mapping. EIO when the device does not confirm; the mapping is gone all the same. */
  async dmaUnmap(asid: number, map: IotlbMap): Promise<void> {
    this.#iotlbs[asid]!.dmaUnmap(map.start, map.last);
    await this.#update(asid, map.start, map.last);
  }

  /** Such a parent drops its mappings at a reset without VHOST_BACKEND_F_IOTLB_PERSIST (VDPA_RESET_F_CLEAN_MAP). */
  resetMap(): void {
    for (const iotlb of this.#iotlbs) iotlb.clear();
  }
}

export type Parent = SetMapParent | DmaMapParent;
