import {
  CACHE_LINE,
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  VQ_F_IN_ORDER,
  VQ_F_INDIRECT_DESC,
  VQ_F_PACKED,
} from '../../assembly/layout.js';
import { VIRTQ_AVAIL_IDX, VIRTQ_DESC_SIZE } from '../../assembly/virtio.js';
import type { Module } from '../../host/aperture/web-assembly.js';
import { PACKED_VRING_BASE_RESET } from '../../host/uapi/vring-base.js';
import { loadReference, type PackedReferenceRing, type ReferenceRing } from '../build.js';
import { TypeScriptRing } from '../reference/ring.js';
import { instantiateLoop, Ring } from './ring.js';

/** Entries of the ring: with its tables it stays within a 32 KiB first-level cache. */
const QUEUE_SIZE = 256;
/** Segments: more than the chains of a burst have descriptors. */
const SEGMENTS = 512;
/** Bytes from one buffer to the next. */
const BUFFER_STRIDE = 2048;
/** Bytes of a data descriptor that nobody copies. */
const DATA_BYTES = 2000;
/** Above 2^32, so that no side gets away with 32-bit arithmetic. */
const FIRST_IOVA = 0x1_0000_0000n;
/** Rounds that a slice runs before it measures. */
const WARM_UP_ROUNDS = 8;
/** Rounds with an empty ring that tell what measuring costs. */
const EMPTY_ROUNDS = 31;
/** Chains of a slice: well under a millisecond of device time for the fast sides. */
const SLICE_CHAINS = 16384;

/** What a ring benchmark varies. */
export interface RingWork {
  /** Descriptors of a chain. */
  descriptors: number;
  /** The most chains that a device takes before it publishes. */
  burst: number;
  indirect: boolean;
  /** Format of the ring; 'in order' is a packed one with VIRTIO_F_IN_ORDER, of chains that are only read. */
  format: 'split' | 'packed' | 'in order';
  /** Bytes of a data descriptor that the handler copies; 0 for a handler that looks at no data. */
  copied: number;
  /** Pieces of the IOTLB that the buffers are spread over, in turn. */
  regions: number;
}

/** One implementation of the device side. */
export interface Side {
  /** Begins at this position, as a vring base says it. */
  start(base: number): void;
  /** Serves the ring in bursts until it is empty: chains served. */
  drain(burst: number): number;
  /** Sum over linear ^ bytes of every segment since the last call, modulo 2^32; undefined where nobody sees linear addresses. */
  takeDigest(): number | undefined;
}

/** One ring, one driver, and the devices that can serve it in turn: of a packed ring there is none in TypeScript. */
export class Sides {
  readonly engine: Side;
  readonly cpp: Side;
  readonly typescript: Side | undefined;
  readonly #ring: Ring;
  readonly #usedLength: number;
  /** Where the handler copies segments to; 0 for none. */
  readonly #copyTo: number;
  readonly #driver: ReferenceRing | PackedReferenceRing;
  readonly #restart: (side: Side) => void;
  readonly #burst: number;
  /** Chains of one fill: whole bursts, so that no burst is smaller than the work says. */
  readonly #chains: number;
  /** What the first slice added up to. */
  #digest: number | undefined;

