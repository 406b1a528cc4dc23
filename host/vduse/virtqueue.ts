import { setTimeout as delay } from 'node:timers/promises';
import { IOTLB_ACCESS_READ, IOTLB_ACCESS_WRITE, VQ_IO_ERRORS } from '../../assembly/layout.js';
import { ERROR_CODES, RingbellError, VERDICT_CODES } from '../errors.js';
import { loadAddon } from '../native/addon.js';
import { Interrupter } from '../queue/interrupter.js';
import type { QueueBlock, RingPlacement } from '../queue/queue-block.js';
import type { Decoded } from '../uapi/struct.js';
import {
  VDUSE_VQ_GET_INFO,
  VDUSE_VQ_SETUP,
  VDUSE_VQ_SETUP_KICKFD,
  vduseVqConfig,
  vduseVqEventfd,
  vduseVqInfo,
} from '../uapi/vduse.js';
import { type VringArea, vringAreas } from '../uapi/vring-areas.js';
import { encodePackedVringBase, encodeSplitVringBase } from '../uapi/vring-base.js';
import type { DoorbellWindows } from './doorbell-windows.js';
import { isPacked } from './driver-features.js';
import type { VduseFile } from './file.js';
import { KernelVduseFile } from './kernel-file.js';

type Info = Decoded<typeof vduseVqInfo>;

/** Milliseconds that a transport gets to act on our reply before a queue opens that it does not take for ready yet. */
const READY_LIMIT_MS = 100;

/** Linear address of a range of IOVAs that is in one piece, mapped first if need be; 0 if nothing maps it. */
export type Translate = (iova: bigint, bytes: number, access: number) => Promise<number>;

/** Eventfds of a queue, all the main thread's: it closes them once no thread can be polling them. */
export interface QueueEventfds {
  /** Wakes the thread that runs the queue. */
  wakeFd: number;
  /** Offered to the transport for the driver's kicks. */
  kickFd: number;
}

/** What holds for each queue of a device. */
export interface QueueLimits {
  /** Entries; the largest size. */
  queueSize: number;
  /** Milliseconds that its thread has to leave the ring; well below the time in which a message is to be answered. */
  pauseLimitMs: number;
}

/** The control plane's side of one virtqueue: from VDUSE_VQ_SETUP to a running ring and back. */
export class Virtqueue {
  readonly index: number;
  readonly block: QueueBlock;
  readonly #file: VduseFile;
  readonly #eventfds: QueueEventfds;
  readonly #limits: QueueLimits;
  readonly #doorbells: DoorbellWindows;
  readonly #translate: Translate;
  readonly #interrupter: Interrupter;
  /** Eventfd on which kicks show, −1 until the transport has it. */
  #kickFd = -1;
  #info: Info | undefined;
  #packed = false;
  #running = false;
  /** Counter of I/O errors as it was last seen. */
  #ioErrors = 0n;

  constructor(
    file: VduseFile,
    index: number,
    block: QueueBlock,
    eventfds: QueueEventfds,
    limits: QueueLimits,
    doorbells: DoorbellWindows,
    translate: Translate,
  ) {
    this.#file = file;
    this.index = index;
    this.block = block;
    this.#eventfds = eventfds;
    this.#limits = limits;
    this.#doorbells = doorbells;
    this.#translate = translate;
    this.#interrupter = new Interrupter(block, index, file instanceof KernelVduseFile ? file.fd : -1);
  }

  /** Whether the driver has made it ready, and it has been adopted since the last reset. */
  get adopted(): boolean {
    return this.#info !== undefined;
  }

