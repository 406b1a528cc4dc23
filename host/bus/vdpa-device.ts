import { randomUUID } from 'node:crypto';
import { systemError } from '../errors.js';
import { Mutex } from '../mutex.js';
import { hasBit } from '../uapi/bits.js';
import {
  VDUSE_API_VERSION_1,
  VDUSE_F_QUEUE_READY,
  VDUSE_F_SUSPEND,
  VDUSE_GET_VQ_STATE,
  VDUSE_SET_STATUS,
  VDUSE_SET_VQ_GROUP_ASID,
  VDUSE_SET_VQ_READY,
  VDUSE_SUSPEND,
  VDUSE_UPDATE_IOTLB,
} from '../uapi/vduse.js';
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_RING_RESET,
} from '../uapi/virtio.js';
import { VDUSE_SET_LOG } from '../vduse/log-extension.js';
import { type Attachment, type AttachOptions, attach, type BusDriver } from './attachment.js';
import { DeviceIotlb } from './device-iotlb.js';
import { DirtyLogFile, type DirtyLogMemory } from './dirty-log-file.js';
import type { Doorbell } from './doorbell.js';
import type { EventfdContext } from './eventfd-context.js';
import type { FaultInjection } from './fault-injection.js';
import { MessageQueue } from './message-queue.js';
import type { Parent } from './parent.js';
import type { VdpaDeviceConfig } from './vdpa-device-config.js';
import { Virtqueue, type VqState } from './virtqueue.js';

/**
 * A device on the bus: the state that its two faces share, and the operations of the kernel's struct vdpa_config_ops, as
 * VDUSE implements them, under the kernel's names. In the RFC of VDUSE ("[RFC v3 08/11] vduse: Introduce VDUSE - vDPA Device
 * in Userspace", 19 January 2021) each of them was a message to the device; where the merged interface has none, the
 * device asks, or the kernel remembers. docs/lineage.md has the list.
 */
export class VdpaDevice {
  readonly name: string;
  /** No other device has the same. */
  readonly instance = randomUUID();
  readonly apiVersion: number;
  readonly vduseFeatures: bigint;
  readonly vendorId: number;
  readonly deviceId: number;
  /** What the device offers: VDUSE_GET_FEATURES of the RFC, which asked the device; it says so once, when it is created. */
  readonly features: bigint;
  readonly ngroups: number;
  readonly nas: number;
  /** Bytes of a page of the host. */
  readonly pageSize: number;
  /** The config space. The device writes it, drivers read it, with no lock between them, as in the kernel. */
  readonly config: Uint8Array;
  readonly vqs: readonly Virtqueue[];
  readonly messages: MessageQueue;
  /** One a address space. */
  readonly iotlbs: readonly DeviceIotlb[];
  driverFeatures = 0n;
  /** Changes at a reset and at nothing else, whatever happens to the config space. */
  generation = 0;
  /** Whether the device's face is open. */
  connected = false;
  #destroyed = false;
  #status = 0;
  #suspended = false;
  #configCallback: (() => void) | undefined;
  #attachment: Attachment | undefined;
  #log: DirtyLogFile | undefined;
  readonly #logChange = new Mutex();

  constructor(config: VdpaDeviceConfig, faults: FaultInjection) {
    this.name = config.name;
    this.apiVersion = config.apiVersion;
    this.vduseFeatures = config.vduseFeatures;
    this.vendorId = config.vendorId;
    this.deviceId = config.deviceId;
    this.features = config.features;
    // Version 0 knows one group and one address space, and says 0 for both.
    this.ngroups = Math.max(config.ngroups, 1);
    this.nas = Math.max(config.nas, 1);
    this.pageSize = config.pageSize;
    this.config = config.config;
    this.vqs = Array.from({ length: config.vqNum }, (_, index) => new Virtqueue(index));
    this.messages = new MessageQueue(config.name, faults);
    this.iotlbs = Array.from({ length: this.nas }, () => new DeviceIotlb());
  }

