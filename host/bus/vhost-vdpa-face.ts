import { isSystemError, systemError } from '../errors.js';
import { mask } from '../uapi/bits.js';
import { u8, u32, u64 } from '../uapi/codec.js';
import { backendFeatureNames } from '../uapi/names.js';
import * as vhost from '../uapi/vhost.js';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_CONFIG_S_FEATURES_OK } from '../uapi/virtio.js';
import type { VhostVdpaFile } from '../vhost-vdpa/file.js';
import { VHOST_BACKEND_F_RESET_VRING } from '../vhost-vdpa/reset-extension.js';
import { DeviceIoctls } from './device-ioctls.js';
import { DriverFile } from './driver-file.js';
import type { FaultInjection } from './fault-injection.js';
import { copyFromUser, copyToUser, userMemory } from './user-memory.js';
import type { VdpaDevice } from './vdpa-device.js';
import { VhostDev } from './vhost-dev.js';
import { VhostIotlb } from './vhost-iotlb.js';
import { VhostVdpaVirtqueue } from './vhost-virtqueue.js';

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

/** An open /dev/vhost-vdpa-N of the bus: what vhost-vdpa and vhost do, in their order, with their errnos. */
export class VhostVdpaFace extends DriverFile implements VhostVdpaFile {
  readonly #dev: VhostDev<VhostVdpaVirtqueue>;
  readonly #ioctls: DeviceIoctls;
  readonly #iotlb: VhostIotlb;
  #backendFeatures = 0n;

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
    super(device, faults, released);
    this.#dev = new VhostDev(
      device.name,
      device.vqs.map((vq) => new VhostVdpaVirtqueue(device, vq)),
    );
    this.#ioctls = new DeviceIoctls(device);
    this.#iotlb = new VhostIotlb(device);
  }

  write(message: Uint8Array): Promise<void> {
    return this.call('write', () => this.#write(message));
  }

  protected async carryOut(request: number, argument: Uint8Array | undefined): Promise<void> {
    if (request === vhost.VHOST_VDPA_GET_STATUS) return copyToUser(u8, argument, this.status);
    this.checkGone('ioctl');
    if (this.#ioctls.ioctl(request, argument)) return;
    switch (request) {
      case vhost.VHOST_GET_FEATURES:
        return copyToUser(u64, argument, this.device.features);
      case vhost.VHOST_SET_FEATURES:
        return this.#setFeatures(argument);
      case vhost.VHOST_GET_BACKEND_FEATURES:
        return copyToUser(u64, argument, this.#offeredBackendFeatures());
      case vhost.VHOST_SET_BACKEND_FEATURES:
        return this.#setBackendFeatures(argument);
      case vhost.VHOST_VDPA_SET_STATUS:
        return this.#setStatus(argument);
      case vhost.VHOST_VDPA_SET_CONFIG:
        return this.#setConfig(argument);
      case vhost.VHOST_VDPA_GET_GROUP_NUM:
        return copyToUser(u32, argument, this.device.ngroups);
      case vhost.VHOST_VDPA_GET_AS_NUM:
        return copyToUser(u32, argument, this.device.nas);
      case vhost.VHOST_VDPA_GET_IOVA_RANGE:
        return copyToUser(vhost.vhostVdpaIovaRange, argument, { first: 0n, last: LAST_IOVA });
      case vhost.VHOST_VDPA_SUSPEND:
        return this.#suspend();
      case vhost.VHOST_VDPA_RESUME:
        return this.#resume();
      case vhost.VHOST_SET_LOG_BASE:
      case vhost.VHOST_SET_LOG_FD:
        throw systemError('ENOTTY', 'ioctl', 'vDPA has no dirty log');
    }
    // What vhost-vdpa does not know itself is vhost's, and needs an owner.
    if (this.#dev.ioctl(request, argument)) return;
    if (request !== vhost.VHOST_VDPA_SET_GROUP_ASID) return this.#dev.vringIoctl(request, argument);
    this.#dev.vq(argument);
    return this.#setGroupAsid(argument);
  }

  #setFeatures(argument: Uint8Array | undefined): void {
    if (this.device.getStatus() & VIRTIO_CONFIG_S_FEATURES_OK)
      throw systemError('EBUSY', 'ioctl', 'features are negotiated');
    const features = copyFromUser(u64, argument);
    this.device.setDriverFeatures(features);
    for (const vq of this.#dev.vqs) vq.ackedFeatures = features;
  }

  #offeredBackendFeatures(): bigint {
    const { backendFeatures, canSuspend, canResetVq } = this.device;
    let parents = 0n;
    if (canSuspend) parents |= mask(vhost.VHOST_BACKEND_F_SUSPEND);
    if (canResetVq) parents |= mask(VHOST_BACKEND_F_RESET_VRING);
    return backendFeatures & (BACKEND_FEATURES | parents);
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
    if (status !== 0 && this.device.getStatus() & ~status)
      throw systemError('EINVAL', 'ioctl', 'status bits are only ever added');
    if (status === 0) await this.device.reset();
    else await this.device.setStatus(status);
  }

  #setConfig(argument: Uint8Array | undefined): void {
    const { off, len } = this.#ioctls.configRange(argument);
    const header = vhost.vhostVdpaConfig.size;
    this.device.setConfig(off, userMemory(argument, header + len).subarray(header, header + len));
  }

  async #suspend(): Promise<void> {
    // vhost_vdpa_suspend: with no driver running there is nothing to suspend, not even for a parent that cannot.
    if (!(this.device.getStatus() & VIRTIO_CONFIG_S_DRIVER_OK)) return;
    if (!this.device.canSuspend) throw systemError('EOPNOTSUPP', 'ioctl', 'the parent cannot suspend');
    await this.device.suspend();
  }

  #resume(): void {
    if (!(this.device.getStatus() & VIRTIO_CONFIG_S_DRIVER_OK)) return;
    throw systemError('EOPNOTSUPP', 'ioctl', 'the parent cannot resume');
  }

  async #setGroupAsid(argument: Uint8Array | undefined): Promise<void> {
    const { index: group, num: asid } = copyFromUser(vhost.vhostVringState, argument);
    if (group >= this.device.ngroups || asid >= this.device.nas)
      throw systemError('EINVAL', 'ioctl', `no group ${group}, or no address space ${asid}`);
    if (this.device.getStatus() & VIRTIO_CONFIG_S_DRIVER_OK)
      throw systemError('EBUSY', 'ioctl', 'the driver is running');
    await this.device.setGroupAsid(group, asid);
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
    await this.faults.strike('write', this.name, iotlb.type);
    try {
      this.checkGone('write');
      this.#dev.checkOwner('write');
      if (BATCH_MARKERS.includes(iotlb.type) && !(this.#offeredBackendFeatures() & BATCH))
        throw systemError('EINVAL', 'write', `no IOTLB message of type ${iotlb.type}`);
      await this.#iotlb.process(asid, iotlb);
    } catch (cause) {
      if (!isSystemError(cause)) throw cause;
      // Whatever the handler says (EEXIST, EINVAL, EPERM, EIO), vhost_chr_write_iter makes EFAULT of it.
      throw Object.assign(systemError('EFAULT', 'write', cause.message), { cause });
    }
  }

  /** vhost_vdpa_release. A device that does not answer does not keep its driver from going. */
  protected async release(): Promise<void> {
    try {
      this.#iotlb.abandonBatch();
      await this.device.reset();
    } catch (error) {
      if (!isSystemError(error)) throw error;
    } finally {
      await this.#iotlb.release();
      this.#dev.release();
      this.#ioctls.release();
    }
  }
}
