import {
  VHOST_ACCESS_RW,
  VHOST_BACKEND_F_IOTLB_BATCH,
  VHOST_IOTLB_BATCH_BEGIN,
  VHOST_IOTLB_BATCH_END,
  VHOST_IOTLB_INVALIDATE,
  VHOST_IOTLB_MSG_V2,
  VHOST_IOTLB_UPDATE,
  vhostMsgV2,
} from '../uapi/vhost.js';
import type { VhostVdpaFile } from './file.js';

/** Memory that the device is to see: whole pages of a shared file mapping of this process. */
export interface IotlbRegion {
  iova: bigint;
  /** Bytes. */
  bytes: bigint;
  /** Process address of the first byte. */
  address: bigint;
  /** VHOST_ACCESS_*; read and write by default. */
  perm?: number;
  /** Address space; counts once VHOST_BACKEND_F_IOTLB_ASID is acknowledged. */
  asid?: number;
}

/** Regions from which on a batch saves messages: the last region of a batch goes by itself (see `map`). */
const BATCH_WORTHWHILE = 3;

/**
 * The IOTLB of a device as its driver sees it. INVALIDATE removes whole mappings, so that only what was mapped is
 * invalidated, exactly: this class remembers it. Every failure rejects with the file's SystemError.
 */
export class IotlbMapper {
  readonly #file: VhostVdpaFile;
  readonly #batches: boolean;
  #mapped: IotlbRegion[] = [];

  /** `backendFeatures`: those acknowledged. */
  constructor(file: VhostVdpaFile, backendFeatures: bigint) {
    this.#file = file;
    this.#batches = ((backendFeatures >> BigInt(VHOST_BACKEND_F_IOTLB_BATCH)) & 1n) === 1n;
  }

  /** What the device was told of. */
  get mapped(): readonly IotlbRegion[] {
    return this.#mapped;
  }

  /**
   * Maps all regions, or none. Many of one address space go as a batch, except for the last: the kernel discards what the
   * device says to the table at BATCH_END, but reports what it says to the whole table at an UPDATE outside a batch. So
   * the last region verifies the batch, and when it is refused the regions are tried again one by one, which either
   * works or names the culprit.
   */
  async map(regions: readonly IotlbRegion[]): Promise<void> {
    const asids = new Set(regions.map((region) => region.asid ?? 0));
    if (this.#batches && regions.length >= BATCH_WORTHWHILE && asids.size === 1) {
      if (await this.#mapBatch(regions)) return;
    }
    const done: IotlbRegion[] = [];
    try {
      for (const region of regions) {
        await this.#send(VHOST_IOTLB_UPDATE, region);
        done.push(region);
      }
    } catch (error) {
      await this.#withdraw(done);
      throw error;
    }
    this.#mapped.push(...regions);
  }

  /** Unmaps everything that can be. Rejects with the first refusal. */
  async unmapAll(): Promise<void> {
    const refusals: unknown[] = [];
    for (const region of this.#mapped.splice(0))
      await this.#send(VHOST_IOTLB_INVALIDATE, region).catch((error) => refusals.push(error));
    if (refusals.length) throw refusals[0];
  }

  /**
   * Maps again what was mapped: a reset makes the device forget its mappings, unless VHOST_BACKEND_F_IOTLB_PERSIST is
   * acknowledged, while the kernel's own table keeps them and would refuse the overlap.
   */
  async renew(): Promise<void> {
    const regions = this.#mapped;
    this.#mapped = [];
    await this.#withdraw(regions);
    await this.map(regions);
  }

  async #mapBatch(regions: readonly IotlbRegion[]): Promise<boolean> {
    const { asid = 0 } = regions[0] as IotlbRegion;
    const marker = { iova: 0n, bytes: 0n, address: 0n, perm: 0, asid };
    const done: IotlbRegion[] = [];
    try {
      await this.#send(VHOST_IOTLB_BATCH_BEGIN, marker);
      try {
        for (const region of regions.slice(0, -1)) {
          await this.#send(VHOST_IOTLB_UPDATE, region);
          done.push(region);
        }
      } finally {
        await this.#send(VHOST_IOTLB_BATCH_END, marker);
      }
      await this.#send(VHOST_IOTLB_UPDATE, regions.at(-1) as IotlbRegion);
    } catch {
      await this.#withdraw(done);
      return false;
    }
    this.#mapped.push(...regions);
    return true;
  }

  /** Invalidates regions whose state is uncertain; there is nothing to be done about a refusal. */
  async #withdraw(regions: readonly IotlbRegion[]): Promise<void> {
    for (const region of regions) await this.#send(VHOST_IOTLB_INVALIDATE, region).catch(() => {});
  }

  async #send(type: number, region: IotlbRegion): Promise<void> {
    await this.#file.write(
      vhostMsgV2.encode({
        type: VHOST_IOTLB_MSG_V2,
        asid: region.asid ?? 0,
        iotlb: {
          iova: region.iova,
          size: region.bytes,
          uaddr: region.address,
          perm: region.perm ?? VHOST_ACCESS_RW,
          type,
        },
      }),
    );
  }
}
