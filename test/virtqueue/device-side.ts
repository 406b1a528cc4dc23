import type { Element, Segments } from './split-chain.js';

/** A chain that a device has taken, in linear memory. */
export interface Chain extends Segments {
  /** What goes back to the driver: the head of a split chain, the buffer id of a packed one. */
  readonly id: number;
}

/** A chain that a device holds by its addresses. */
export interface Request {
  readonly id: number;
  readonly elements: readonly Element[];
}

/** A used buffer: what was taken, and how many bytes were written to it. */
export interface Used {
  readonly id: number;
  readonly bytes: number;
}

/**
 * What a device does with its side of a virtqueue, whatever the format: the operations of the engine's device side, by the
 * specification and nothing else. What it would write to memory is in `area`, an image of the device area.
 */
export interface DeviceSide {
  /** First VERDICT_*, or 0. */
  readonly verdict: number;
  /** The address at which a region is missing. */
  readonly miss: bigint | undefined;
  /** Chains taken and not given back. */
  readonly inFlight: number;
  /** The area that the device writes, as it must be now. */
  readonly area: Uint8Array;
  /** A region was added: what was missed is looked for again. */
  mapped(): void;
  /** Takes a burst of at most `max` chains. */
  pop(max: number): Chain[];
  /** Gives a burst back: whether the driver is owed an interrupt. */
  push(used: readonly Used[]): boolean;
  /** Asks for notifications: how many chains wait. */
  arm(): number;
  /** Asks for none. */
  disarm(): void;
  /** How many chains wait. */
  pending(): number;
  /** Takes one chain by its addresses. */
  take(): Request | undefined;
  /** Gives one taken chain back, unpublished. */
  finish(request: Request, written: number): void;
  /** Publishes what `finish` gave back: whether the driver is owed an interrupt. */
  publish(): boolean;
}
