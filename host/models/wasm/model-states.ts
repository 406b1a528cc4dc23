import type { Aperture } from '../../aperture/aperture.js';
import { RingbellError } from '../../errors.js';

/** Where a module keeps a state: that of the device, and one for each queue. */
interface StateBlock {
  readonly linear: number;
  readonly bytes: number;
}

/** All states of a module, which are its to lay out: one behind the other they are what is saved of it. */
export class ModelStates {
  readonly #aperture: Aperture;
  readonly #blocks: readonly StateBlock[];

  constructor(aperture: Aperture, blocks: readonly StateBlock[]) {
    this.#aperture = aperture;
    this.#blocks = blocks;
  }

  /** A copy. No queue may be running. */
  save(): Uint8Array {
    const parts = this.#blocks.map(({ linear, bytes }) => this.#aperture.u8.slice(linear, linear + bytes));
    return Buffer.concat(parts);
  }

  /** Takes one up. Throws ERR_STATE for the state of a module with other ones. */
  restore(saved: Uint8Array): void {
    const whole = this.#blocks.reduce((sum, { bytes }) => sum + bytes, 0);
    if (saved.length !== whole)
      throw new RingbellError('ERR_STATE', `the module has ${whole} bytes of state, not ${saved.length}`);
    let at = 0;
    for (const { linear, bytes } of this.#blocks) {
      this.#aperture.u8.set(saved.subarray(at, at + bytes), linear);
      at += bytes;
    }
  }
}
