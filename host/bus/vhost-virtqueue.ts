import { VIRTQ_AVAIL_ALIGN, VIRTQ_USED_ALIGN } from '../../assembly/virtio.js';
import { systemError } from '../errors.js';
import { hasBit } from '../uapi/bits.js';
import * as vhost from '../uapi/vhost.js';
import { VIRTIO_CONFIG_S_DRIVER_OK, VIRTIO_F_RING_PACKED, VIRTIO_F_RING_RESET } from '../uapi/virtio.js';
import {
  decodePackedVringBase,
  decodeSplitVringBase,
  encodePackedVringBase,
  encodeSplitVringBase,
} from '../uapi/vring-base.js';
import { VHOST_VDPA_RESET_VRING } from '../vhost-vdpa/reset-extension.js';
import { type EventfdContext, eventfdOf } from './eventfd-context.js';
import { copyFromUser, copyToUser } from './user-memory.js';
import type { VdpaDevice } from './vdpa-device.js';
import type { Virtqueue } from './virtqueue.js';

const VRING_BASE_MAX = 0xffff;

/** What a queue's ioctls ask of the device behind it: operations of struct vdpa_config_ops. */
export type QueueOperations = Pick<
  VdpaDevice,
  | 'setVqAddress'
  | 'setVqNum'
  | 'getVqNumMax'
  | 'setVqState'
  | 'getVqState'
  | 'setVqCb'
  | 'setVqKick'
  | 'getStatus'
  | 'suspended'
>;

/** The driver's end of one virtqueue: struct vhost_virtqueue, and what vhost_vring_ioctl does to it. */
export class VhostVirtqueue {
  /** What vhost was told last of the driver's features, as a mask: a reset of the device does not change it. */
  ackedFeatures = 0n;
  readonly #device: QueueOperations;
  readonly #vq: Virtqueue;
  #kick: EventfdContext | undefined;
  #call: EventfdContext | undefined;
  #error: EventfdContext | undefined;
  #busyloopTimeout = 0;

  constructor(device: QueueOperations, vq: Virtqueue) {
    this.#device = device;
    this.#vq = vq;
  }

  /** Carries an ioctl out. ENOTTY for one that it does not know. */
  async ioctl(request: number, argument: Uint8Array | undefined): Promise<void> {
    switch (request) {
      case vhost.VHOST_SET_VRING_NUM:
        return this.#setNum(argument);
      case vhost.VHOST_SET_VRING_ADDR:
        return this.#setAddr(argument);
      case vhost.VHOST_SET_VRING_BASE:
        return this.#setBase(argument);
      case vhost.VHOST_GET_VRING_BASE:
        return this.#getBase(argument);
      case vhost.VHOST_SET_VRING_KICK:
        return this.#setKick(argument);
      case vhost.VHOST_SET_VRING_CALL:
        return this.#setCall(argument);
      case vhost.VHOST_SET_VRING_ERR:
        return this.#setError(argument);
      case vhost.VHOST_SET_VRING_BUSYLOOP_TIMEOUT:
        return this.#setBusyloopTimeout(argument);
      case vhost.VHOST_GET_VRING_BUSYLOOP_TIMEOUT:
        return this.#getBusyloopTimeout(argument);
      default:
        throw systemError('ENOTTY', 'ioctl', `no ioctl 0x${request.toString(16)}`);
    }
  }

  /** The file was closed: nothing of the driver's stays bound. */
  release(): void {
    this.#device.setVqKick(this.#vq, undefined);
    this.#device.setVqCb(this.#vq, undefined);
    this.#kick?.put();
    this.#call?.put();
    this.#error?.put();
    this.#kick = this.#call = this.#error = undefined;
  }

