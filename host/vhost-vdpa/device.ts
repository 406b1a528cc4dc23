import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '../../assembly/virtio.js';
import type { Aperture } from '../aperture/aperture.js';
import { RingbellError } from '../errors.js';
import { hasBit } from '../uapi/bits.js';
import { s32, u8, u32, u64 } from '../uapi/codec.js';
import { featureNames } from '../uapi/names.js';
import * as vhost from '../uapi/vhost.js';
import { getConfig, setConfig } from './config-space.js';
import { ConfigWatch } from './config-watch.js';
import type { VhostVdpaFile } from './file.js';
import { call, get, refused } from './ioctl.js';
import { type IotlbChange, IotlbMapper, type IotlbRegion } from './iotlb-mapper.js';
import { endOf, type MemoryRegion } from './memory-table.js';
import { type DeviceFacts, takeOwnership } from './ownership.js';
import { VHOST_BACKEND_F_RESET_VRING, VHOST_VDPA_RESET_VRING } from './reset-extension.js';
import { getVringState, maxVringNum, setVring, setVringState, type Vring } from './vring.js';

/** Milliseconds that a device has to become 0 again after status 0 was written. */
const RESET_TIMEOUT_MS = 5000;
/** Milliseconds between two looks at the status meanwhile. */
const RESET_POLL_MS = 1;

/** How a memory table is set. */
export interface MemTableOptions {
  /** Address space, 0 if left out. */
  asid?: number;
  /**
   * Whether memory that stays may be unmapped for a moment, where a mapping has to be cut, while the device runs. No if left
   * out. On a parent that takes whole tables the moment does not come, where VHOST_BACKEND_F_IOTLB_BATCH is acknowledged:
   * but the kernel does not say which parent it is.
   */
  mayCut?: boolean;
}

/**
 * The control plane of a vhost-vdpa device, in the order in which a driver calls it. One method is one step of the
 * virtio initialisation or of the kernel's interface; what a step needs before it is the caller's duty, and the file
 * answers mistakes as the kernel does. Rejects with ERR_CONTROL_PLANE (cause: the SystemError) when an ioctl is refused.
 */
export class VhostVdpa {
  readonly file: VhostVdpaFile;
  /** VHOST_BACKEND_F_* acknowledged, as a mask. */
  readonly backendFeatures: bigint;
  /** VIRTIO_ID_*. */
  readonly deviceId: number;
  /** Queues that the device has; undefined where the kernel is too old to say. */
  readonly queueCount: number | undefined;
  /** Bytes of the config space; undefined where the kernel is too old to say. */
  readonly configSize: number | undefined;
  /** IOVAs that can be mapped, `last` included. */
  readonly iovaRange: { readonly first: bigint; readonly last: bigint };
  /** @internal */
  readonly iotlb: IotlbMapper;
  #configWatch: ConfigWatch | undefined;
  #closed = false;

  /**
   * Takes an open file over: owner, backend features, what the device is. Closes the file if that fails.
   *
   * @internal
   */
  static async open(file: VhostVdpaFile): Promise<VhostVdpa> {
    try {
      return new VhostVdpa(file, await takeOwnership(file));
    } catch (error) {
      await file.close().catch(() => {});
      throw error;
    }
  }

  private constructor(file: VhostVdpaFile, facts: DeviceFacts) {
    this.file = file;
    this.backendFeatures = facts.backendFeatures;
    this.deviceId = facts.deviceId;
    this.queueCount = facts.queueCount;
    this.configSize = facts.configSize;
    this.iovaRange = facts.iovaRange;
    this.iotlb = new IotlbMapper(file, facts.backendFeatures);
  }

  get name(): string {
    return this.file.name;
  }

  /** Device status, VIRTIO_CONFIG_S_*. */
  status(): Promise<number> {
    return get(this.file, vhost.VHOST_VDPA_GET_STATUS, u8);
  }