  constructor(work: RingWork) {
    const ring = new Ring(QUEUE_SIZE, flagsOf(work), SEGMENTS);
    const usedLength = work.format === 'in order' ? 0 : 1;
    this.#usedLength = usedLength;
    this.#copyTo = work.copied && ring.allocate(work.copied);
    this.#ring = ring;
    const regionBytes = ring.buffersBytes / work.regions;
    ring.map(
      Array.from({ length: work.regions }, (_, i) => ({
        // Holes between the regions keep neighbours from looking like one.
        iova: FIRST_IOVA + BigInt(i) * BigInt(2 * ring.buffersBytes),
        bytes: BigInt(regionBytes),
        linear: ring.buffers + i * regionBytes,
        access: IOTLB_ACCESS_READ | IOTLB_ACCESS_WRITE,
      })),
    );
    ring.reset();
    const tablesBytes = QUEUE_SIZE * work.descriptors * VIRTQ_DESC_SIZE;
    const firstBuffer = Math.ceil(tablesBytes / BUFFER_STRIDE) * BUFFER_STRIDE;
    const buffers = Array.from({ length: QUEUE_SIZE + work.descriptors }, (_, i) => {
      const region = ring.regions[i % work.regions]!;
      return region.iova + BigInt(firstBuffer + Math.floor(i / work.regions) * BUFFER_STRIDE);
    });
    this.#burst = work.burst;
    const memory = new Uint8Array(ring.memory.buffer);
    const config = {
      size: ring.size,
      table: ring.table,
      avail: ring.avail,
      used: ring.used,
      flags: ring.flags,
      segmentsCapacity: ring.segmentsCapacity,
      regions: ring.regions,
      descriptors: work.descriptors,
      dataBytes: work.copied || DATA_BYTES,
      buffers: BigUint64Array.from(buffers),
      tablesIova: work.indirect ? ring.regions[0]!.iova : 0n,
      tablesLinear: ring.buffers,
      usedLength,
      copyTo: this.#copyTo,
    };
    this.engine = this.variant(false);
    if (work.format === 'split') {
      const reference = new (loadReference().ReferenceRing)(memory, config);
      this.#driver = this.cpp = reference;
      this.typescript = work.copied ? undefined : new TypeScriptRing(ring.memory.buffer, ring);
      // The driver goes on where it is.
      this.#restart = (side) => side.start(ring.data.getUint16(ring.avail + VIRTQ_AVAIL_IDX, true));
    } else {
      const reference = new (loadReference().PackedReferenceRing)(memory, config);
      this.#driver = this.cpp = reference;
      this.typescript = undefined;
      this.#restart = (side) => {
        reference.start();
        side.start(PACKED_VRING_BASE_RESET);
      };
    }
    this.#chains = Math.floor(this.#driver.slots / work.burst) * work.burst;
  }

  /** The engine as another side: as `module` has it, if it is given; `tracked`: it marks what it writes. */
  variant(tracked: boolean, module?: Module): Side {
    const ring = this.#ring;
    const loop = instantiateLoop(ring, module);
    const digest = ring.allocate(CACHE_LINE);
    const [usedLength, to] = [this.#usedLength, this.#copyTo];
    return {
      start: (base) => {
        ring.track(tracked);
        ring.engine.deviceStart(ring.vq, base);
      },
      drain: to
        ? (burst) => loop.drainCopying(ring.vq, burst, digest, usedLength, to)
        : (burst) => loop.drain(ring.vq, burst, digest, usedLength),
      takeDigest: () => {
        const sum = ring.data.getUint32(digest, true);
        ring.data.setUint32(digest, 0, true);
        return sum;
      },
    };
  }

  /** Another side, made on the same ring. */
  side(make: (ring: Ring) => Side): Side {
    return make(this.#ring);
  }

  /** Nanoseconds of device time per chain. Throws if the side does not serve every chain, or not what others served. */
  slice(side: Side): number {
    this.#restart(side);
    side.takeDigest();
    this.#rounds(side, WARM_UP_ROUNDS);
    this.#driver.takeElapsed();
    const rounds = Math.ceil(SLICE_CHAINS / this.#chains);
    this.#rounds(side, rounds);
    const elapsed = this.#driver.takeElapsed();
    const empty: number[] = [];
    for (let i = 0; i < EMPTY_ROUNDS; i++) {
      this.#driver.fill(0);
      side.drain(this.#burst);
      this.#driver.reap();
      empty.push(this.#driver.takeElapsed());
    }
    const overhead = empty.sort((a, b) => a - b)[EMPTY_ROUNDS >> 1]!;
    // Slices are alike: the same chains, as often.
    const digest = side.takeDigest();
    this.#digest ??= digest;
    if (digest !== undefined && digest !== this.#digest)
      throw new Error('the sides do not see the same chains');
    return (elapsed / rounds - overhead) / this.#chains;
  }

  #rounds(side: Side, rounds: number): void {
    for (let i = 0; i < rounds; i++) {
      this.#driver.fill(this.#chains);
      side.drain(this.#burst);
      const served = this.#driver.reap();
      if (served !== this.#chains) throw new Error(`${served} of ${this.#chains} chains were served`);
    }
  }
}

function flagsOf({ indirect, format }: RingWork): number {
  const flags = indirect ? VQ_F_INDIRECT_DESC : 0;
  if (format === 'split') return flags;
  return flags | VQ_F_PACKED | (format === 'in order' ? VQ_F_IN_ORDER : 0);
}
