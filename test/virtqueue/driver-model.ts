import * as layout from '../../assembly/layout.js';

/** A chain that a driver has offered. */
export interface Offer {
  /** Bytes that the device may write. */
  readonly writable: number;
}

/**
 * The driver side of a virtqueue, whatever its format, and whatever it drives: which chains are in flight, under the ids that the
 * ring shows, and what a device may say about them.
 */
export class DriverModel<Offered extends Offer = Offer> {
  verdict = 0;
  /** By id, in the order in which they were offered. */
  readonly inFlight = new Map<number, Offered>();
  /** Chains that fit. */
  readonly #slots: number;

  constructor(slots: number) {
    this.#slots = slots;
  }

  /** How many of `count` chains are taken now. */
  room(count: number): number {
    return this.verdict ? 0 : Math.min(count, this.#slots - this.inFlight.size);
  }

  /** The ring shows this chain under this id. */
  submitted(id: number, offer: Offered): void {
    if (this.inFlight.has(id)) throw new Error(`two chains in flight are called ${id}`);
    this.inFlight.set(id, offer);
  }

  /** Refuses what the device has done. */
  refuse(verdict: number): undefined {
    this.verdict ||= verdict;
    return undefined;
  }

  /** Takes one used buffer, with `bytes` bytes written: what was offered; undefined after a verdict. */
  complete(id: number, bytes: number): Offered | undefined {
    const offer = this.inFlight.get(id);
    if (!offer) return this.refuse(layout.VERDICT_USED_ID);
    if (bytes > offer.writable) return this.refuse(layout.VERDICT_USED_LENGTH);
    this.inFlight.delete(id);
    return offer;
  }
}
