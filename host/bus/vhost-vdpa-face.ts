import { PAGE_SIZE } from '../../assembly/layout.js';
import { addressSpace } from '../aperture/address-space.js';
import type { Aperture } from '../aperture/aperture.js';
import { isSystemError, systemError } from '../errors.js';
import { Mutex } from '../mutex.js';
import { s32, u8, u16, u32, u64 } from '../uapi/codec.js';
import { backendFeatureNames } from '../uapi/names.js';
import * as vhost from '../uapi/vhost.js';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK } from '../uapi/virtio.js';
import type { MmapRequest, VhostVdpaFile } from '../vhost-vdpa/file.js';
import { EventfdContext } from './eventfd-context.js';
import type { FaultInjection } from './fault-injection.js';
import { copyFromUser, copyToUser, userMemory } from './user-memory.js';
import type { VdpaDevice } from './vdpa-device.js';
import { VhostIotlb } from './vhost-iotlb.js';
import { VhostVirtqueue } from './vhost-virtqueue.js';

const mask = (...bits: number[]) => bits.reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);

/** What vhost-vdpa offers whatever the parent can do. */
const BACKEND_FEATURES = mask(
  vhost.VHOST_BACKEND_F_IOTLB_MSG_V2,
  vhost.VHOST_BACKEND_F_IOTLB_BATCH,
  vhost.VHOST_BACKEND_F_IOTLB_ASID,
);
const LAST_IOVA = 2n ** 64n - 1n;
const BATCH = mask(vhost.VHOST_BACKEND_F_IOTLB_BATCH);
/** Messages that came with VHOST_BACKEND_F_IOTLB_BATCH. */
const BATCH_MARKERS: readonly number[] = [vhost.VHOST_IOTLB_BATCH_BEGIN, vhost.VHOST_IOTLB_BATCH_END];
/** Bytes of a message before its vhost_iotlb_msg: type, and asid or padding. */
const MESSAGE_HEADER_BYTES = vhost.vhostMsgV2.fields.iotlb[1];
/** Bytes of a message that count: what follows is padding, and need not be written. */
const MESSAGE_BYTES = MESSAGE_HEADER_BYTES + vhost.vhostIotlbMsg.size;
/** Regions; the kernel's default for max_mem_regions. */
const MAX_MEM_REGIONS = 64;

/**
 * An open /dev/vhost-vdpa-N of the bus: what vhost-vdpa and vhost do, in their order, with their errnos. The kernel holds
 * one mutex across every ioctl and message, waiting for the device's answer included; so does this.
 */
export class VhostVdpaFace implements VhostVdpaFile {
  readonly name: string;
  readonly #device: VdpaDevice;
  readonly #faults: FaultInjection;
  readonly #released: () => void;
  readonly #mutex = new Mutex();
  readonly #vqs: readonly VhostVirtqueue[];
  readonly #iotlb: VhostIotlb;
  #owned = false;
  #backendFeatures = 0n;
  #configCall: EventfdContext | undefined;
  #closed = false;
  /** The device was taken off the bus: its last status. */
  #gone: number | undefined;

  /** Opens the device, which resets it. EIO when the device does not confirm. `released` is called at close. */
  static async open(
    device: VdpaDevice,
    faults: FaultInjection,
    released: () => void,
  ): Promise<VhostVdpaFace> {
    try {
      await device.reset();
    } catch (cause) {
      if (!isSystemError(cause, 'EIO')) throw cause;
      throw Object.assign(systemError('EIO', 'open', cause.message), { cause });
    }
    return new VhostVdpaFace(device, faults, released);
  }

  private constructor(device: VdpaDevice, faults: FaultInjection, released: () => void) {
    this.name = device.name;
    this.#device = device;
    this.#faults = faults;
    this.#released = released;
    this.#vqs = device.vqs.map((vq) => new VhostVirtqueue(device, vq));
    this.#iotlb = new VhostIotlb(device);
  }

