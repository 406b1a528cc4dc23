import { PAGE_SIZE } from '../../assembly/layout.js';
import { RingbellError } from '../errors.js';
import { mask } from '../uapi/bits.js';
import { VIRTIO_F_ACCESS_PLATFORM, VIRTIO_F_VERSION_1, VIRTIO_RING_F_INDIRECT_DESC } from '../uapi/virtio.js';

/** Bits that belong to rings and transports ("Reserved Feature Bits"): `serve` decides on those. */
const RESERVED_FIRST = VIRTIO_RING_F_INDIRECT_DESC - 4;
const RESERVED_LAST = 49;
/** Bits that a feature mask has. */
const FEATURE_LIMIT = 63;
/** Bytes; what a chain has at most unless the manifest says otherwise. */
const CHAIN_BYTES = 2 ** 23 + 2 ** 16;
/** Bytes of chains that a queue may have in hand before it takes no more. */
const IN_HAND_BYTES = 2 ** 25;
/** Bytes of a chain that are moved together with those of others: a page of data, and what comes with it. */
const BOUNCE_BYTES = PAGE_SIZE + 256;

/** What a device model is and what it supports. `serve` checks it against what it is asked for. */
export interface Manifest {
  /** VIRTIO_ID_*. */
  readonly deviceId: number;
  /** Bit numbers of the device type that the model can offer, less than 24, or from 50 to 63; none if left out. */
  readonly features?: readonly number[];
  /** How many virtqueues it can have: a number, or a range; 1 if left out. */
  readonly queues?: number | { readonly minimum: number; readonly maximum: number };
  /** How many neighbouring queues share an instance of the model, and so a thread; 1 if left out, 2 where queues come in pairs. */
  readonly queueGroup?: number;
  /** Entries of a queue at least: the longest chain that it must be able to get. 1 if left out. */
  readonly queueSize?: number;
  /** What a queue puts in the model's hands at once, and how large a chain may be. */
  readonly limits?: {
    /** Chains; as many as the queue has entries if left out. */
    readonly inHand?: number;
    /** Bytes of chains in hand, after which no more are taken; 32 MiB if left out. */
    readonly inHandBytes?: number;
    /** Bytes of a chain; a longer one is answered without the model, as failed. 8 MiB and 64 KiB if left out. */
    readonly chainBytes?: number;
    /** Bytes of chains that are moved in bursts, and those of a queue set aside for each; 4,352 if left out. */
    readonly bounceBytes?: number;
  };
}

/** The limits of a manifest, completed. */
export interface Limits {
  inHand: number;
  inHandBytes: number;
  chainBytes: number;
  bounceBytes: number;
}

/** What a device is made of. */
export interface DeviceShape {
  /** Virtqueues. */
  readonly queues: number;
  /** Entries; the largest size of a queue. */
  readonly queueSize: number;
}

/** The limits of `manifest`. */
export function limitsOf({ limits = {} }: Manifest): Limits {
  return {
    inHand: limits.inHand ?? Number.POSITIVE_INFINITY,
    inHandBytes: limits.inHandBytes ?? IN_HAND_BYTES,
    chainBytes: limits.chainBytes ?? CHAIN_BYTES,
    bounceBytes: limits.bounceBytes ?? BOUNCE_BYTES,
  };
}

/** Judges a manifest, and whether it goes with a device of `shape`. Throws TypeError, ERR_ARGUMENT. */
export function checkManifest(manifest: Manifest, { queues, queueSize }: DeviceShape): void {
  if (typeof manifest !== 'object' || manifest === null)
    throw new TypeError('a device model needs a manifest');
  const refuse = (message: string) => {
    throw new RingbellError('ERR_ARGUMENT', message);
  };
  const { deviceId, features = [], queues: range = 1, queueSize: minimumSize = 1 } = manifest;
  const { minimum, maximum } = typeof range === 'number' ? { minimum: range, maximum: range } : range;
  checkPositive('deviceId of the manifest', deviceId);
  checkPositive('queueSize of the manifest', minimumSize);
  checkPositive('queueGroup of the manifest', manifest.queueGroup ?? 1);
  checkPositive('queues of the manifest', minimum);
  checkPositive('queues of the manifest', maximum);
  for (const [name, limit] of Object.entries(manifest.limits ?? {}))
    if (limit !== undefined) checkPositive(`${name} of the manifest`, limit);
  for (const bit of features) checkFeature(bit);
  if (queues < minimum || queues > maximum)
    refuse(
      minimum === maximum
        ? `the model has ${minimum} queue(s), not ${queues}`
        : `the model has ${minimum} to ${maximum} queues, not ${queues}`,
    );
  if (queueSize < minimumSize) refuse(`the model needs queues of ${minimumSize} entries, not ${queueSize}`);
}

/** The mask of `features`, each of which `manifest` must have, with those that every device offers. Throws ERR_ARGUMENT. */
export function offeredFeatures(manifest: Manifest, features: Iterable<number>): bigint {
  const bits = [...features];
  const unknown = bits.find((bit) => !manifest.features?.includes(bit));
  if (unknown !== undefined)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `the model offers feature ${unknown}, which its manifest has not`,
    );
  return mask(VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM, ...bits);
}

function checkPositive(what: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw new RingbellError('ERR_ARGUMENT', `${what} must be a positive integer, not ${value}`);
}

function checkFeature(bit: number): void {
  const reserved = bit >= RESERVED_FIRST && bit <= RESERVED_LAST;
  if (!Number.isInteger(bit) || bit < 0 || bit > FEATURE_LIMIT || reserved)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `features of the manifest are bits of the device type: 0 to ${RESERVED_FIRST - 1} and ${RESERVED_LAST + 1} to ${FEATURE_LIMIT}, not ${bit}`,
    );
}