  #setNum(argument: Uint8Array | undefined): void {
    const { num } = copyFromUser(vhost.vhostVringState, argument);
    const max = this.#device.getVqNumMax();
    if (num === 0 || num > max || (num & (num - 1)) !== 0)
      throw systemError('EINVAL', 'ioctl', `a queue has a power of two up to ${max} entries, not ${num}`);
    this.#device.setVqNum(this.#vq, num);
  }

  #setAddr(argument: Uint8Array | undefined): void {
    const addr = copyFromUser(vhost.vhostVringAddr, argument);
    // vhost_vring_set_addr: alignment of the descriptor table is not looked at.
    if (addr.flags & ~(1 << vhost.VHOST_VRING_F_LOG))
      throw systemError('EOPNOTSUPP', 'ioctl', 'unknown flags');
    if (
      addr.avail_user_addr % BigInt(VIRTQ_AVAIL_ALIGN) ||
      addr.used_user_addr % BigInt(VIRTQ_USED_ALIGN) ||
      addr.log_guest_addr % BigInt(VIRTQ_USED_ALIGN)
    )
      throw systemError('EINVAL', 'ioctl', 'a ring address is not aligned');
    this.#checkNotRunning();
    this.#device.setVqAddress(this.#vq, addr.desc_user_addr, addr.avail_user_addr, addr.used_user_addr);
  }

  #setBase(argument: Uint8Array | undefined): void {
    const { num } = copyFromUser(vhost.vhostVringState, argument);
    const packed = this.#packed;
    if (!packed && num > VRING_BASE_MAX)
      throw systemError('EINVAL', 'ioctl', `the base of a split virtqueue is at most ${VRING_BASE_MAX}`);
    this.#checkNotRunning();
    this.#device.setVqState(
      this.#vq,
      packed ? { packed: decodePackedVringBase(num) } : { split: decodeSplitVringBase(num) },
    );
  }

  /** Asks the device. */
  async #getBase(argument: Uint8Array | undefined): Promise<void> {
    const { index } = copyFromUser(vhost.vhostVringState, argument);
    const { split, packed } = await this.#device.getVqState(this.#vq);
    const num = this.#packed
      ? encodePackedVringBase({
          // A device's answer is its own; VDUSE keeps the bits that count.
          last_avail_counter: packed.last_avail_counter & 1,
          last_avail_idx: packed.last_avail_idx & 0x7fff,
          last_used_counter: packed.last_used_counter & 1,
          last_used_idx: packed.last_used_idx & 0x7fff,
        })
      : encodeSplitVringBase(split);
    copyToUser(vhost.vhostVringState, argument, { index, num });
  }

  #setKick(argument: Uint8Array | undefined): void {
    const kick = eventfdOf(copyFromUser(vhost.vhostVringFile, argument).fd);
    this.#device.setVqKick(this.#vq, kick);
    this.#kick?.put();
    this.#kick = kick;
  }

  #setCall(argument: Uint8Array | undefined): void {
    const call = eventfdOf(copyFromUser(vhost.vhostVringFile, argument).fd);
    this.#device.setVqCb(this.#vq, call);
    this.#call?.put();
    this.#call = call;
  }

  /** Taken and never signalled: the vdpa code hands it to no parent. */
  #setError(argument: Uint8Array | undefined): void {
    const error = eventfdOf(copyFromUser(vhost.vhostVringFile, argument).fd);
    this.#error?.put();
    this.#error = error;
  }

  #setBusyloopTimeout(argument: Uint8Array | undefined): void {
    this.#busyloopTimeout = copyFromUser(vhost.vhostVringState, argument).num;
  }

  #getBusyloopTimeout(argument: Uint8Array | undefined): void {
    const { index } = copyFromUser(vhost.vhostVringState, argument);
    copyToUser(vhost.vhostVringState, argument, { index, num: this.#busyloopTimeout });
  }

  get #packed(): boolean {
    return hasBit(this.ackedFeatures, VIRTIO_F_RING_PACKED);
  }

  #checkNotRunning(): void {
    if (this.#vq.placeable) return;
    if (this.#device.getStatus() & VIRTIO_CONFIG_S_DRIVER_OK && !this.#device.suspended)
      throw systemError('EINVAL', 'ioctl', 'the queue is running');
  }
}

/** The same for a vDPA device: with what vhost_vdpa_vring_ioctl adds. */
export class VhostVdpaVirtqueue extends VhostVirtqueue {
  readonly #device: VdpaDevice;
  readonly #vq: Virtqueue;

  constructor(device: VdpaDevice, vq: Virtqueue) {
    super(device, vq);
    this.#device = device;
    this.#vq = vq;
  }

  override async ioctl(request: number, argument: Uint8Array | undefined): Promise<void> {
    switch (request) {
      case vhost.VHOST_VDPA_SET_VRING_ENABLE:
        return this.#setEnable(argument);
      case VHOST_VDPA_RESET_VRING:
        return this.#reset();
      case vhost.VHOST_VDPA_GET_VRING_GROUP:
        return this.#getGroup(argument);
      case vhost.VHOST_VDPA_GET_VRING_SIZE:
        return this.#getSize(argument);
      case vhost.VHOST_VDPA_GET_VRING_DESC_GROUP:
        throw systemError('EOPNOTSUPP', 'ioctl', 'the parent has no descriptor groups');
      default:
        return super.ioctl(request, argument);
    }
  }

  async #setEnable(argument: Uint8Array | undefined): Promise<void> {
    await this.#device.setVqReady(this.#vq, copyFromUser(vhost.vhostVringState, argument).num !== 0);
  }

  async #reset(): Promise<void> {
    const device = this.#device;
    if (!device.canResetVq || !hasBit(device.driverFeatures, VIRTIO_F_RING_RESET))
      throw systemError('EOPNOTSUPP', 'ioctl', 'VIRTIO_F_RING_RESET was not negotiated');
    const runs = device.getStatus() & VIRTIO_CONFIG_S_DRIVER_OK && !device.suspended;
    if (!runs || !device.getVqReady(this.#vq))
      throw systemError('EINVAL', 'ioctl', 'the queue is not running');
    await device.resetVq(this.#vq);
  }

  #getGroup(argument: Uint8Array | undefined): void {
    const { index } = copyFromUser(vhost.vhostVringState, argument);
    const num = this.#device.getVqGroup(this.#vq);
    if (num >= this.#device.ngroups) throw systemError('EIO', 'ioctl', `no group ${num}`);
    copyToUser(vhost.vhostVringState, argument, { index, num });
  }

  #getSize(argument: Uint8Array | undefined): void {
    const { index } = copyFromUser(vhost.vhostVringState, argument);
    copyToUser(vhost.vhostVringState, argument, { index, num: this.#device.getVqSize(this.#vq) });
  }
}
