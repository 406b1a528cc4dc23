import type { Segments } from '../../virtqueue/split-chain.js';

/** A buffer that a driver has found used. */
export interface UsedBuffer {
  readonly id: number;
  /** Bytes that the device says that it has written. */
  readonly bytes: number;
}

/** What a hostile device is made of: the format's part of a case. The model is that of its driver. */
export interface HostileDevice {
  /** Whether it may use buffers in another order than that of their offers. */
  readonly anyOrder: boolean;
  /** The next chain that the ring shows; an Error where it is none. */
  look(): Segments & { id: number };
  /** Whether a kick is wanted after `count` more chains. */
  wantsKick(count: number): boolean;
  /** Uses a buffer, seen once published. */
  use(id: number, bytes: number): void;
  /** Whether a buffer was used that its driver has not reaped. */
  hasUsed(id: number): boolean;
  publish(): void;
  /** Writes where it should not, but not where buffers are used. */
  disturb(): void;
  /** What the driver must make of the ring: at most `max` used buffers. */
  reap(max: number): UsedBuffer[];
  /** At least how many completions wait. */
  waiting(): number;
  /** The driver's notification wish as it is in memory, and as it must be. */
  wish(): number[];
  wishOf(state: 'armed' | 'disarmed'): number[];
}
