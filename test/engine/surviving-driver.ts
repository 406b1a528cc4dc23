import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { PACKED_VRING_BASE_RESET } from '../../host/uapi/vring-base.js';
import type { Ring } from './fixture.js';
import { PackedRing } from './packed-ring.js';

/** One buffer of a chain, in driver memory. */
export interface Buffer {
  /** Linear address. */
  at: number;
  bytes: number;
  writable: boolean;
}

/** A used buffer: the id under which it was offered, and how many bytes the device says that it wrote. */
export interface Reaped {
  id: number;
  bytes: number;
}

/** Tables of a queue, by their pointers in its block, and the bytes of an entry: what a process has for itself. */
const TABLES: readonly [pointer: number, bytes: number][] = [
  [layout.VQ_CHAINS, layout.CHAIN_SIZE],
  [layout.VQ_SEGMENTS, layout.SEGMENT_SIZE],
  [layout.VQ_SNAPSHOT, virtio.VIRTQ_DESC_SIZE],
  [layout.VQ_HEADS, 1],
  [layout.VQ_WRITABLE, 4],
  [layout.VQ_REPLAY, virtio.VIRTQ_DESC_SIZE],
  [layout.VQ_REPLAY_ENTRIES, 2],
  [layout.VQ_FREE_ENTRIES, 2],
];

/**
 * A driver whose device keeps an in-flight log, and may be another one from one moment to the next. It believes nothing: what
 * is used has to be in flight.
 */
export abstract class SurvivingDriver {
  readonly ring: Ring;
  /** By id: the bytes that the device may write, and descriptors of the ring; in the order in which they were offered. */
  protected readonly inFlight = new Map<number, { writable: number; descriptors: number }>();

  constructor(ring: Ring) {
    this.ring = ring;
  }

  /** Offers a chain, through the indirect table at `table` if there is one: its id; undefined if there is no room. */
  abstract offer(buffers: readonly Buffer[], table?: number): number | undefined;

  /** Takes what has been used. */
  abstract reap(): Reaped[];

  /** Has `engine`, of another process, go on: false if the log says that the driver has not started the queue. */
  resume(engine: Ring['engine']): boolean {
    return engine.deviceResume(this.ring.vq) !== 0;
  }

  /** The process that served is gone: nothing but rings, log and the driver's memory is left. */
  forget(): void {
    const { ring } = this;
    const { vq, u8, size } = ring;
    const configuration = u8.slice(vq, vq + layout.VQ_REGION_IOVA);
    u8.fill(0, vq, vq + layout.VQ_BLOCK_SIZE);
    u8.set(configuration, vq);
    for (const [pointer, bytes] of TABLES) {
      const at = ring.u32(vq + pointer);
      u8.fill(0xa5, at, at + size * bytes);
    }
  }

  protected flags(writable: boolean, isLast: boolean): number {
    return (writable ? virtio.VIRTQ_DESC_F_WRITE : 0) | (isLast ? 0 : virtio.VIRTQ_DESC_F_NEXT);
  }
}

/** Over a split ring whose indices are `first` when it starts. */
export class SplitSurvivor extends SurvivingDriver {
  readonly #free: number[];
  /** By head. */
  readonly #descriptors = new Map<number, number[]>();
  #used: number;

  constructor(ring: Ring, first: number) {
    super(ring);
    this.#free = Array.from({ length: ring.size }, (_, index) => index);
    this.#used = first;
    ring.data.setUint16(ring.avail + virtio.VIRTQ_AVAIL_IDX, first, true);
    ring.data.setUint16(ring.used + virtio.VIRTQ_USED_IDX, first, true);
    ring.engine.deviceStart(ring.vq, first);
  }

