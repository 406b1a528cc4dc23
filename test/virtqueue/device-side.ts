import type { Element, Segments } from './split-chain.js';
import type { Writes } from './writes.js';

/** A chain that a device has taken, in linear memory. */
export interface Chain extends Segments {
  /** The head of a split chain; the buffer id of a packed one | the descriptors of the ring that it takes << 16. */
  readonly head: number;
}

/** A chain that a device holds by its addresses. */
export interface Request {
  readonly head: number;
  readonly elements: readonly Element[];
}

/** A used buffer: what was taken, and how many bytes were written to it. */
export interface Used {
  readonly head: number;
  readonly bytes: number;
}

/**
 * What a device does with its side of a virtqueue, whatever the format: the operations of the engine's device side, by the
 * specification and nothing else. What it would write to memory is in `writes`.
 */
export interface DeviceSide {
  /** First VERDICT_*, or 0. A device model that refuses a chain sets it. */
  verdict: number;
  /** The address at which a region is missing. */
  readonly miss: bigint | undefined;
  /** Chains taken and not given back. */
  readonly inFlight: number;
  readonly writes: Writes;
  /** A region was added: what was missed is looked for again. */
  mapped(): void;
  /** Takes a burst of at most `max` chains. */
  pop(max: number): Chain[];
  /** Gives the first chains of the last burst back: whether the driver is owed an interrupt. */
  push(used: readonly Used[]): boolean;
  /** Asks for notifications: what `pending` says then. */
  arm(): number;
  /** Asks for none. */
  disarm(): void;
  /** At least how many chains wait. */
  pending(): number;
  /** Takes one chain by its addresses. */
  take(): Request | undefined;
  /** Gives one taken chain back, unpublished. */
  finish(request: Request, written: number): void;
  /** Publishes what `finish` gave back: whether the driver is owed an interrupt. */
  publish(): boolean;
}
