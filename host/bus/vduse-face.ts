import { systemError } from '../errors.js';
import { loadAddon, type MapSource } from '../native/addon.js';
import { u32, u64 } from '../uapi/codec.js';
import * as vduse from '../uapi/vduse.js';
import { VIRTIO_CONFIG_S_DRIVER_OK } from '../uapi/virtio.js';
import type { VduseFile } from '../vduse/file.js';
import { VDUSE_GET_LOG_FD, vduseLog } from '../vduse/log-extension.js';
import { EventfdContext } from './eventfd-context.js';
import type { FaultInjection } from './fault-injection.js';
import type { IotlbMap } from './iotlb-tree.js';
import { refusalOf } from './notification-area.js';
import { copyFromUser, copyToUser, isZero, userMemory } from './user-memory.js';
import type { VdpaDevice } from './vdpa-device.js';
import type { Virtqueue } from './virtqueue.js';

/** An open /dev/vduse/NAME of the bus: what the kernel's vduse_dev.c does, with its errnos. */
export class VduseFace implements VduseFile {
  readonly name: string;
  readonly #device: VdpaDevice;
  readonly #faults: FaultInjection;
  #closed = false;

  /** Opens the device node. EBUSY while it is open: it has one user at a time. */
  constructor(device: VdpaDevice, faults: FaultInjection) {
    if (device.connected) throw systemError('EBUSY', 'open', `${device.name} is open`);
    device.connected = true;
    this.name = device.name;
    this.#device = device;
    this.#faults = faults;
  }

  async ioctl(request: number, argument?: Uint8Array): Promise<number> {
    this.#checkOpen('ioctl');
    await this.#faults.strike('ioctl', this.name, request);
    this.#checkUsable();
    switch (request) {
      case vduse.VDUSE_IOTLB_GET_FD:
        return this.#iotlbGetFd(argument);
      case vduse.VDUSE_IOTLB_GET_FD2:
        return this.#iotlbGetFd2(argument);
      case vduse.VDUSE_DEV_GET_FEATURES:
        copyToUser(u64, argument, this.#device.driverFeatures);
        return 0;
      case vduse.VDUSE_DEV_SET_CONFIG:
        return this.#devSetConfig(argument);
      case vduse.VDUSE_DEV_INJECT_CONFIG_IRQ:
        this.#device.injectConfigIrq();
        return 0;
      case vduse.VDUSE_VQ_SETUP:
        return this.#vqSetup(argument);
      case vduse.VDUSE_VQ_GET_INFO:
        return this.#vqGetInfo(argument);
      case vduse.VDUSE_VQ_SETUP_KICKFD:
        return this.#vqSetupKickfd(argument);
      case vduse.VDUSE_VQ_INJECT_IRQ:
        this.#device.injectIrq(this.#queue(copyFromUser(u32, argument)));
        return 0;
      case vduse.VDUSE_IOTLB_REG_UMEM:
      case vduse.VDUSE_IOTLB_DEREG_UMEM:
        return this.#umem(request, argument);
      case vduse.VDUSE_IOTLB_GET_INFO:
        return this.#iotlbGetInfo(argument);
      case VDUSE_GET_LOG_FD:
        return this.#getLogFd(argument);
      default:
        throw systemError('ENOTTY', 'ioctl', `no VDUSE ioctl 0x${request.toString(16)}`);
    }
  }

  async read(): Promise<Uint8Array> {
    this.#checkOpen('read');
    return this.#device.messages.read();
  }

  async write(response: Uint8Array): Promise<void> {
    this.#checkOpen('write');
    await this.#device.messages.answer(response);
  }

  /** Another name of the driver's kick eventfd; of an idle one while the queue is not ready, or has no kickfd or no driver. */
  async kickFd(index: number, _fd: number): Promise<number> {
    this.#checkUsable();
    return this.#queue(index).kickFd;
  }

  /** The eventfd of the RFC's VDUSE_VQ_SETUP_IRQFD, which was never merged, the other way round: the bus gives it to the device. */
  async callFd(index: number): Promise<number> {
    this.#checkUsable();
    return this.#queue(index).callFd;
  }

  async doorbell(index: number): Promise<MapSource | undefined> {
    this.#checkUsable();
    const { doorbell, pageSize } = this.#device;
    const area = doorbell?.getVqNotification(this.#queue(index).index);
    if (!doorbell || !area || refusalOf(area, pageSize)) return undefined;
    return { fd: loadAddon().duplicate(doorbell.fd), offset: doorbell.offsetOf(area.addr) };
  }

  async needsReset(): Promise<boolean> {
    this.#checkUsable();
    this.#device.needsReset();
    return true;
  }

  /** Closes. Messages without an answer wait for whoever opens the device next; everything set up stays. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#device.messages.requeue();
    this.#device.disconnect();
  }

  /** VDUSE_IOTLB_GET_FD, as in the RFC, with the file offset and the permission that it did not have. */
  #iotlbGetFd(argument: Uint8Array | undefined): number {
    const { start, last } = copyFromUser(vduse.vduseIotlbEntry, argument);
    const map = this.#findMap(0, start, last);
    copyToUser(vduse.vduseIotlbEntry, argument, entryOf(map));
    return loadAddon().duplicate(map.file.fd);
  }

  #iotlbGetFd2(argument: Uint8Array | undefined): number {
    const { start, last, asid, padding, reserved } = copyFromUser(vduse.vduseIotlbEntryV2, argument);
    if (!isZero(padding) || !isZero(reserved))
      throw systemError('EINVAL', 'ioctl', 'reserved fields are not zero');
    const map = this.#findMap(asid, start, last);
    copyToUser(vduse.vduseIotlbEntryV2, argument, { ...entryOf(map), asid });
    return loadAddon().duplicate(map.file.fd);
  }

