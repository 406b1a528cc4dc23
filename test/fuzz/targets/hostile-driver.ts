import type { DeviceSide } from '../../virtqueue/device-side.js';

/** Both areas and all descriptors of one ring in the hands of a driver that keeps few rules, and the model of its device. */
export interface HostileDriver {
  readonly model: DeviceSide;
  /** Makes up to `count` chains available, mostly sound ones. */
  offer(count: number): void;
  /** Does something that drivers do between two bursts, or should not. */
  disturb(): void;
}