  /** Announces the queue, as a member of `group`. Before the device is attached. */
  async setup(group: number): Promise<void> {
    const { queueSize } = this.#limits;
    await this.#file.ioctl(
      VDUSE_VQ_SETUP,
      vduseVqConfig.encode({ index: this.index, max_size: queueSize, group }),
    );
  }

  /**
   * Gives the transport the kick eventfd, once a life: a reset makes it forget. What shows kicks from then on is the result;
   * those of a queue that is not ready are lost (vduse_vq_kick).
   */
  async watchKicks(): Promise<number> {
    if (this.#kickFd < 0) {
      const { kickFd } = this.#eventfds;
      await this.#file.ioctl(VDUSE_VQ_SETUP_KICKFD, vduseVqEventfd.encode({ index: this.index, fd: kickFd }));
      this.#kickFd = await this.#file.kickFd(this.index, kickFd);
    }
    return this.#kickFd;
  }

  /** Whether the transport takes the queue for ready. */
  async isReady(): Promise<boolean> {
    return (await this.#getInfo()).ready !== 0;
  }

  /**
   * Takes over what the driver set up, which is for a queue that is ready, or whose driver is just making it so: where
   * another process has left it, if its in-flight log says so. Throws ERR_CONTROL_PLANE, WebAssembly.RuntimeError for a queue
   * that cannot be run. The queue stays stopped until `open`.
   */
  async adopt(features: bigint): Promise<void> {
    const info = await this.#getInfo();
    const packed = isPacked(features);
    this.block.place(await this.#locate(info, packed));
    // The transport's position is where the driver has started the queue, not where the queue is.
    if (!this.block.resume(features)) this.block.start(baseOf(info, packed), features);
    this.block.kickFd = await this.watchKicks();
    this.block.callFd = await this.#file.callFd(this.index);
    const { linear, counter } = await this.#doorbells.place(this.index, this.block.vq);
    this.block.watchDoorbell(linear, counter);
    this.#info = info;
    this.#packed = packed;
  }

  /**
   * Lets the datapath in. Its thread scans the ring once, whatever the eventfd says, and the driver gets one interrupt:
   * a kick or an interrupt from before may have been lost.
   */
  open(): void {
    if (this.#running) return;
    this.#running = true;
    this.resume();
    this.#interrupter.interrupt();
  }

  /**
   * The same, after the answer to VDUSE_SET_VQ_READY. A queue becomes ready for the kernel only after our reply, and an
   * interrupt of a queue that is not goes nowhere, with no error (vduse_vq_irq_inject): what it serves from the start might
   * never be noticed.
   */
  async openOnceReady(): Promise<void> {
    for (let waitedMs = 0; waitedMs < READY_LIMIT_MS && !(await this.isReady()); waitedMs++) await delay(1);
    this.open();
  }

  /** Finds the rings again after the driver's memory was mapped anew: false if they are no longer there. */
  async relocate(): Promise<boolean> {
    if (!this.#info) return true;
    try {
      this.block.place(await this.#locate(this.#info, this.#packed));
      return true;
    } catch (error) {
      if (error instanceof RingbellError && error.code === 'ERR_CONTROL_PLANE') return false;
      throw error;
    }
  }

  /**
   * Its position, as a vring base says it. Of a queue that another process has left, and that has not been adopted, its
   * in-flight log knows: the transport's position is where the driver has started it. `features` are the driver's. Throws
   * ERR_THREAD_LOST, ERR_CONTROL_PLANE if its rings are not there.
   */
  async base(features: bigint): Promise<number> {
    this.pause();
    try {
      if (!this.#info) {
        const info = await this.#getInfo();
        const packed = isPacked(features);
        if (!this.block.logged) return baseOf(info, packed);
        this.block.place(await this.#locate(info, packed));
        this.block.resume(features);
      }
      return this.block.base;
    } finally {
      this.resume();
    }
  }

  /** Keeps the datapath out for a while. Throws ERR_THREAD_LOST if it does not come out within `limitMs`. */
  pause(limitMs: number = this.#limits.pauseLimitMs): void {
    if (!this.block.gate.pause(limitMs))
      throw new RingbellError('ERR_THREAD_LOST', `queue ${this.index}: its thread does not leave the ring`);
  }

  /** Ends a pause, and wakes the datapath if it was the last. */
  resume(): void {
    if (this.block.gate.resume()) loadAddon().eventfdSignal(this.#eventfds.wakeFd);
  }

  /** Stops the datapath until the next `open`. Throws ERR_THREAD_LOST if it does not come out within `limitMs`. */
  stop(limitMs: number = this.#limits.pauseLimitMs): void {
    if (!this.#running) return;
    this.#running = false;
    this.pause(limitMs);
  }

  /** Requests that have ended with an I/O error since the last call. */
  takeIoErrors(): bigint {
    const { aperture, vq } = this.block;
    const now = Atomics.load(aperture.u64, (vq + VQ_IO_ERRORS) / 8);
    const failed = now - this.#ioErrors;
    this.#ioErrors = now;
    return failed;
  }

  /** What broke the queue, for people. */
  describeVerdict(): string {
    const { verdict, verdictHead, faultIova } = this.block;
    const what = ERROR_CODES[VERDICT_CODES[verdict]!];
    return `queue ${this.index}: ${what} (chain ${verdictHead}, IOVA 0x${faultIova.toString(16)})`;
  }

  /** Forgets what the driver set up, in a life that goes on. The queue must be stopped. */
  abandon(): void {
    this.#info = undefined;
    this.block.reset();
  }

  /** Forgets what the driver set up, and that it was there. The queue must be stopped. */
  reset(): void {
    this.abandon();
    this.#kickFd = -1;
    this.block.watchDoorbell(0, 0);
    this.#interrupter.reset();
  }

  /** What VDUSE_SET_VQ_NUM, VDUSE_SET_VQ_ADDR, VDUSE_SET_VQ_STATE and VDUSE_SET_VQ_READY of VDUSE's RFC brought by message. */
  async #getInfo(): Promise<Info> {
    const info = vduseVqInfo.encode({ index: this.index });
    await this.#file.ioctl(VDUSE_VQ_GET_INFO, info);
    return vduseVqInfo.decode(info);
  }

  /** Judges size and alignment ("Virtqueues", driver requirements) and translates the three areas. */
  async #locate(info: Info, packed: boolean): Promise<RingPlacement> {
    const { num, desc_addr, driver_addr, device_addr } = info;
    const { queueSize } = this.#limits;
    const powerOfTwo = (num & (num - 1)) === 0;
    if (num === 0 || num > queueSize || !(powerOfTwo || packed))
      throw this.#refuse(`its size of ${num} is no ${packed ? 'number' : 'power of two'} up to ${queueSize}`);
    const area = async (name: string, iova: bigint, { bytes, align }: VringArea, access: number) => {
      const where = `its ${name} at 0x${iova.toString(16)}`;
      if (iova % BigInt(align)) throw this.#refuse(`${where} is not aligned to ${align} bytes`);
      if (iova + BigInt(bytes) > 1n << 64n) throw this.#refuse(`${where} passes 2^64`);
      const linear = await this.#translate(iova, bytes, access);
      if (linear === 0) throw this.#refuse(`${where} is not mapped in one piece, or not for this access`);
      if (linear % align) throw this.#refuse(`${where} is mapped from a file offset that is not aligned`);
      return linear;
    };
    const { desc, driver, device } = vringAreas(num, packed);
    const both = IOTLB_ACCESS_READ | IOTLB_ACCESS_WRITE;
    // A device writes used descriptors over the available ones of a packed ring; of a split one it writes none.
    const descriptors = packed ? both : IOTLB_ACCESS_READ;
    return {
      size: num,
      descriptorTable: await area('descriptor area', desc_addr, desc, descriptors),
      driverArea: await area('driver area', driver_addr, driver, IOTLB_ACCESS_READ),
      deviceArea: await area('device area', device_addr, device, both),
    };
  }

  #refuse(why: string): RingbellError {
    return new RingbellError('ERR_CONTROL_PLANE', `queue ${this.index} cannot be run: ${why}`);
  }
}

/** The position that a transport gives a queue, as a vring base. */
function baseOf({ split, packed }: Info, isPacked: boolean): number {
  return isPacked ? encodePackedVringBase(packed) : encodeSplitVringBase(split);
}