  /** Where the RFC's VDUSE_GET_CONFIG asked the device, it says what has changed. */
  #devSetConfig(argument: Uint8Array | undefined): number {
    const { offset, length } = copyFromUser(vduse.vduseConfigData, argument);
    const { config } = this.#device;
    if (offset > config.byteLength || length === 0 || length > config.byteLength - offset)
      throw systemError('EINVAL', 'ioctl', `the config space has ${config.byteLength} bytes`);
    const header = vduse.vduseConfigData.size;
    config.set(userMemory(argument, header + length).subarray(header, header + length), offset);
    return 0;
  }

  #vqSetup(argument: Uint8Array | undefined): number {
    const { index, max_size, group, reserved1, reserved2 } = copyFromUser(vduse.vduseVqConfig, argument);
    const device = this.#device;
    const vq = this.#queue(index);
    if (device.apiVersion < vduse.VDUSE_API_VERSION_1) {
      if (group) throw systemError('EINVAL', 'ioctl', 'API version 0 has no groups');
    } else {
      if (group >= device.ngroups) throw systemError('EINVAL', 'ioctl', `no group ${group}`);
      if (device.getStatus() & VIRTIO_CONFIG_S_DRIVER_OK)
        throw systemError('EINVAL', 'ioctl', 'the driver is running');
    }
    if (reserved1 || !isZero(reserved2)) throw systemError('EINVAL', 'ioctl', 'reserved fields are not zero');
    vq.numMax = max_size;
    vq.group = group;
    return 0;
  }

  /**
   * What the RFC told the device by message: VDUSE_SET_VQ_NUM, VDUSE_SET_VQ_ADDR, VDUSE_SET_VQ_STATE (where the driver
   * starts, not where the queue is) and VDUSE_SET_VQ_READY.
   */
  #vqGetInfo(argument: Uint8Array | undefined): number {
    const { index } = copyFromUser(vduse.vduseVqInfo, argument);
    const vq = this.#queue(index);
    copyToUser(vduse.vduseVqInfo, argument, {
      num: vq.num,
      desc_addr: vq.descAddr,
      driver_addr: vq.driverAddr,
      device_addr: vq.deviceAddr,
      ...(this.#device.packed ? { packed: vq.state.packed } : { split: vq.state.split }),
      ready: Number(this.#device.getVqReady(vq)),
    });
    return 0;
  }

  /** VDUSE_VQ_SETUP_KICKFD, as in the RFC; a reset takes the eventfd away. */
  #vqSetupKickfd(argument: Uint8Array | undefined): number {
    const { index, fd } = copyFromUser(vduse.vduseVqEventfd, argument);
    const vq = this.#queue(index);
    // Checked as the kernel does and not kept: kicks show on kickFd, which needs no relay to the device's own.
    if (fd >= 0) EventfdContext.get(fd).put();
    // A negative number other than VDUSE_EVENTFD_DEASSIGN changes nothing, and is no error (vduse_kickfd_setup).
    else if (fd !== vduse.VDUSE_EVENTFD_DEASSIGN) return 0;
    vq.setupKickfd(fd >= 0);
    return 0;
  }

  /**
   * Refuses memory for the bounce buffer as VDUSE does while there is no bounce map. Only a driver bound through
   * virtio-vdpa makes one; on this bus drivers bring their own memory.
   */
  #umem(request: number, argument: Uint8Array | undefined): never {
    const { asid, reserved } = copyFromUser(vduse.vduseIovaUmem, argument);
    if (!isZero(reserved)) throw systemError('EINVAL', 'ioctl', 'reserved fields are not zero');
    if (asid >= this.#device.nas) throw systemError('EINVAL', 'ioctl', `no address space ${asid}`);
    if (request === vduse.VDUSE_IOTLB_DEREG_UMEM)
      throw systemError('ENOENT', 'ioctl', 'no memory is registered');
    throw systemError('EINVAL', 'ioctl', 'there is no bounce buffer');
  }

  #iotlbGetInfo(argument: Uint8Array | undefined): number {
    const { start, last, asid, reserved } = copyFromUser(vduse.vduseIovaInfo, argument);
    if (start > last) throw systemError('EINVAL', 'ioctl', 'the range ends before it starts');
    // Not EINVAL, as everywhere else: VDUSE leaves the errno of a failed copy in place here.
    if (!isZero(reserved)) throw systemError('EFAULT', 'ioctl', 'reserved fields are not zero');
    if (asid >= this.#device.nas) throw systemError('EFAULT', 'ioctl', `no address space ${asid}`);
    const map = this.#findMap(asid, start, last);
    copyToUser(vduse.vduseIovaInfo, argument, { start: map.start, last: map.last, capability: 0n });
    return 0;
  }

  #getLogFd(argument: Uint8Array | undefined): number {
    const { log } = this.#device;
    if (!log) throw systemError('ENOENT', 'ioctl', `${this.name} has no dirty log`);
    copyToUser(vduseLog, argument, { offset: log.offset, bytes: BigInt(log.bytes), asid: log.asid });
    return loadAddon().duplicate(log.file.fd);
  }

  /** The first region of an address space that overlaps [start, last]. EINVAL if there is none. */
  #findMap(asid: number, start: bigint, last: bigint): IotlbMap {
    const map = start <= last ? this.#device.iotlbs[asid]?.first(start, last) : undefined;
    if (!map) throw systemError('EINVAL', 'ioctl', `no region at IOVA 0x${start.toString(16)}`);
    return map;
  }

  #queue(index: number): Virtqueue {
    const vq = this.#device.vqs[index];
    if (!vq)
      throw systemError('EINVAL', 'ioctl', `no queue ${index}, the device has ${this.#device.vqs.length}`);
    return vq;
  }

  #checkUsable(): void {
    this.#checkOpen('ioctl');
    if (this.#device.messages.broken) throw systemError('EPERM', 'ioctl', `${this.name} is broken`);
  }

  #checkOpen(syscall: string): void {
    if (this.#closed) throw systemError('EBADF', syscall, `${this.name} was closed`);
  }
}

function entryOf(map: IotlbMap): { offset: bigint; start: bigint; last: bigint; perm: number } {
  return { offset: map.offset, start: map.start, last: map.last, perm: map.perm };
}
