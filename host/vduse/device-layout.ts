import type { ErrorCode } from '../errors.js';
import type { QueueEventfds, QueueLimits } from './virtqueue.js';

/** What a device is made of, in numbers that every thread understands. */
export interface VduseDeviceLayout extends QueueLimits {
  /** Linear address of the device's IOTLB. */
  iotlb: number;
  /** The queues' blocks, by linear address, and their eventfds. */
  queues: readonly ({ vq: number } & QueueEventfds)[];
  /** It is on its bus already, left there by another process: perhaps with a driver. */
  takenOver: boolean;
  /** Linear address of the aperture's SIGBUS counter. */
  sigbusFlag: number;
  /** Lost memory cannot come back with a reset, because it is the device's own. */
  memoryLossIsFinal: boolean;
  /** The queues' I/O error counters speak of the kernel's errors, which nobody else reports. */
  reportIoErrors: boolean;
}

/** Whom a device tells what happens to it. */
export interface VduseDeviceListener {
  /** The device status is now `status`; 0 is a reset. */
  status(status: number): void;
  /** Something went wrong; docs/errors.md says for each code whether the device goes on or needs a reset. */
  error(code: ErrorCode, message: string): void;
}
