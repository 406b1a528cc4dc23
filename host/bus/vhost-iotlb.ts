import { addressSpace } from '../aperture/address-space.js';
import { systemError } from '../errors.js';
import type { Decoded } from '../uapi/struct.js';
import {
  VHOST_IOTLB_BATCH_BEGIN,
  VHOST_IOTLB_BATCH_END,
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_UPDATE,
  type vhostIotlbMsg,
} from '../uapi/vhost.js';
import { type IotlbMap, IotlbTree } from './iotlb-tree.js';
import { MapFile } from './map-file.js';
import { unreported } from './unreported.js';
import type { VdpaDevice } from './vdpa-device.js';

/** struct vhost_iotlb_msg. */
type IotlbMessage = Decoded<typeof vhostIotlbMsg>;

const LAST_IOVA = 2n ** 64n - 1n;
/** No process address lies at or above this, on any machine that Node runs on. */
const ADDRESS_LIMIT = 2n ** 48n;

/** The mappings that one driver has made, by address space, and the protocol that changes them. */
export class VhostIotlb {
  readonly #device: VdpaDevice;
  readonly #spaces = new Map<number, IotlbTree>();
  /** Address space of the batch that is open. */
  #batch: number | undefined;

  constructor(device: VdpaDevice) {
    this.#device = device;
  }

  /** Carries out a message (vhost_vdpa_process_iotlb_msg). EINVAL, EEXIST, or the device's EIO. */
  async process(asid: number, message: IotlbMessage): Promise<void> {
    const { type } = message;
    const creates = type === VHOST_IOTLB_UPDATE || type === VHOST_IOTLB_BATCH_BEGIN;
    const table = this.#spaces.get(asid) ?? (creates ? this.#createSpace(asid) : undefined);
    if (!table) throw systemError('EINVAL', 'write', `no address space ${asid}`);
    if (this.#batch !== undefined && this.#batch !== asid)
      throw systemError('EINVAL', 'write', `a batch of address space ${this.#batch} is open`);
    switch (type) {
      case VHOST_IOTLB_UPDATE:
        return this.#update(asid, table, message);
      case VHOST_IOTLB_INVALIDATE:
        // In the kernel's 64 bits.
        return this.#invalidate(
          asid,
          table,
          message.iova,
          BigInt.asUintN(64, message.iova + message.size - 1n),
        );
      case VHOST_IOTLB_BATCH_BEGIN:
        this.#batch = asid;
        return;
      case VHOST_IOTLB_BATCH_END:
        if (this.#batch !== undefined) await this.#setMapUnreported(asid, table);
        this.#batch = undefined;
        return;
      default:
        throw systemError('EINVAL', 'write', `no IOTLB message of type ${type}`);
    }
  }

  /** Ends an open batch without committing it, as a reset at open or close does. */
  abandonBatch(): void {
    this.#batch = undefined;
  }

  /**
   * Forgets everything, as closing does. A parent with dma_map is told mapping by mapping; one with set_map is told
   * nothing and keeps a closed driver's table until the next one (vhost_vdpa_remove_as).
   */
  async release(): Promise<void> {
    for (const [asid, table] of this.#spaces) await this.#remove(asid, table, 0n, LAST_IOVA);
    this.#spaces.clear();
  }

  #createSpace(asid: number): IotlbTree {
    if (asid >= this.#device.nas) throw systemError('EINVAL', 'write', `no address space ${asid}`);
    const table = new IotlbTree();
    this.#spaces.set(asid, table);
    return table;
  }

  async #update(asid: number, table: IotlbTree, message: IotlbMessage): Promise<void> {
    const { iova, size, uaddr, perm } = message;
    const last = iova + size - 1n;
    if (!size || last > LAST_IOVA) throw systemError('EINVAL', 'write', 'the range passes 2^64');
    if (table.first(iova, last)) throw systemError('EEXIST', 'write', 'the range overlaps a mapping');
    if (uaddr + size > ADDRESS_LIMIT)
      throw systemError('EINVAL', 'write', `nothing is mapped at 0x${uaddr.toString(16)}`);
    // Shared file mappings only. Anonymous memory is skipped without a word, so that the device finds nothing at its
    // IOVA (vhost_vdpa_va_map).
    const maps = addressSpace.resolve(uaddr, size).map(({ address, bytes, fd, offset }) => {
      const start = iova + (address - uaddr);
      return { start, last: start + bytes - 1n, fd, offset };
    });
    // All of them before the device is asked: meanwhile the driver may close its descriptors, or open others.
    const files = openAll(maps.map(({ fd }) => fd));
    for (const [index, { start, last, offset }] of maps.entries()) {
      try {
        await this.#map(asid, table, { start, last, perm, file: files[index]!, offset });
      } catch (error) {
        for (const file of files.slice(index)) file.put();
        // In the kernel's 64 bits: where nothing of an update at IOVA 0 was mapped, the range to undo wraps and covers
        // every mapping (vhost_vdpa_va_map, vhost_vdpa_unmap).
        await this.#remove(asid, table, iova, BigInt.asUintN(64, start - 1n));
        // A parent with set_map has dropped the whole table with the one that it refused.
        if (this.#batch === undefined) await this.#setMapUnreported(asid, table);
        throw error;
      }
    }
  }

  /** Adds one mapping to the table and to the parent (vhost_vdpa_map). */
  async #map(asid: number, table: IotlbTree, map: IotlbMap): Promise<void> {
    table.add(map);
    try {
      const { parent } = this.#device;
      if (parent.kind === 'dma_map') await parent.dmaMap(asid, map);
      else if (this.#batch === undefined) await parent.setMap(asid, table);
    } catch (error) {
      table.remove(map.start, map.last);
      throw error;
    }
  }

  async #invalidate(asid: number, table: IotlbTree, start: bigint, last: bigint): Promise<void> {
    await this.#remove(asid, table, start, last);
    if (this.#batch === undefined) await this.#setMapUnreported(asid, table);
  }

  async #remove(asid: number, table: IotlbTree, start: bigint, last: bigint): Promise<void> {
    for (const map of table.remove(start, last)) {
      map.file.put();
      const { parent } = this.#device;
      if (parent.kind === 'dma_map') await unreported(parent.dmaUnmap(asid, map));
    }
  }

  /**
   * What the kernel does at the end of a batch and after an unmap. As with dma_unmap, it does not report a failure: so a batch
   * that failed looks like success.
   */
  async #setMapUnreported(asid: number, table: IotlbTree): Promise<void> {
    const { parent } = this.#device;
    if (parent.kind === 'set_map') await unreported(parent.setMap(asid, table));
  }
}

/** A reference to the file behind each descriptor, or to none: EMFILE. */
function openAll(fds: readonly number[]): MapFile[] {
  const files: MapFile[] = [];
  try {
    for (const fd of fds) files.push(MapFile.open(fd));
    return files;
  } catch (error) {
    for (const file of files) file.put();
    throw error;
  }
}
