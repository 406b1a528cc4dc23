import type { PackedState, SplitState } from '../uapi/vring-base.js';
import type { EventfdContext } from './eventfd-context.js';
import { NotificationSlot } from './notification-slot.js';

/** Position of a virtqueue; which of the two counts is negotiated (VIRTIO_F_RING_PACKED). */
export interface VqState {
  split: SplitState;
  packed: PackedState;
}

function initialState(): VqState {
  return {
    split: { avail_index: 0 },
    packed: { last_avail_counter: 0, last_avail_idx: 0, last_used_counter: 0, last_used_idx: 0 },
  };
}

/** One virtqueue of a device on the bus: the kernel's struct vduse_virtqueue. */
export class Virtqueue {
  readonly index: number;
  /** Entries; 0 until VDUSE_VQ_SETUP. */
  numMax = 0;
  group = 0;
  /** Entries; 0 until the driver sets it. */
  num = 0;
  /** IOVAs. */
  descAddr = 0n;
  driverAddr = 0n;
  deviceAddr = 0n;
  state = initialState();
  #ready = false;
  /** The driver's eventfds, as far as bound. */
  #kick: EventfdContext | undefined;
  #call: EventfdContext | undefined;
  /** Whether the device has a kickfd in place (VDUSE_VQ_SETUP_KICKFD). */
  #kickfd = false;
  #suspended = false;
  #placeable = false;
  // Made when first asked for: a device may have 65,535 queues.
  #kickSlot: NotificationSlot | undefined;
  #callSlot: NotificationSlot | undefined;

  constructor(index: number) {
    this.index = index;
  }

  /** Whether the driver has enabled it. A kick before that is dropped (vduse_vq_kick). */
  get ready(): boolean {
    return this.#ready;
  }

  set ready(ready: boolean) {
    this.#ready = ready;
    if (ready) this.#placeable = false;
    this.#connect();
  }

  /** Whether its driver, while it runs, may set it up anew: it was reset alone, and has not become ready since. */
  get placeable(): boolean {
    return this.#placeable;
  }

  /** Descriptor on which the driver's kicks show while the queue is ready and the device has a kickfd in place. */
  get kickFd(): number {
    this.#kickSlot ??= new NotificationSlot('kick');
    this.#connect();
    return this.#kickSlot.fd;
  }

  /** Descriptor whose signal interrupts the driver. */
  get callFd(): number {
    this.#callSlot ??= new NotificationSlot('call');
    this.#connect();
    return this.#callSlot.fd;
  }

  /** Binds the driver's kick eventfd, or none. */
  setKick(kick: EventfdContext | undefined): void {
    this.#kick = kick;
    this.#connect();
  }

  /** Binds the driver's call eventfd, or none. */
  setCall(call: EventfdContext | undefined): void {
    this.#call = call;
    this.#connect();
  }

  /**
   * Says whether the device has a kickfd. Kicks from before it stay in the driver's eventfd, so the device finds them
   * when it gets one, as the kernel's `kicked` flag has it.
   */
  setupKickfd(assigned: boolean): void {
    this.#kickfd = assigned;
    this.#connect();
  }

  /** Interrupts the driver if the queue is ready and has a call eventfd: whether it did (vduse_vq_signal_irqfd). */
  signalIrqfd(): boolean {
    if (!this.ready || !this.#call) return false;
    this.#call.signal();
    return true;
  }

  /** No kick and no interrupt passes from now on until a reset (VDUSE_SUSPEND). */
  suspend(): void {
    this.#suspended = true;
    this.#connect();
  }

  /** What a reset forgets (vduse_dev_reset): all but the driver's kick eventfd, which vhost keeps until it is closed. */
  reset(): void {
    this.#forgetRing();
    this.#placeable = false;
    this.#suspended = false;
    this.#kickfd = false;
    this.#call = undefined;
    this.#connect();
  }

  /** What a reset of this queue alone forgets: all but the eventfds of both sides. */
  resetAlone(): void {
    this.#forgetRing();
    this.#placeable = true;
    this.#connect();
  }

  /** Frees the descriptors. Whatever still touches the queue afterwards finds none. */
  close(): void {
    this.#kickSlot?.close();
    this.#callSlot?.close();
    this.#kickSlot = this.#callSlot = undefined;
  }

  #forgetRing(): void {
    this.#ready = false;
    this.num = 0;
    this.descAddr = this.driverAddr = this.deviceAddr = 0n;
    this.state = initialState();
  }

  #connect(): void {
    this.#kickSlot?.point(this.#ready && this.#kickfd && !this.#suspended ? this.#kick : undefined);
    this.#callSlot?.point(this.#suspended ? undefined : this.#call);
  }
}
