import {
  CACHE_LINE,
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  VQ_F_INDIRECT_DESC,
} from '../../assembly/layout.js';
import { VIRTQ_AVAIL_IDX, VIRTQ_DESC_SIZE } from '../../assembly/virtio.js';
import type { Engine } from '../../host/aperture/engine.js';
import type { Memory } from '../../host/aperture/web-assembly.js';
import { loadReference, type ReferenceRing } from '../build.js';
import { TypeScriptRing } from '../reference/ring.js';
import { instantiateLoop, Ring } from './ring.js';

/** Entries of the ring: with its tables it stays within a 32 KiB first-level cache. */
const QUEUE_SIZE = 256;
/** Segments: more than the chains of a burst have descriptors. */
const SEGMENTS = 512;
/** Bytes from one buffer to the next. */
const BUFFER_STRIDE = 2048;
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
  /** Pieces of the IOTLB that the buffers are spread over, in turn. */
  regions: number;
}

/** One implementation of the device side. */
export interface Side {
  /** Begins at this index of both rings. */
  start(index: number): void;
  /** Serves the ring in bursts until it is empty: chains served. */
  drain(burst: number): number;
  /** Sum over linear ^ bytes of every segment since the last call, modulo 2^32. */
  takeDigest(): number;
}

/** One ring, one driver, and the three devices that can serve it in turn. */
export class Sides {
  readonly engine: Side;
  readonly cpp: Side;
  readonly typescript: Side;
  readonly #ring: Ring;
  readonly #driver: ReferenceRing;
  readonly #burst: number;
  /** Chains of one fill: whole bursts, so that no burst is smaller than the work says. */
  readonly #chains: number;
  /** What the first slice added up to. */
  #digest: number | undefined;

  constructor(work: RingWork) {
    const ring = new Ring(QUEUE_SIZE, work.indirect ? VQ_F_INDIRECT_DESC : 0, SEGMENTS);
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
    this.#ring = ring;
    this.#burst = work.burst;
    const reference = new (loadReference().ReferenceRing)(new Uint8Array(ring.memory.buffer), {
      size: ring.size,
      table: ring.table,
      avail: ring.avail,
      used: ring.used,
      flags: ring.flags,
      segmentsCapacity: ring.segmentsCapacity,
      regions: ring.regions,
      descriptors: work.descriptors,
      buffers: BigUint64Array.from(buffers),
      tablesIova: work.indirect ? ring.regions[0]!.iova : 0n,
      tablesLinear: ring.buffers,
    });
    this.#driver = reference;
    this.#chains = Math.floor(reference.slots / work.burst) * work.burst;
    this.cpp = reference;
    this.engine = engineSide(ring, ring.engine, false);
    this.typescript = new TypeScriptRing(ring.memory.buffer, ring);
  }

  /** An engine, released or not, as another side; `tracked`: it marks what it writes. */
  variant(instantiate: (memory: Memory) => Engine, tracked: boolean): Side {
    return engineSide(this.#ring, instantiate(this.#ring.memory), tracked);
  }

  /** Nanoseconds of device time per chain. Throws if the side does not serve every chain, or not what others served. */
  slice(side: Side): number {
    side.start(this.#ring.data.getUint16(this.#ring.avail + VIRTQ_AVAIL_IDX, true));
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
    if (digest !== this.#digest) throw new Error('the sides do not see the same chains');
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

function engineSide(ring: Ring, engine: Engine, tracked: boolean): Side {
  const { vq, data } = ring;
  const loop = instantiateLoop(ring, engine);
  const digest = ring.allocate(CACHE_LINE);
  return {
    start: (index) => {
      ring.track(tracked);
      engine.deviceStart(vq, index);
    },
    drain: (burst) => loop.drain(vq, burst, digest),
    takeDigest: () => {
      const sum = data.getUint32(digest, true);
      data.setUint32(digest, 0, true);
      return sum;
    },
  };
}
