import {
  LIFE_BLOCK_SIZE,
  LIFE_COUNT,
  LIFE_FEATURES,
  LIFE_STATUS,
  LIFE_SUSPENDED,
} from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';

/**
 * What the driver has done to the device, noted where device models find it: before the gates open, so that no model gets a
 * chain of a driver that it cannot know of yet. Its reader is host/models/model-host.ts.
 */
export class Life {
  readonly #aperture: Aperture;
  readonly #life: number;

  /** Allocates a LIFE block: its linear address. */
  static allocate(aperture: Aperture): number {
    return aperture.allocate(LIFE_BLOCK_SIZE);
  }

  /** Over the block at `life`. */
  constructor(aperture: Aperture, life: number) {
    this.#aperture = aperture;
    this.#life = life;
  }

  /** The driver has reset the device. */
  reset(): void {
    // The status first: a reader that finds it sees no driver, whichever life it takes that for.
    this.#set(LIFE_STATUS, 0);
    this.#set(LIFE_SUSPENDED, 0);
    Atomics.add(this.#aperture.u32, (this.#life + LIFE_COUNT) / 4, 1);
  }

  /** The device status is `status`, of a driver that has negotiated `features`, once it has FEATURES_OK. */
  set(status: number, features: bigint): void {
    Atomics.store(this.#aperture.u64, (this.#life + LIFE_FEATURES) / 8, features);
    this.#set(LIFE_STATUS, status);
  }

  /** The driver has suspended the device. */
  suspend(): void {
    this.#set(LIFE_SUSPENDED, 1);
  }

  #set(offset: number, value: number): void {
    Atomics.store(this.#aperture.u32, (this.#life + offset) / 4, value);
  }
}
