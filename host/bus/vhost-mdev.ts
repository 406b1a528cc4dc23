import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '../../assembly/virtio.js';
import { addressSpace } from '../aperture/address-space.js';
import { systemError } from '../errors.js';
import { mask } from '../uapi/bits.js';
import { VHOST_F_LOG_ALL } from '../uapi/vhost.js';
import { VHOST_MDEV_S_MAX, VHOST_MDEV_S_RUNNING, VHOST_MDEV_S_STOPPED } from '../uapi/vhost-mdev.js';
import type { DirtyLogMemory } from './dirty-log-file.js';
import type { EventfdContext } from './eventfd-context.js';
import { unreported } from './unreported.js';
import type { VdpaDevice } from './vdpa-device.js';
import type { QueueOperations } from './vhost-virtqueue.js';
import type { Virtqueue, VqState } from './virtqueue.js';

/** Entries of a virtqueue at most as far as vhost can tell; what the device thinks of a number shows when it is started. */
const VRING_NUM_MAX = 2 ** 15;

const LOG_ALL = mask(VHOST_F_LOG_ALL);
/** Bytes of a log that has a bit for every page of IOVA, 4 KiB each. */
const LOG_BYTES_MAX = 2n ** 64n / 4096n / 8n;

/** A queue as its ioctls have set it up: what the device gets when it is started. */
interface Vring {
  /** Entries; 0 until set. */
  num: number;
  /** IOVAs of the three areas; undefined until set: the queue is not to be used. */
  areas: readonly [desc: bigint, driver: bigint, device: bigint] | undefined;
  state: Partial<VqState>;
  call: EventfdContext | undefined;
}

/**
 * The proposal's struct vhost_mdev with its device operations, carried out by those of a vDPA device, which knows nothing of
 * it: to start is to go through the virtio initialisation, to stop is a reset before which the positions of the queues are
 * saved; notify is the driver's own eventfd, get_notify_addr the device's get_vq_notification, which the file asks for.
 */
export class VhostMdev implements QueueOperations {
  readonly #device: VdpaDevice;
  readonly #vrings: readonly Vring[];
  #state = VHOST_MDEV_S_STOPPED;
  #ackedFeatures = 0n;
  /** Process address that VHOST_SET_LOG_BASE has given. */
  #logBase: bigint | undefined;
  #logging = false;

  constructor(device: VdpaDevice) {
    this.#device = device;
    this.#vrings = device.vqs.map(() => ({ num: 0, areas: undefined, state: {}, call: undefined }));
  }

  /** Features on offer, as a mask: the device's, and vhost's own. */
  get features(): bigint {
    return this.#device.features | LOG_ALL;
  }

  /**
   * vhost_set_features. EINVAL for one that is not offered. What features_changed tells the device is whether writes are
   * logged from now on; virtio's own features count from the next start.
   */
  async setFeatures(features: bigint): Promise<void> {
    if (features & ~this.features)
      throw systemError('EINVAL', 'ioctl', 'the device does not offer all of that');
    await this.#changeLog((features & LOG_ALL) !== 0n, this.#logBase);
    this.#ackedFeatures = features;
  }

  /**
   * What vhost_mdev_get_log_base was to give the device: where the log lies, one bit for each 4 KiB of IOVA, in which the
   * device marks what it writes while VHOST_F_LOG_ALL is acknowledged. EFAULT for memory that it cannot be given, or that is
   * too short for what is mapped.
   */
  async setLogBase(base: bigint): Promise<void> {
    await this.#changeLog((this.#ackedFeatures & LOG_ALL) !== 0n, base);
    this.#logBase = base;
  }

