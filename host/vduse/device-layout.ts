import type { ErrorCode } from '../errors.js';
import type { VduseProtocol } from './protocol.js';
import type { QueueEventfds, QueueLimits } from './virtqueue.js';

/** What a device is made of, in numbers that every thread understands. */
export interface VduseDeviceLayout extends QueueLimits {
  protocol: VduseProtocol;
  /** Features that it offers, as a mask. */
  features: bigint;
  /** Linear addresses of the IOTLBs, one an address space. */
  iotlbs: readonly number[];
  /** Linear address of the DIRTY block. */
  dirty: number;
  /** Linear address of the LIFE block. */
  life: number;
  /** Groups that the queues are dealt out to, at least 1: queue i belongs to group i modulo that. */
  groups: number;
  /** Whether memory of this process shall be the kernel's bounce buffer, where it can be. */
  umem: boolean;
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

/**
 * Where the bounce buffers of a driver in the kernel are: 'umem', in memory of this process (VDUSE_IOTLB_REG_UMEM); 'fd',
 * in the kernel's own, of which pages that back no request are SIGBUS; 'none' for a driver that has not needed any yet, or
 * never will.
 */
export type BounceBuffer = 'umem' | 'fd' | 'none';

/** Whom a device tells what happens to it. */
export interface VduseDeviceListener {
  /** The device status is now `status`; 0 is a reset. */
  status(status: number): void;
  /** Where the driver's bounce buffers are; `reason` says why they are not where they were wanted. */
  bounceBuffer(bounceBuffer: BounceBuffer, reason?: string): void;
  /** Something went wrong; docs/errors.md says for each code whether the device goes on or needs a reset. */
  error(code: ErrorCode, message: string): void;
}