  /**
   * Resets the device, and waits until its status reads 0. Mappings are renewed where a reset drops them. Rejects with
   * ERR_CONTROL_PLANE when the device does not come back.
   */
  async reset(): Promise<void> {
    await call(this.file, vhost.VHOST_VDPA_SET_STATUS, u8.encode(0));
    const deadline = performance.now() + RESET_TIMEOUT_MS;
    for (let status = await this.status(); status !== 0; status = await this.status()) {
      if (performance.now() > deadline)
        throw new RingbellError(
          'ERR_CONTROL_PLANE',
          `${this.name}: status is 0x${status.toString(16)}, ${RESET_TIMEOUT_MS} ms after a reset`,
        );
      await sleep(RESET_POLL_MS);
    }
    if (this.iotlb.mapped.length && !this.hasBackendFeature(vhost.VHOST_BACKEND_F_IOTLB_PERSIST))
      await this.iotlb.renew().catch((error) => {
        throw refused(this.name, 'mapping after a reset', error);
      });
  }

  /** Adds bits to the status: they cannot be taken away but by a reset. */
  async addStatus(bits: number): Promise<void> {
    const status = await this.status();
    // `close` came meanwhile: what was read is from before its reset, and would start the device again.
    if (this.#closed) return;
    await call(this.file, vhost.VHOST_VDPA_SET_STATUS, u8.encode(status | bits));
  }

  /** Tells the device that a driver has found it. */
  acknowledge(): Promise<void> {
    return this.addStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
  }

  /** Features that the device offers, as a mask. */
  offeredFeatures(): Promise<bigint> {
    return get(this.file, vhost.VHOST_GET_FEATURES, u64);
  }

  /**
   * Agrees on features up to FEATURES_OK: all of `required`, of `wanted` what the device offers. Resolves to the mask.
   * Rejects with ERR_FEATURES when a required one is missing or the device does not keep FEATURES_OK.
   */
  async negotiate(required: bigint, wanted: bigint): Promise<bigint> {
    const offered = await this.offeredFeatures();
    const missing = required & ~offered;
    if (missing)
      throw new RingbellError(
        'ERR_FEATURES',
        `${this.name} lacks ${featureNames(this.deviceId, missing).join(', ')}`,
      );
    const features = offered & (required | wanted);
    await call(this.file, vhost.VHOST_SET_FEATURES, u64.encode(features));
    await this.addStatus(VIRTIO_CONFIG_S_FEATURES_OK);
    if (!((await this.status()) & VIRTIO_CONFIG_S_FEATURES_OK))
      throw new RingbellError(
        'ERR_FEATURES',
        `${this.name} refused ${featureNames(this.deviceId, features).join(', ')}`,
      );
    return features;
  }

  /**
   * The first `bytes` of the config space, read until two reads agree: a field is never torn. Rejects with ERR_CONTROL_PLANE
   * when the space never settles.
   */
  config(bytes: number): Promise<Uint8Array> {
    return getConfig(this.file, bytes);
  }

  /** Writes to the config space. A VDUSE device never sees it. */
  setConfig(off: number, bytes: Uint8Array): Promise<void> {
    return setConfig(this.file, off, bytes);
  }

  /** The most entries that queue `index` may have. */
  maxQueueSize(index: number): Promise<number> {
    return maxVringNum(this.file, index);
  }

  /** Group of a queue, 0 where there are no groups. */
  async vringGroup(index: number): Promise<number> {
    if (!this.hasBackendFeature(vhost.VHOST_BACKEND_F_IOTLB_ASID)) return 0;
    return getVringState(this.file, vhost.VHOST_VDPA_GET_VRING_GROUP, index);
  }

  /** Groups and address spaces that the device has: 1 and 1 where it knows of neither. */
  async groups(): Promise<{ groups: number; addressSpaces: number }> {
    if (!this.hasBackendFeature(vhost.VHOST_BACKEND_F_IOTLB_ASID)) return { groups: 1, addressSpaces: 1 };
    return {
      groups: await get(this.file, vhost.VHOST_VDPA_GET_GROUP_NUM, u32),
      addressSpaces: await get(this.file, vhost.VHOST_VDPA_GET_AS_NUM, u32),
    };
  }

  /** Puts a group into an address space; before DRIVER_OK. */
  async setGroupAsid(group: number, asid: number): Promise<void> {
    this.#need(vhost.VHOST_BACKEND_F_IOTLB_ASID, 'address spaces');
    await setVringState(this.file, vhost.VHOST_VDPA_SET_GROUP_ASID, group, asid);
  }

  /**
   * Shows the device memory of this process. The kernel answers EFAULT for whatever reason it refuses. Where it pins memory,
   * the usual ones are two limits: RLIMIT_MEMLOCK, and vhost_vdpa's max_iotlb_entries (2,048 by default), of which every
   * piece that is contiguous in physical memory takes one, at worst every page.
   */
  async map(regions: readonly IotlbRegion[]): Promise<void> {
    await this.iotlb.map(regions).catch((error) => {
      const bytes = regions.reduce((sum, region) => sum + region.bytes, 0n);
      throw refused(
        this.name,
        `VHOST_IOTLB_UPDATE of ${bytes} bytes (are RLIMIT_MEMLOCK and max_iotlb_entries of vhost_vdpa large enough?)`,
        error,
      );
    });
  }

  /** Takes memory from the device: every mapping in a range. ERR_ARGUMENT if one reaches out of it. */
  async unmap(range: { iova: bigint; bytes: bigint; asid?: number }): Promise<void> {
    await this.iotlb.unmap(range).catch((error) => {
      throw refused(this.name, `VHOST_IOTLB_INVALIDATE of ${range.bytes} bytes`, error);
    });
  }

  /**
   * Makes `regions` all the memory that an address space of the device has, whatever it had: VHOST_SET_MEM_TABLE as vhost-vdpa
   * would have it. The two tables are compared, and the fewest messages make the one of the other; memory that stays is
   * never unmapped. Rejects with ERR_ARGUMENT for a table that cannot be, ERR_MEMORY_IN_USE where a mapping would have to be
   * cut while the device runs (see `mayCut`), ERR_CONTROL_PLANE when the table is refused, which leaves the one before, and
   * ERR_MEMORY_TABLE when that is refused, too, which leaves nothing.
   */
  async setMemTable(
    regions: readonly MemoryRegion[],
    { asid = 0, mayCut = false }: MemTableOptions = {},
  ): Promise<IotlbChange> {
    const { first, last } = this.iovaRange;
    const outside = regions.find((region) => region.iova < first || endOf(region) - 1n > last);
    if (outside)
      throw new RingbellError(
        'ERR_ARGUMENT',
        `the region at IOVA 0x${outside.iova.toString(16)} lies outside of 0x${first.toString(16)} to 0x${last.toString(16)}`,
      );
    const isStopped = async () => !((await this.status()) & VIRTIO_CONFIG_S_DRIVER_OK);
    try {
      return await this.iotlb.setMemTable(regions, asid, async () => mayCut || (await isStopped()));
    } catch (error) {
      throw refused(this.name, `a memory table of ${regions.length} regions`, error);
    }
  }

  /** Sets a queue up: size, position, addresses, eventfds. Before DRIVER_OK. */
  setVring(vring: Vring): Promise<void> {
    return setVring(this.file, vring);
  }

  /**
   * Maps the doorbell page of a queue over `file.pageSize` reserved bytes of the aperture. Rejects with the file's SystemError, which is
   * common and no reason to give up: few devices have such a page (ENOTSUPP), and the kick eventfd does the same.
   *
   * @internal
   */
  async mapDoorbell(aperture: Aperture, linear: number, index: number): Promise<void> {
    // Older kernels hand any index to the device.
    if (this.queueCount !== undefined && index >= this.queueCount)
      throw new RingbellError(
        'ERR_ARGUMENT',
        `${this.name} has ${this.queueCount} queues, no queue ${index}`,
      );
    const { pageSize } = this.file;
    await this.file.mmap(aperture, linear, {
      length: pageSize,
      protection: 'w',
      shared: true,
      offset: index * pageSize,
    });
  }

  /** Enables or disables a queue: before DRIVER_OK, or at any time with VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK. */
  enableVring(index: number, enable = true): Promise<void> {
    return setVringState(this.file, vhost.VHOST_VDPA_SET_VRING_ENABLE, index, enable ? 1 : 0);
  }

  /**
   * Resets one queue of a device that runs, which lets go of it: `setVring` and `enableVring` then start it again. Needs
   * VIRTIO_F_RING_RESET, and a device of the in-process bus: no kernel passes it on. Rejects with ERR_NOT_SUPPORTED there.
   */
  async resetVring(index: number): Promise<void> {
    this.#need(VHOST_BACKEND_F_RESET_VRING, 'the reset of one queue');
    const argument = vhost.vhostVringState.encode({ index });
    await this.file.ioctl(VHOST_VDPA_RESET_VRING, argument).catch((error) => {
      throw refused(this.name, 'VHOST_VDPA_RESET_VRING', error);
    });
  }

  /**
   * Calls back on each config interrupt until the next reset, and nobody who was to be called before. The watch keeps the
   * process alive only after `ref`.
   */
  async watchConfig(callback: () => void): Promise<void> {
    const watch = new ConfigWatch(callback);
    try {
      await call(this.file, vhost.VHOST_VDPA_SET_CONFIG_CALL, s32.encode(watch.fd));
    } catch (error) {
      watch.close();
      throw error;
    }
    // `close` came while the file answered.
    if (this.#closed) return watch.close();
    this.#configWatch?.close();
    this.#configWatch = watch;
  }

  /** Starts the device. Rejects with ERR_CONTROL_PLANE when it does not take DRIVER_OK. */
  async driverOk(): Promise<void> {
    await this.addStatus(VIRTIO_CONFIG_S_DRIVER_OK);
    if (!((await this.status()) & VIRTIO_CONFIG_S_DRIVER_OK))
      throw new RingbellError('ERR_CONTROL_PLANE', `${this.name} refused DRIVER_OK`);
  }

  /** Stops the queues and keeps their state. The kernel does nothing, and says nothing, before DRIVER_OK: refused here. */
  async suspend(): Promise<void> {
    this.#need(vhost.VHOST_BACKEND_F_SUSPEND, 'being suspended');
    await this.#started('suspended');
    await call(this.file, vhost.VHOST_VDPA_SUSPEND);
  }

  /** Ends a suspension. */
  async resume(): Promise<void> {
    this.#need(vhost.VHOST_BACKEND_F_RESUME, 'being resumed');
    await this.#started('resumed');
    await call(this.file, vhost.VHOST_VDPA_RESUME);
  }

  /** Available index that the device will read next. */
  vringBase(index: number): Promise<number> {
    return getVringState(this.file, vhost.VHOST_GET_VRING_BASE, index);
  }

  /** Tells the device that its driver has given up on it. */
  fail(): Promise<void> {
    return this.addStatus(VIRTIO_CONFIG_S_FAILED);
  }

  hasBackendFeature(bit: number): boolean {
    return hasBit(this.backendFeatures, bit);
  }

  /** Keeps the process alive while the device is open. */
  ref(): void {
    this.#configWatch?.ref();
  }

  /** Takes `ref` back. */
  unref(): void {
    this.#configWatch?.unref();
  }

  /**
   * Resets the device, takes its mappings back and closes the file. Closing alone would reset it too, but leave a set_map
   * device with the last table, and so with our memory, until its next driver comes (vhost_vdpa_remove_as).
   */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#configWatch?.close();
    this.#configWatch = undefined;
    // A device that is gone refuses both, which is as good.
    await call(this.file, vhost.VHOST_VDPA_SET_STATUS, u8.encode(0)).catch(() => {});
    await this.iotlb.unmapAll().catch(() => {});
    await this.file.close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #need(bit: number, what: string): void {
    if (!this.hasBackendFeature(bit))
      throw new RingbellError('ERR_NOT_SUPPORTED', `${this.name} does not know of ${what}`);
  }

  async #started(what: string): Promise<void> {
    if (!((await this.status()) & VIRTIO_CONFIG_S_DRIVER_OK))
      throw new RingbellError('ERR_CONTROL_PLANE', `${this.name} cannot be ${what} before DRIVER_OK`);
  }

  [inspect.custom](): string {
    return `VhostVdpa { ${this.name}, device id ${this.deviceId}, ${this.queueCount ?? '?'} queues }`;
  }
}
