import { readFileSync } from 'node:fs';
import { instantiateSync } from '@assemblyscript/loader';
import {
  BOUNCE_MAP_SIZE,
  COMPLETION_SIZE,
  COMPLETION_STATUS,
  DISK_BLOCK_SIZE,
  DISK_CAPACITY,
  DISK_LINEAR,
  DOMAIN_BITMAP,
  DOMAIN_BLOCK_SIZE,
  DOMAIN_BOUNCE,
  DOMAIN_MAPS,
  DOMAIN_PAGES,
  DQ_BLOCK_SIZE,
  DQ_DESC,
  DQ_DEVICE,
  DQ_DOMAIN,
  DQ_DRIVER,
  DQ_FREE_STACK,
  DQ_IOVA_DELTA,
  DQ_REAPED,
  DQ_SIZE,
  DQ_SLOT_DESCRIPTORS,
  DQ_SLOT_MEMORY,
  DQ_SLOT_STATE,
  DQ_SLOTS,
  FRAME_SIZE,
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  PAGE_SIZE,
  SLOT_DESCRIPTORS,
  SLOT_SIZE,
  SLOT_STATE_SIZE,
  SUBMISSION_BYTES,
  SUBMISSION_LINEAR,
  SUBMISSION_SECTOR,
  SUBMISSION_SIZE,
  SUBMISSION_TAG,
  SUBMISSION_TYPE,
} from '../../assembly/layout.js';
import {
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from '../../assembly/virtio.js';
import { Module } from '../../host/aperture/web-assembly.js';
import { assemblyFile, loadReference } from '../build.js';
import { Ring } from '../ring/ring.js';

const QUEUE_SIZE = 256;
const SEGMENTS = 1024;
const SLOTS = Math.floor(QUEUE_SIZE / SLOT_DESCRIPTORS);
/** Above 2^32, so that no side gets away with 32-bit arithmetic. */
const IOVA = 0x1_0000_0000n;
/** Bytes; with the buffers it fits a second-level cache, or the benchmark would measure memory. */
const DISK_BYTES = 2 ** 18;
/** Requests of a slice. */
const SLICE_REQUESTS = 8192;

/** What bench/assembly/round-trip.ts exports. */
interface RoundTripLoop {
  roundTrips(
    dq: number,
    vq: number,
    disk: number,
    submissions: number,
    completions: number,
    batch: number,
    times: number,
  ): number;
}

/** What a batch is like. */
export interface DisksOptions {
  /** Requests. */
  batch: number;
  /** Bytes of each. */
  bytes: number;
  /** Whether they are writes. */
  write?: boolean;
  /** Whether their data goes through bounce buffers. */
  bounce?: boolean;
}

/** Both sides of a block device on one ring: what engine.wasm needs in memory, and the C++ that works on the same ring. */
export class Disks {
  readonly ring = new Ring(QUEUE_SIZE, 0, SEGMENTS);
  readonly dq = this.ring.allocate(DQ_BLOCK_SIZE);
  readonly disk = this.ring.allocate(DISK_BLOCK_SIZE);
  readonly diskLinear = this.ring.allocate(DISK_BYTES, PAGE_SIZE);
  readonly submissions: number;
  readonly completions: number;
  readonly #batch: number;

  /** A batch of requests spread over the disk. */
  constructor({ batch, bytes, write = false, bounce = false }: DisksOptions) {
    const { ring } = this;
    const { data } = ring;
    this.#batch = batch;
    this.submissions = ring.allocate(batch * SUBMISSION_SIZE);
    this.completions = ring.allocate(batch * COMPLETION_SIZE);
    const access = IOTLB_ACCESS_READ | IOTLB_ACCESS_WRITE;
    ring.map([{ iova: IOVA, bytes: BigInt(ring.buffersBytes), linear: ring.buffers, access }]);
    const fields: [number, number][] = [
      [this.dq + DQ_SIZE, QUEUE_SIZE],
      [this.dq + DQ_DESC, ring.table],
      [this.dq + DQ_DRIVER, ring.avail],
      [this.dq + DQ_DEVICE, ring.used],
      [this.dq + DQ_SLOTS, SLOTS],
      [this.dq + DQ_SLOT_MEMORY, ring.buffers],
      [this.dq + DQ_SLOT_STATE, ring.allocate(SLOTS * SLOT_STATE_SIZE)],
      [this.dq + DQ_FREE_STACK, ring.allocate(SLOTS * Uint16Array.BYTES_PER_ELEMENT)],
      [this.dq + DQ_SLOT_DESCRIPTORS, SLOT_DESCRIPTORS],
      [this.dq + DQ_REAPED, ring.allocate(SLOTS * FRAME_SIZE)],
      [this.disk + DISK_LINEAR, this.diskLinear],
    ];
    for (const [address, value] of fields) data.setUint32(address, value, true);
    data.setBigUint64(this.dq + DQ_IOVA_DELTA, IOVA - BigInt(ring.buffers), true);
    data.setBigUint64(this.disk + DISK_CAPACITY, BigInt(DISK_BYTES / VIRTIO_BLK_SECTOR_SIZE), true);
    const firstBuffer = ring.buffers + Math.ceil((SLOTS * SLOT_SIZE) / PAGE_SIZE) * PAGE_SIZE;
    for (let i = 0; i < batch; i++) {
      const at = this.submissions + i * SUBMISSION_SIZE;
      const offset = (i * bytes) % DISK_BYTES;
      data.setUint32(at + SUBMISSION_TYPE, write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, true);
      data.setUint32(at + SUBMISSION_TAG, i, true);
      data.setBigUint64(at + SUBMISSION_SECTOR, BigInt(offset / VIRTIO_BLK_SECTOR_SIZE), true);
      data.setUint32(at + SUBMISSION_LINEAR, firstBuffer + i * bytes, true);
      data.setUint32(at + SUBMISSION_BYTES, bytes, true);
    }
    if (bounce) this.#bounce(firstBuffer + batch * bytes, Math.ceil(bytes / PAGE_SIZE) * batch);
  }

  /** Puts an IOVA domain of `pages` pages at `linear` between the driver's memory and the device. */
  #bounce(linear: number, pages: number): void {
    const { ring } = this;
    const domain = ring.allocate(DOMAIN_BLOCK_SIZE);
    const fields: [number, number][] = [
      [domain + DOMAIN_BOUNCE, Math.ceil(linear / PAGE_SIZE) * PAGE_SIZE],
      [domain + DOMAIN_PAGES, pages],
      [domain + DOMAIN_BITMAP, ring.allocate(Math.ceil(pages / 64) * 8)],
      [domain + DOMAIN_MAPS, ring.allocate(pages * BOUNCE_MAP_SIZE)],
      [this.dq + DQ_DOMAIN, domain],
    ];
    for (const [address, value] of fields) ring.data.setUint32(address, value, true);
  }

  /**
   * The engine's loop: round trips of the batch, how many requests completed. `tracked`: it marks what it writes; `module` is
   * one made from bench/assembly/round-trip.ts otherwise.
   */
  engineLoop(
    tracked = false,
    module = new Module(readFileSync(assemblyFile('round-trip'))),
  ): (times: number) => number {
    const { ring, dq, disk, submissions, completions } = this;
    const imports = { env: { memory: ring.memory } };
    const loop = instantiateSync(module as never, imports as never).instance
      .exports as unknown as RoundTripLoop;
    return (times) => {
      ring.track(tracked);
      ring.engine.driverStart(dq);
      ring.engine.deviceStart(ring.vq, 0);
      return loop.roundTrips(dq, ring.vq, disk, submissions, completions, this.#batch, times);
    };
  }

  /** The same loop in C++. */
  cppLoop(): (times: number) => number {
    const { ring, submissions, completions } = this;
    const { ReferenceDisk } = loadReference();
    const config = {
      size: ring.size,
      table: ring.table,
      avail: ring.avail,
      used: ring.used,
      flags: ring.flags,
      segmentsCapacity: ring.segmentsCapacity,
      regions: ring.regions,
      slots: ring.buffers,
      disk: this.diskLinear,
      sectors: DISK_BYTES / VIRTIO_BLK_SECTOR_SIZE,
    };
    return (times) => {
      ring.engine.driverStart(this.dq);
      const disk = new ReferenceDisk(new Uint8Array(ring.memory.buffer), config);
      return disk.loop(submissions, completions, this.#batch, times);
    };
  }

  /** Requests per second of a loop. Throws unless every request of its last batch completed well. */
  measure(loop: (times: number) => number): number {
    const times = Math.ceil(SLICE_REQUESTS / this.#batch);
    const start = performance.now();
    const completed = loop(times);
    const seconds = (performance.now() - start) / 1000;
    if (completed !== times * this.#batch)
      throw new Error(`${completed} of ${times * this.#batch} requests completed`);
    for (let i = 0; i < this.#batch; i++) {
      const at = this.completions + i * COMPLETION_SIZE + COMPLETION_STATUS;
      const status = this.ring.data.getUint32(at, true);
      if (status !== VIRTIO_BLK_S_OK) throw new Error(`a request ended with status ${status}`);
    }
    return completed / seconds;
  }
}