  override offer(buffers: readonly Buffer[], table?: number): number | undefined {
    const { ring } = this;
    const count = table === undefined ? buffers.length : 1;
    if (count > this.#free.length) return undefined;
    const taken = this.#free.splice(0, count);
    const head = taken[0]!;
    for (const [i, { at, bytes, writable }] of buffers.entries()) {
      const isLast = i === buffers.length - 1;
      const [index, next] = table === undefined ? [taken[i]!, taken[i + 1] ?? 0] : [i, i + 1];
      ring.descriptor(index, ring.iova(at), bytes, this.flags(writable, isLast), isLast ? 0 : next, table);
    }
    if (table !== undefined) {
      const length = buffers.length * virtio.VIRTQ_DESC_SIZE;
      ring.descriptor(head, ring.iova(table), length, virtio.VIRTQ_DESC_F_INDIRECT);
    }
    this.inFlight.set(head, { writable: 0, descriptors: count });
    this.#descriptors.set(head, taken);
    ring.offer(head);
    return head;
  }

  override reap(): Reaped[] {
    const used = this.ring.usedEntries(this.#used);
    this.#used = (this.#used + used.length) & 0xffff;
    for (const { id } of used) {
      assert.ok(this.inFlight.delete(id), `head ${id} is used although it is not in flight`);
      this.#free.push(...this.#descriptors.get(id)!);
    }
    return used;
  }
}

/** Over a packed ring of which `first` descriptors have been used when it starts. */
export class PackedSurvivor extends SurvivingDriver {
  declare readonly ring: PackedRing;
  readonly #inOrder: boolean;
  readonly #ids: number[];
  #free: number;

  constructor(ring: PackedRing, first: number) {
    super(ring);
    this.#inOrder = (ring.u32(ring.vq + layout.VQ_FLAGS) & layout.VQ_F_IN_ORDER) !== 0;
    this.#ids = Array.from({ length: ring.size }, (_, id) => id);
    this.#free = ring.size;
    const laps = Math.floor(first / ring.size);
    const place = { index: first % ring.size, wrap: 1 - (laps % 2) };
    // What the device has used on the laps before.
    for (let index = 0; index < ring.size; index++) {
      const wrap = index < place.index ? place.wrap : 1 - place.wrap;
      const owners = wrap ? virtio.VIRTQ_DESC_F_AVAIL | virtio.VIRTQ_DESC_F_USED : 0;
      ring.place(index, 0n, 0, 0, owners);
    }
    ring.available = place;
    ring.nextUsed = place;
    const position = place.index | (place.wrap << 15);
    const base = first ? (position | (position << 16)) >>> 0 : PACKED_VRING_BASE_RESET;
    ring.engine.deviceStart(ring.vq, base);
  }

  override offer(buffers: readonly Buffer[], table?: number): number | undefined {
    const { ring } = this;
    const count = table === undefined ? buffers.length : 1;
    if (count > this.#free) return undefined;
    this.#free -= count;
    const id = this.#ids.shift()!;
    const writable = buffers.reduce((sum, buffer) => sum + (buffer.writable ? buffer.bytes : 0), 0);
    this.inFlight.set(id, { writable, descriptors: count });
    const list = buffers.map(({ at, bytes, writable }, i) => ({
      iova: ring.iova(at),
      bytes,
      flags: this.flags(writable, table !== undefined || i === buffers.length - 1),
      // Only that of the last one counts.
      id: i === buffers.length - 1 ? id : 0x7777,
    }));
    if (table === undefined) ring.list(...list);
    else ring.list({ ...ring.table(table, ...list), id });
    return id;
  }

  override reap(): Reaped[] {
    const { ring } = this;
    const reaped: Reaped[] = [];
    while (true) {
      const id = ring.u16(ring.desc + ring.nextUsed.index * virtio.VIRTQ_DESC_SIZE + virtio.PVIRTQ_DESC_ID);
      const batch = this.#batchOf(id);
      const descriptors = batch.reduce((sum, one) => sum + this.inFlight.get(one)!.descriptors, 0);
      const used = ring.use(descriptors || 1);
      if (!used) return reaped;
      assert.ok(descriptors, `id ${id} is used although it is not in flight`);
      this.#free += descriptors;
      for (const one of batch) {
        const { writable } = this.inFlight.get(one)!;
        this.inFlight.delete(one);
        this.#ids.push(one);
        reaped.push({ id: one, bytes: one === id ? used.bytes : writable });
      }
    }
  }

  /** The ids that one used descriptor of `id` gives back; none if it is not in flight. */
  #batchOf(id: number): number[] {
    if (!this.inFlight.has(id)) return [];
    if (!this.#inOrder) return [id];
    const ids = [...this.inFlight.keys()];
    return ids.slice(0, ids.indexOf(id) + 1);
  }
}

/** A driver over a ring with a log, of which `first` entries have been used. */
export function survivor(ring: Ring, first: number): SurvivingDriver {
  return ring instanceof PackedRing ? new PackedSurvivor(ring, first) : new SplitSurvivor(ring, first);
}