  ioctl(request: number, argument?: Uint8Array): Promise<number> {
    return this.#mutex.run(async () => {
      this.#checkOpen('ioctl');
      await this.#faults.strike('ioctl', this.name, request);
      await this.#ioctl(request, argument);
      return 0;
    });
  }

  write(message: Uint8Array): Promise<void> {
    return this.#mutex.run(async () => {
      this.#checkOpen('write');
      await this.#write(message);
    });
  }

  mmap(aperture: Aperture, linear: number, request: MmapRequest): Promise<void> {
    return this.#mutex.run(async () => {
      this.#checkOpen('mmap');
      await this.#faults.strike('mmap', this.name);
      this.#checkGone('mmap');
      this.#mmap(aperture, linear, request);
    });
  }

  close(): Promise<void> {
    return this.#mutex.run(async () => {
      if (this.#closed) return;
      this.#closed = true;
      if (this.#gone === undefined) await this.#release();
    });
  }

  /**
   * The device leaves the bus. The kernel would wait for the driver to close its file; here the driver is told: its status
   * says DEVICE_NEEDS_RESET from now on, its config call eventfd is signalled, whatever else it does is ENODEV.
   */
  remove(): Promise<void> {
    return this.#mutex.run(async () => {
      if (this.#closed || this.#gone !== undefined) return;
      this.#device.needsReset();
      this.#gone = this.#device.getStatus();
      await this.#release();
    });
  }

  async #ioctl(request: number, argument: Uint8Array | undefined): Promise<void> {
    if (request === vhost.VHOST_VDPA_GET_STATUS)
      return copyToUser(u8, argument, this.#gone ?? this.#device.getStatus());
    this.#checkGone('ioctl');
    switch (request) {
      case vhost.VHOST_GET_FEATURES:
        return copyToUser(u64, argument, this.#device.features);
      case vhost.VHOST_SET_FEATURES:
        return this.#setFeatures(argument);
      case vhost.VHOST_GET_BACKEND_FEATURES:
        return copyToUser(u64, argument, this.#offeredBackendFeatures());
      case vhost.VHOST_SET_BACKEND_FEATURES:
        return this.#setBackendFeatures(argument);
      case vhost.VHOST_VDPA_GET_DEVICE_ID:
        return copyToUser(u32, argument, this.#device.deviceId);
      case vhost.VHOST_VDPA_SET_STATUS:
        return this.#setStatus(argument);
      case vhost.VHOST_VDPA_GET_CONFIG:
        return this.#getConfig(argument);
      case vhost.VHOST_VDPA_SET_CONFIG:
        return this.#setConfig(argument);
      case vhost.VHOST_VDPA_GET_CONFIG_SIZE:
        return copyToUser(u32, argument, this.#device.config.byteLength);
      case vhost.VHOST_VDPA_SET_CONFIG_CALL:
        return this.#setConfigCall(argument);
      case vhost.VHOST_VDPA_GET_VRING_NUM:
        return copyToUser(u16, argument, this.#device.getVqNumMax());
      case vhost.VHOST_VDPA_GET_VQS_COUNT:
        return copyToUser(u32, argument, this.#vqs.length);
      case vhost.VHOST_VDPA_GET_GROUP_NUM:
        return copyToUser(u32, argument, this.#device.ngroups);
      case vhost.VHOST_VDPA_GET_AS_NUM:
        return copyToUser(u32, argument, this.#device.nas);
      case vhost.VHOST_VDPA_GET_IOVA_RANGE:
        return copyToUser(vhost.vhostVdpaIovaRange, argument, { first: 0n, last: LAST_IOVA });
      case vhost.VHOST_VDPA_SUSPEND:
        return this.#suspend();
      case vhost.VHOST_VDPA_RESUME:
        return this.#resume();
      case vhost.VHOST_SET_LOG_BASE:
      case vhost.VHOST_SET_LOG_FD:
        throw systemError('ENOTTY', 'ioctl', 'vDPA has no dirty log');
      default:
        return this.#devIoctl(request, argument);
    }
  }

  /** vhost_dev_ioctl: what vhost-vdpa does not know itself needs an owner, and then goes to a queue. */
  async #devIoctl(request: number, argument: Uint8Array | undefined): Promise<void> {
    if (request === vhost.VHOST_SET_OWNER) {
      if (this.#owned) throw systemError('EBUSY', 'ioctl', `${this.name} has an owner`);
      this.#owned = true;
      return;
    }
    this.#checkOwner('ioctl');
    if (request === vhost.VHOST_SET_MEM_TABLE) return this.#setMemTable(argument);
    const index = copyFromUser(u32, argument);
    const vq = this.#vqs[index];
    if (!vq) throw systemError('ENOBUFS', 'ioctl', `no queue ${index}, the device has ${this.#vqs.length}`);
    switch (request) {
      case vhost.VHOST_SET_VRING_NUM:
        return vq.setNum(argument);
      case vhost.VHOST_SET_VRING_ADDR:
        return vq.setAddr(argument);
      case vhost.VHOST_SET_VRING_BASE:
        return vq.setBase(argument);
      case vhost.VHOST_GET_VRING_BASE:
        return vq.getBase(argument);
      case vhost.VHOST_SET_VRING_KICK:
        return vq.setKick(argument);
      case vhost.VHOST_SET_VRING_CALL:
        return vq.setCall(argument);
      case vhost.VHOST_SET_VRING_ERR:
        return vq.setError(argument);
      case vhost.VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
        return vq.setBusyloopTimeout(argument);
      case vhost.VHOST_GET_VRING_BUSYLOOP_TIMEOUT:
        return vq.getBusyloopTimeout(argument);
      case vhost.VHOST_VDPA_SET_VRING_ENABLE:
        return vq.setEnable(argument);
      case vhost.VHOST_VDPA_GET_VRING_GROUP:
        return vq.getGroup(argument);
      case vhost.VHOST_VDPA_GET_VRING_SIZE:
        return vq.getSize(argument);
      case vhost.VHOST_VDPA_GET_VRING_DESC_GROUP:
        throw systemError('EOPNOTSUPP', 'ioctl', 'the parent has no descriptor groups');
      case vhost.VHOST_VDPA_SET_GROUP_ASID:
        return this.#setGroupAsid(argument);
      default:
        throw systemError('ENOTTY', 'ioctl', `no vhost-vdpa ioctl 0x${request.toString(16)}`);
    }
  }

  #setFeatures(argument: Uint8Array | undefined): void {
    if (this.#device.getStatus() & VIRTIO_CONFIG_S_FEATURES_OK)
      throw systemError('EBUSY', 'ioctl', 'features are negotiated');
    const features = copyFromUser(u64, argument);
    this.#device.setDriverFeatures(features);
    for (const vq of this.#vqs) vq.ackedFeatures = features;
  }

  #offeredBackendFeatures(): bigint {
    const { backendFeatures, canSuspend } = this.#device;
    return backendFeatures & (BACKEND_FEATURES | (canSuspend ? mask(vhost.VHOST_BACKEND_F_SUSPEND) : 0n));
  }

  #setBackendFeatures(argument: Uint8Array | undefined): void {
    const features = copyFromUser(u64, argument);
    const has = (bit: number) => (features & mask(bit)) !== 0n;
    if (has(vhost.VHOST_BACKEND_F_DESC_ASID) && !has(vhost.VHOST_BACKEND_F_IOTLB_ASID))
      throw systemError('EINVAL', 'ioctl', 'VHOST_BACKEND_F_DESC_ASID needs VHOST_BACKEND_F_IOTLB_ASID');
    // Of RESUME, DESC_ASID and IOTLB_PERSIST, VDUSE as a parent offers none. Nor does it offer ENABLE_AFTER_DRIVER_OK, but
    // that one vhost-vdpa takes without asking the parent.
    const unknown =
      features & ~this.#offeredBackendFeatures() & ~mask(vhost.VHOST_BACKEND_F_ENABLE_AFTER_DRIVER_OK);
    if (unknown)
      throw systemError('EOPNOTSUPP', 'ioctl', `not offered: ${backendFeatureNames(unknown).join(', ')}`);
    this.#backendFeatures = features;
  }

  async #setStatus(argument: Uint8Array | undefined): Promise<void> {
    const status = copyFromUser(u8, argument);
    if (status !== 0 && this.#device.getStatus() & ~status)
      throw systemError('EINVAL', 'ioctl', 'status bits are only ever added');
    if (status === 0) await this.#device.reset();
    else await this.#device.setStatus(status);
  }

  #configArgument(argument: Uint8Array | undefined): { off: number; len: number } {
    const { off, len } = copyFromUser(vhost.vhostVdpaConfig, argument);
    const size = this.#device.config.byteLength;
    // vhost_vdpa_config_validate says E2BIG for a range past the end, and its callers make EINVAL of everything.
    if (len === 0 || off > size || len > size - off)
      throw systemError('EINVAL', 'ioctl', `the config space has ${size} bytes, not ${off} + ${len}`);
    return { off, len };
  }

  #getConfig(argument: Uint8Array | undefined): void {
    const { off, len } = this.#configArgument(argument);
    const header = vhost.vhostVdpaConfig.size;
    userMemory(argument, header + len).set(this.#device.getConfig(off, len), header);
  }

  #setConfig(argument: Uint8Array | undefined): void {
    const { off, len } = this.#configArgument(argument);
    const header = vhost.vhostVdpaConfig.size;
    this.#device.setConfig(off, userMemory(argument, header + len).subarray(header, header + len));
  }

  #setConfigCall(argument: Uint8Array | undefined): void {
    const fd = copyFromUser(s32, argument);
    const configCall = fd === vhost.VHOST_FILE_UNBIND ? undefined : EventfdContext.get(fd);
    this.#configCall?.put();
    this.#configCall = configCall;
    this.#device.setConfigCb(() => this.#configCall?.signal());
  }

  async #suspend(): Promise<void> {
    // vhost_vdpa_suspend: with no driver running there is nothing to suspend, not even for a parent that cannot.
    if (!(this.#device.getStatus() & VIRTIO_CONFIG_S_DRIVER_OK)) return;
    if (!this.#device.canSuspend) throw systemError('EOPNOTSUPP', 'ioctl', 'the parent cannot suspend');
    await this.#device.suspend();
  }

  #resume(): void {
    if (!(this.#device.getStatus() & VIRTIO_CONFIG_S_DRIVER_OK)) return;
    throw systemError('EOPNOTSUPP', 'ioctl', 'the parent cannot resume');
  }

  /** Taken as vhost takes it, with no effect on what the device can reach: that is the IOTLB's business. */
  #setMemTable(argument: Uint8Array | undefined): void {
    const { nregions, padding } = copyFromUser(vhost.vhostMemory, argument);
    if (padding) throw systemError('EOPNOTSUPP', 'ioctl', 'padding must be zero');
    if (nregions > MAX_MEM_REGIONS) throw systemError('E2BIG', 'ioctl', `at most ${MAX_MEM_REGIONS} regions`);
    userMemory(argument, vhost.vhostMemory.size + nregions * vhost.vhostMemoryRegion.size);
  }

  async #setGroupAsid(argument: Uint8Array | undefined): Promise<void> {
    const { index: group, num: asid } = copyFromUser(vhost.vhostVringState, argument);
    if (group >= this.#device.ngroups || asid >= this.#device.nas)
      throw systemError('EINVAL', 'ioctl', `no group ${group}, or no address space ${asid}`);
    if (this.#device.getStatus() & VIRTIO_CONFIG_S_DRIVER_OK)
      throw systemError('EBUSY', 'ioctl', 'the driver is running');
    await this.#device.setGroupAsid(group, asid);
  }

  /** vhost_chr_write_iter. */
  async #write(bytes: Uint8Array): Promise<void> {
    const version = bytes.byteLength < u32.size ? undefined : u32.decode(bytes);
    if (
      (version !== vhost.VHOST_IOTLB_MSG && version !== vhost.VHOST_IOTLB_MSG_V2) ||
      bytes.byteLength < MESSAGE_BYTES
    )
      throw systemError('EINVAL', 'write', 'neither a vhost_msg nor a vhost_msg_v2');
    // Both versions have it at the same place.
    const iotlb = vhost.vhostIotlbMsg.decode(bytes.subarray(MESSAGE_HEADER_BYTES));
    // Without the feature the field is reserved, and not looked at.
    const hasAsid =
      version === vhost.VHOST_IOTLB_MSG_V2 && this.#backendFeatures & mask(vhost.VHOST_BACKEND_F_IOTLB_ASID);
    const asid = hasAsid ? u32.decode(bytes.subarray(u32.size)) : 0;
    if (iotlb.type === vhost.VHOST_IOTLB_UPDATE && iotlb.size === 0n)
      throw systemError('EINVAL', 'write', 'a range of no bytes');
    await this.#faults.strike('write', this.name, iotlb.type);
    try {
      this.#checkGone('write');
      this.#checkOwner('write');
      if (BATCH_MARKERS.includes(iotlb.type) && !(this.#offeredBackendFeatures() & BATCH))
        throw systemError('EINVAL', 'write', `no IOTLB message of type ${iotlb.type}`);
      await this.#iotlb.process(asid, iotlb);
    } catch (cause) {
      if (!isSystemError(cause)) throw cause;
      // Whatever the handler says (EEXIST, EINVAL, EPERM, EIO), vhost_chr_write_iter makes EFAULT of it.
      throw Object.assign(systemError('EFAULT', 'write', cause.message), { cause });
    }
  }

  /** vhost_vdpa_mmap, in its order. */
  #mmap(aperture: Aperture, linear: number, request: MmapRequest): void {
    const refuse = (detail: string) => systemError('EINVAL', 'mmap', detail);
    const index = request.offset / PAGE_SIZE;
    if (!Number.isInteger(index)) throw refuse('the offset is no multiple of a page');
    if (request.length !== PAGE_SIZE) throw refuse('a doorbell is one page');
    if (!request.shared) throw refuse('a doorbell is mapped shared');
    if (request.protection !== 'w') throw refuse('a doorbell is mapped for writing only');
    const { doorbell } = this.#device;
    if (!doorbell) throw systemError('ENOTSUPP', 'mmap', 'the parent has no doorbell pages');
    if (index < 0 || index >= this.#vqs.length) throw refuse(`no queue ${index}`);
    const area = doorbell.getVqNotification(index);
    if (area.offset % BigInt(PAGE_SIZE)) throw refuse('the doorbell does not start a page');
    if (area.bytes !== PAGE_SIZE) throw systemError('ENOTSUPP', 'mmap', 'the doorbell shares its page');
    aperture.mapAt(linear, { fd: doorbell.fd, offset: area.offset }, PAGE_SIZE, 'w');
    // The kernel maps it VM_IO and VM_PFNMAP, which an IOTLB UPDATE over it skips.
    addressSpace.remove(aperture.address + BigInt(linear), PAGE_SIZE);
  }

  /** vhost_vdpa_release. A device that does not answer does not keep its driver from going. */
  async #release(): Promise<void> {
    try {
      this.#iotlb.abandonBatch();
      await this.#device.reset();
    } catch (error) {
      if (!isSystemError(error)) throw error;
    } finally {
      await this.#iotlb.release();
      for (const vq of this.#vqs) vq.release();
      this.#device.setConfigCb(undefined);
      this.#configCall?.put();
      this.#configCall = undefined;
      this.#released();
    }
  }

  #checkOpen(syscall: string): void {
    if (this.#closed) throw systemError('EBADF', syscall, `${this.name} was closed`);
  }

  #checkGone(syscall: string): void {
    if (this.#gone !== undefined) throw systemError('ENODEV', syscall, `${this.name} has left the bus`);
  }

  #checkOwner(syscall: string): void {
    if (!this.#owned) throw systemError('EPERM', syscall, `${this.name} has no owner: VHOST_SET_OWNER first`);
  }
}
