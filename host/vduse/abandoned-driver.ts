import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
} from '../../assembly/virtio.js';
import { interruptConfig } from './config-space.js';
import { driverFeatures } from './driver-features.js';
import type { VduseFile } from './file.js';

/** What a driver has written that runs. */
export const STATUS_RUNNING =
  VIRTIO_CONFIG_S_ACKNOWLEDGE |
  VIRTIO_CONFIG_S_DRIVER |
  VIRTIO_CONFIG_S_FEATURES_OK |
  VIRTIO_CONFIG_S_DRIVER_OK;
/** Milliseconds between looks at a driver that was on the way to DRIVER_OK. */
const LOOK_INTERVAL_MS = 200;

/**
 * The driver of a device that another process has left. No message says whether it runs, nor does any ioctl, but the
 * transport passes interrupts on to those that do; and it is to see the config space as it is now.
 */
export class AbandonedDriver {
  readonly #file: VduseFile;
  #timer: NodeJS.Timeout | undefined;

  constructor(file: VduseFile) {
    this.#file = file;
  }

  /** Whether it runs. */
  runs(): Promise<boolean> {
    return interruptConfig(this.#file);
  }

  /**
   * Has `look` called now and then if it has got as far as features. If it has written DRIVER_OK, the other process has died
   * between its reply and the moment at which the transport took the status over; otherwise its next message says how it
   * goes on.
   */
  async watch(look: () => void): Promise<void> {
    if (await driverFeatures(this.#file)) this.#timer = setInterval(look, LOOK_INTERVAL_MS).unref();
  }

  /** Ends that: a message has said how it goes on, or it was found to run. */
  stop(): void {
    clearInterval(this.#timer);
  }
}
