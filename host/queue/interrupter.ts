import { isSystemError } from '../errors.js';
import { loadAddon } from '../native/addon.js';
import { VDUSE_VQ_INJECT_IRQ } from '../uapi/vduse.js';
import type { QueueBlock } from './queue-block.js';

/**
 * Used buffer notifications of one queue: a signal to the call eventfd where the transport has one, else the ioctl
 * VDUSE_VQ_INJECT_IRQ on the device node.
 */
export class Interrupter {
  readonly #block: QueueBlock;
  readonly #injectIrq: (() => number) | undefined;
  #owed = false;

  /** `deviceFd` is the device node for the ioctl, −1 where there is a call eventfd; `index` the queue's. */
  constructor(block: QueueBlock, index: number, deviceFd: number) {
    this.#block = block;
    if (deviceFd < 0) return;
    const argument = new Uint8Array(Uint32Array.of(index).buffer);
    this.#injectIrq = loadAddon().prepareIoctl(deviceFd, VDUSE_VQ_INJECT_IRQ, argument);
  }

  /** Whether an interrupt was refused and has to be tried again. */
  get owed(): boolean {
    return this.#owed;
  }

  /** Interrupts the driver. */
  interrupt(): void {
    if (this.#injectIrq) {
      this.#inject(this.#injectIrq);
      return;
    }
    const { callFd } = this.#block;
    if (callFd >= 0) loadAddon().eventfdSignal(callFd);
  }

  /**
   * The kernel's own status lags behind: it takes DRIVER_OK over only after our reply, and refuses interrupts until then
   * and around a reset with EINVAL (vduse_dev_ioctl). The interrupt is owed meanwhile, never lost, never an error.
   */
  #inject(injectIrq: () => number): void {
    try {
      injectIrq();
      this.#owed = false;
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.#owed = true;
    }
  }

  /** Forgets what is owed: the device was reset. */
  reset(): void {
    this.#owed = false;
  }
}