  /**
   * Puts the device on the bus, for drivers to open (vdpa_dev_add). EINVAL unless all queues are set up, EEXIST when it
   * is there already.
   */
  attach(options: AttachOptions): void {
    if (this.vqs.some((vq) => vq.numMax === 0))
      throw systemError('EINVAL', 'attach', `${this.name} has queues that were not set up`);
    if (this.#attachment) throw systemError('EEXIST', 'attach', `${this.name} is attached already`);
    const { name, iotlbs } = this;
    const update = (asid: number, start: bigint, last: bigint) => this.#updateIotlb(asid, start, last);
    this.#attachment = attach({ name, queues: this.vqs.length, iotlbs, update }, options);
    this.messages.timeout = this.#attachment.messageTimeout;
  }

  /** Takes the device off the bus. */
  detach(): void {
    this.#attachment?.doorbell?.close();
    this.#attachment = undefined;
  }

  get attached(): boolean {
    return this.#attachment !== undefined;
  }

  /** The driver that it is bound to; undefined when it is not on the bus. */
  get driver(): BusDriver | undefined {
    return this.#attachment?.driver;
  }

  /** The mapping operations. ENODEV when the device is not on the bus. */
  get parent(): Parent {
    if (!this.#attachment) throw systemError('ENODEV', 'ioctl', `${this.name} is not on the bus`);
    return this.#attachment.parent;
  }

  /** VHOST_BACKEND_F_* that a driver may be offered. */
  get backendFeatures(): bigint {
    return this.#attachment?.backendFeatures ?? 0n;
  }

  /** Its doorbells; undefined where the parent has no get_vq_notification. */
  get doorbell(): Doorbell | undefined {
    return this.#attachment?.doorbell;
  }

  // Operations of struct vdpa_config_ops on a queue.

  /** VDUSE_SET_VQ_ADDR of the RFC: no message; the device asks by VDUSE_VQ_GET_INFO. */
  setVqAddress(vq: Virtqueue, descArea: bigint, driverArea: bigint, deviceArea: bigint): void {
    vq.descAddr = descArea;
    vq.driverAddr = driverArea;
    vq.deviceAddr = deviceArea;
  }

  /** VDUSE_SET_VQ_NUM of the RFC: no message; the device asks by VDUSE_VQ_GET_INFO. */
  setVqNum(vq: Virtqueue, num: number): void {
    vq.num = num;
  }

  /** Entries: what the driver set, else the most that the queue can have. */
  getVqSize(vq: Virtqueue): number {
    return vq.num || vq.numMax;
  }

  /**
   * VDUSE_SET_VQ_READY of the RFC, whose name the message has again since it came back: only a device that opted in
   * (VDUSE_F_QUEUE_READY) is told; it must not refuse, a refusal breaks it. Others ask by VDUSE_VQ_GET_INFO.
   */
  async setVqReady(vq: Virtqueue, ready: boolean): Promise<void> {
    if (hasBit(this.vduseFeatures, VDUSE_F_QUEUE_READY)) {
      try {
        await this.messages.request({
          type: VDUSE_SET_VQ_READY,
          vq_ready: { num: vq.index, ready: Number(ready) },
        });
      } catch {
        this.messages.break();
        return;
      }
    }
    vq.ready = ready;
  }

  /** VDUSE_GET_VQ_READY of the RFC: no message, the kernel remembers. */
  getVqReady(vq: Virtqueue): boolean {
    return vq.ready;
  }

  /** Whether a queue can be reset alone: only of a device that offers it, and is told of queues that stop (VDUSE_F_QUEUE_READY). */
  get canResetVq(): boolean {
    return hasBit(this.features, VIRTIO_F_RING_RESET) && hasBit(this.vduseFeatures, VDUSE_F_QUEUE_READY);
  }

  /**
   * Resets one queue ("Virtqueue Reset"), an operation of this bus alone, which the kernel's struct vdpa_config_ops does not
   * have. To the device it is a queue that is not ready any more: it answers when it has let go of it. EIO when it does not
   * confirm, which breaks it.
   */
  async resetVq(vq: Virtqueue): Promise<void> {
    await this.setVqReady(vq, false);
    if (this.messages.broken) throw systemError('EIO', 'ioctl', `${this.name} is broken`);
    vq.resetAlone();
  }

  /** VDUSE_SET_VQ_STATE of the RFC: no message; the device asks by VDUSE_VQ_GET_INFO. */
  setVqState(vq: Virtqueue, state: Partial<VqState>): void {
    Object.assign(vq.state, state);
  }

  /** Asks the device where it is: VDUSE_GET_VQ_STATE, as in the RFC. EIO when it does not say. */
  async getVqState(vq: Virtqueue): Promise<VqState> {
    const response = await this.messages.request({ type: VDUSE_GET_VQ_STATE, vq_state: { index: vq.index } });
    return response.vq_state;
  }

  /** Binds the driver's call eventfd, or none. */
  setVqCb(vq: Virtqueue, call: EventfdContext | undefined): void {
    vq.setCall(call);
  }

  /** Binds the driver's kick eventfd, or none. It reaches the device itself, so there is no kick_vq to call. */
  setVqKick(vq: Virtqueue, kick: EventfdContext | undefined): void {
    vq.setKick(kick);
  }

  getVqGroup(vq: Virtqueue): number {
    return this.apiVersion < VDUSE_API_VERSION_1 ? 0 : vq.group;
  }

  // Operations of struct vdpa_config_ops on the device.

  getVqNumMax(): number {
    return this.vqs.reduce((max, vq) => Math.max(max, vq.numMax), 0);
  }

  /**
   * VDUSE takes whatever the driver writes; the device asks by VDUSE_DEV_GET_FEATURES and judges at FEATURES_OK, where the RFC
   * had the message VDUSE_SET_FEATURES. An ioctl of /dev/vduse/control has that name now, and means something else.
   */
  setDriverFeatures(features: bigint): void {
    this.driverFeatures = features;
  }

  get packed(): boolean {
    return hasBit(this.driverFeatures, VIRTIO_F_RING_PACKED);
  }

  /** VDUSE_GET_STATUS of the RFC: no message, the kernel remembers. */
  getStatus(): number {
    return this.#status;
  }

  /** VDUSE_SET_STATUS, as in the RFC: asks the device first; when it refuses, the status stays and the driver is told nothing (vduse_vdpa_set_status). */
  async setStatus(status: number): Promise<void> {
    try {
      await this.messages.request({ type: VDUSE_SET_STATUS, s: { status } });
    } catch {
      return;
    }
    // A device that broke down while it answered stays broken down.
    this.#status = status | (this.#status & VIRTIO_CONFIG_S_NEEDS_RESET);
  }

  /**
   * Resets the device. It happens even when the device does not confirm, which is EIO (vduse_vdpa_reset). `cleanMap`: whether
   * a parent that does so drops the mappings, too (VDPA_RESET_F_CLEAN_MAP).
   */
  async reset(cleanMap = true): Promise<void> {
    try {
      await this.messages.request({ type: VDUSE_SET_STATUS, s: { status: 0 } });
    } finally {
      this.#forget();
      if (cleanMap) this.#attachment?.parent.resetMap();
    }
  }

  /** What a reset forgets: everything that a driver set, its call eventfds and the device's kickfds included. */
  #forget(): void {
    this.#status = 0;
    this.#suspended = false;
    this.driverFeatures = 0n;
    this.generation = (this.generation + 1) >>> 0;
    this.#configCallback = undefined;
    for (const vq of this.vqs) vq.reset();
  }

  /** Whether the parent has the suspend operation: only for a device that opted in (VDUSE_F_SUSPEND). */
  get canSuspend(): boolean {
    return hasBit(this.vduseFeatures, VDUSE_F_SUSPEND);
  }

  /** From the device's consent on, no kick and no interrupt passes; only a reset revives it. EIO when it refuses. */
  async suspend(): Promise<void> {
    await this.messages.request({ type: VDUSE_SUSPEND });
    this.#suspended = true;
    for (const vq of this.vqs) vq.suspend();
  }

  get suspended(): boolean {
    return this.#suspended;
  }

  /** Where the device marks what it writes, besides its own log; undefined for nowhere. */
  get log(): DirtyLogFile | undefined {
    return this.#log;
  }

  /**
   * Has the device mark every page that it writes in `memory`, or in none: an operation of this bus alone, which the kernel's
   * struct vdpa_config_ops does not have. When it resolves, the device marks in the new log and no more in the old one. It
   * lasts through resets. EINVAL or EFAULT for memory that cannot be a log, EIO when the device refuses: all stays as it was.
   */
  setLog(memory: DirtyLogMemory | undefined): Promise<void> {
    return this.#logChange.run(async () => {
      const previous = this.#log;
      this.#log = memory && new DirtyLogFile(memory, this.iotlbs);
      try {
        await this.messages.request({ type: VDUSE_SET_LOG });
      } catch (error) {
        this.#log?.file.put();
        this.#log = previous;
        throw error;
      }
      previous?.file.put();
    });
  }

  /** VDUSE_GET_CONFIG of the RFC: no message, the config space lies in the kernel. Bytes beyond its end are zero. */
  getConfig(offset: number, bytes: number): Uint8Array {
    const into = new Uint8Array(bytes);
    into.set(this.config.subarray(offset, offset + bytes));
    return into;
  }

  /**
   * Does nothing, where the RFC had the message VDUSE_SET_CONFIG: VDUSE's config space is read-only, and writes to it vanish
   * (vduse_vdpa_set_config).
   */
  setConfig(_offset: number, _bytes: Uint8Array): void {}

  setConfigCb(callback: (() => void) | undefined): void {
    this.#configCallback = callback;
  }

  /** Tells the device that a group has another address space; whose is whose, it keeps itself. EIO when it refuses. */
  async setGroupAsid(group: number, asid: number): Promise<void> {
    if (this.apiVersion < VDUSE_API_VERSION_1)
      throw systemError('EINVAL', 'ioctl', `${this.name} has API version 0 and one address space`);
    await this.messages.request({ type: VDUSE_SET_VQ_GROUP_ASID, vq_group_asid: { group, asid } });
  }

  // What the device does to the driver.

  /** Interrupts the driver for a queue, by VDUSE_VQ_INJECT_IRQ or, as the RFC's VDUSE_VQ_SETUP_IRQFD had it, an eventfd. EINVAL before DRIVER_OK and while suspended, unless a call eventfd takes it. */
  injectIrq(vq: Virtqueue): void {
    if (!this.#suspended && vq.signalIrqfd()) return;
    this.#checkDriverOk();
  }

  /** Interrupts the driver because the config space changed. EINVAL before DRIVER_OK. */
  injectConfigIrq(): void {
    this.#checkDriverOk();
    this.#configCallback?.();
  }

  /** Sets DEVICE_NEEDS_RESET in the driver's sight, with a configuration change notification; nothing before a driver. */
  needsReset(): void {
    if (!this.#status) return;
    this.#status |= VIRTIO_CONFIG_S_NEEDS_RESET;
    this.#configCallback?.();
  }

  /**
   * Frees what the device holds. Its notification slots stay until its device side closes: threads of that may be using
   * the numbers, which would name somebody else's files if they were given back before.
   */
  destroy(): void {
    this.messages.break();
    this.detach();
    for (const iotlb of this.iotlbs) iotlb.clear();
    this.#log?.file.put();
    this.#log = undefined;
    this.#destroyed = true;
    if (!this.connected) this.#closeQueues();
  }

  /** The device side has closed. */
  disconnect(): void {
    this.connected = false;
    if (this.#destroyed) this.#closeQueues();
  }

  #closeQueues(): void {
    for (const vq of this.vqs) vq.close();
  }

  #checkDriverOk(): void {
    if (!(this.#status & VIRTIO_CONFIG_S_DRIVER_OK) || this.#suspended)
      throw systemError('EINVAL', 'ioctl', `the driver of ${this.name} is not running`);
  }

  /** VDUSE_UPDATE_IOTLB, as in the RFC: the new table is in place when the device is told. */
  async #updateIotlb(asid: number, start: bigint, last: bigint): Promise<void> {
    const range = { start, last };
    await this.messages.request(
      this.apiVersion < VDUSE_API_VERSION_1
        ? { type: VDUSE_UPDATE_IOTLB, iova: range }
        : { type: VDUSE_UPDATE_IOTLB, iova_v2: { ...range, asid } },
    );
  }
}