  /** vhost_set_state. EINVAL for what is no state. What `start` and `stop` answer is discarded, as it was proposed. */
  async setState(state: bigint): Promise<void> {
    if (state >= BigInt(VHOST_MDEV_S_MAX)) throw systemError('EINVAL', 'ioctl', `no state ${state}`);
    if (this.#state === Number(state)) return;
    this.#state = Number(state);
    await (this.#state === VHOST_MDEV_S_RUNNING ? this.#start() : this.#stop());
  }

  /** The file was closed. */
  async release(): Promise<void> {
    await this.setState(BigInt(VHOST_MDEV_S_STOPPED));
    await unreported(this.#changeLog(false, undefined));
  }

  // Operations that the ioctls of a queue ask for: kept until the device is started, but for eventfds.

  setVqNum(vq: Virtqueue, num: number): void {
    this.#vring(vq).num = num;
  }

  getVqNumMax(): number {
    return VRING_NUM_MAX;
  }

  setVqAddress(vq: Virtqueue, desc: bigint, driver: bigint, device: bigint): void {
    this.#vring(vq).areas = [desc, driver, device];
  }

  setVqState(vq: Virtqueue, state: Partial<VqState>): void {
    this.#vring(vq).state = state;
  }

  /** get_vring_base: where the device is, or was when it was stopped. EIO when it does not say. */
  async getVqState(vq: Virtqueue): Promise<VqState> {
    if (this.#running) return this.#device.getVqState(vq);
    return { ...vq.state, ...this.#vring(vq).state };
  }

  setVqCb(vq: Virtqueue, call: EventfdContext | undefined): void {
    this.#vring(vq).call = call;
    this.#device.setVqCb(vq, call);
  }

  /** notify: not called for each kick but given the driver's eventfd, by which every kick reaches the device itself. */
  setVqKick(vq: Virtqueue, kick: EventfdContext | undefined): void {
    this.#device.setVqKick(vq, kick);
  }

  /** No status that an address or a base would be refused in: what is set while the device runs counts from the next start. */
  getStatus(): number {
    return 0;
  }

  get suspended(): boolean {
    return false;
  }

  /** Whether the device has taken the start. */
  get #running(): boolean {
    return (this.#device.getStatus() & VIRTIO_CONFIG_S_DRIVER_OK) !== 0;
  }

  async #changeLog(wanted: boolean, base: bigint | undefined): Promise<void> {
    const memory = wanted && base !== undefined ? logMemory(base) : undefined;
    if (!memory && !this.#logging) return;
    await this.#device.setLog(memory);
    this.#logging = memory !== undefined;
  }

  async #start(): Promise<void> {
    const device = this.#device;
    const found = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
    await device.setStatus(found);
    device.setDriverFeatures(this.#ackedFeatures & ~LOG_ALL);
    await device.setStatus(found | VIRTIO_CONFIG_S_FEATURES_OK);
    if (!(device.getStatus() & VIRTIO_CONFIG_S_FEATURES_OK)) return;
    for (const vq of device.vqs) {
      const { num, areas, state, call } = this.#vring(vq);
      // The reset that made the device idle unbound it.
      device.setVqCb(vq, call);
      if (num === 0 || !areas) continue;
      device.setVqNum(vq, num);
      device.setVqAddress(vq, ...areas);
      device.setVqState(vq, state);
      await device.setVqReady(vq, true);
    }
    await device.setStatus(found | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK);
  }

  async #stop(): Promise<void> {
    const device = this.#device;
    if (this.#running) {
      if (device.canSuspend) await unreported(device.suspend());
      for (const vq of device.vqs) if (vq.ready) await unreported(this.#savePosition(vq));
    }
    // Mappings are the container's.
    await unreported(device.reset(false));
  }

  async #savePosition(vq: Virtqueue): Promise<void> {
    this.#vring(vq).state = await this.#device.getVqState(vq);
  }

  #vring(vq: Virtqueue): Vring {
    return this.#vrings[vq.index]!;
  }
}

/** The log at a process address, as far as the shared file mapping there goes. */
function logMemory(base: bigint): DirtyLogMemory {
  const [range] = addressSpace.resolve(base, LOG_BYTES_MAX);
  if (range?.address !== base)
    throw systemError('EFAULT', 'ioctl', `no shared file at 0x${base.toString(16)}`);
  return { fd: range.fd, offset: range.offset, bytes: Number(range.bytes) };
}
