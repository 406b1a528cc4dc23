/** What a flight recorder tells of a device: the last chains of its queues, as plain data that can be sent as JSON. */

/**
 * 'popped', a device has taken a chain; 'pushed', it has given one back; 'returned', it has put the last ones that it took back
 * on the ring, unseen; 'published', a driver has offered a chain; 'reaped', it has got one back; 'broken', the queue broke.
 */
export type FlightKind = 'popped' | 'pushed' | 'returned' | 'published' | 'reaped' | 'broken';

/** One thing that a queue has done. */
export interface FlightRecord {
  /** How many records of the queue came before. */
  readonly number: number;
  /** Milliseconds since 1970, to a microsecond: when the thread last entered the queue before. */
  readonly time: number;
  readonly kind: FlightKind;
  /**
   * Index of the chain's first descriptor, or of a packed ring its buffer id; of 'returned' that of the first chain; of 'broken'
   * that of the chain, or the index, that broke the queue.
   */
  readonly head: number;
  /** Descriptors of a packed ring that the chain takes. */
  readonly descriptors?: number;
  /**
   * Where on the ring: index of the available entry of what was taken or offered, of the used one of what was given back; of a
   * packed ring index of the descriptor, with the wrap counter in bit 15. Not of 'broken'.
   */
  readonly position?: number;
  /** Pieces of memory that a chain that was popped consists of, readable ones first. */
  readonly segments?: { readonly readable: number; readonly writable: number };
  /** Bytes that the device may read, of what was popped or published; of the latter without headers. */
  readonly readable?: number;
  /** Bytes that the device may write, likewise, with the status. */
  readonly writable?: number;
  /** First 16 bytes of a request of a disk, in hexadecimal. No other device's: they might be payload. */
  readonly header?: string;
  /** Bytes that the device has written, of what was pushed or reaped. */
  readonly written?: number;
  /** How many chains, of 'returned'. */
  readonly chains?: number;
  /** An ErrorCode, of 'broken'. */
  readonly code?: string;
  /** IOVA that could not be reached, of 'broken'. */
  readonly iova?: string;
}

/** The last that a queue has done. */
export interface QueueFlight {
  readonly queue: number;
  readonly ring: 'split' | 'packed';
  /** Entries. */
  readonly size: number;
  /** Chains taken, or offered, and not given back at the moment of the look. */
  readonly inFlight: number;
  /** Records that were ever written; the last of them are there. */
  readonly recorded: number;
  /** Oldest first. */
  readonly records: readonly FlightRecord[];
}

/** What the flight recorders of a device hold. */
export interface Flight {
  readonly device: string;
  readonly side: 'device' | 'driver';
  /** VIRTIO_ID_*. */
  readonly deviceId: number;
  /** Milliseconds since 1970: the moment of the look. */
  readonly time: number;
  /** What broke the device, if that is why it was looked at. */
  readonly error?: { readonly code: string; readonly message: string };
  readonly queues: readonly QueueFlight[];
}

/** How flight recorders are to be kept. */
export interface FlightRecorderOptions {
  /** Chains of each queue that it has room for, from taking to giving back: a power of two from 128 to 32,768; 128 if left out. */
  chains?: number;
  /** Folder in which a file is left when the device breaks; none if left out. It must be there. */
  folder?: string;
}
