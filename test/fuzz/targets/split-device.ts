import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import {
  VIRTQ_AVAIL_FLAGS,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_USED_IDX,
} from '../../../assembly/virtio.js';
import { Ring } from '../../engine/fixture.js';
import type { Chain, Request } from '../../virtqueue/device-side.js';
import type { Region } from '../../virtqueue/regions.js';
import { SplitDevice, type SplitQueue } from '../../virtqueue/split-device.js';
import type { Choices } from '../choices.js';
import { Reached, type Stage, type Target } from '../target.js';
import { REGIONS, scribble, wipe } from './hostile-split-ring.js';

const SIZES = [8, 4, 2, 16];
/** Chains and segments that the tables of a small ring hold. */
const SMALL = { burst: 3, segments: 4 };
const LARGE = { burst: 64, segments: 1024 };

/** Outcomes of a chain by its segments; the fast path takes up to three. */
const SEGMENT_NAMES = ['', '1 segment', '2 segments', '3 segments', '4 segments'];

/** The ring of a configuration, made when it is first needed. */
class Rings {
  readonly #rings = new Map<number, { ring: Ring; queue: SplitQueue; regions: Region[] }>();

  choose(choices: Choices, indirectOnly: boolean): { ring: Ring; queue: SplitQueue; regions: Region[] } {
    const size = choices.pick(SIZES);
    const indirect = indirectOnly || choices.once(2);
    const eventIdx = choices.once(2);
    const small = choices.once(4);
    const key = size * 8 + (indirect ? 4 : 0) + (eventIdx ? 2 : 0) + (small ? 1 : 0);
    let made = this.#rings.get(key);
    if (!made) {
      const tables = small ? SMALL : LARGE;
      const ring = new Ring({ size, indirect, eventIdx, fence: true, ...tables });
      const regions: Region[] = [];
      const { data, desc, avail, used } = ring;
      const queue = { data, size, desc, avail, used, indirect, eventIdx, regions, ...tables };
      made = { ring, queue, regions };
      this.#rings.set(key, made);
    }
    return made;
  }
}

/** One case: a queue between the engine and the model, both asked to do the same. */
class Case {
  readonly #ring: Ring;
  readonly #queue: SplitQueue;
  readonly #regions: Region[];
  readonly #choices: Choices;
  readonly #tables: number;
  readonly #model: SplitDevice;
  /** Requests held by both, as the model and as the engine know them. */
  readonly #held: { request: Request; block: number }[] = [];
  readonly #blocks: number[];
  #unpublished = 0;

  readonly #reached: Reached;

  constructor(
    rings: Rings,
    blocksOf: (ring: Ring) => number[],
    choices: Choices,
    tables: number,
    reached: Reached,
  ) {
    const { ring, queue, regions } = rings.choose(choices, tables > 1);
    this.#ring = ring;
    this.#queue = queue;
    this.#regions = regions;
    this.#choices = choices;
    this.#tables = tables;
    this.#reached = reached;
    this.#blocks = blocksOf(ring);
    wipe(ring);
    ring.engine.iotlbInit(ring.iotlb, 32);
    regions.length = 0;
    for (const region of REGIONS) if (!choices.once(8)) this.#map(region);
    const lastAvail = choices.pick([0, 65535, 65530, choices.below(65536)]);
    ring.data.setUint16(ring.avail + VIRTQ_AVAIL_IDX, lastAvail, true);
    ring.data.setUint16(ring.used + VIRTQ_USED_IDX, choices.pick([0, 65535, lastAvail]), true);
    ring.engine.deviceStart(ring.vq, lastAvail);
    for (let i = 0; i < queue.size; i++) scribble(ring, choices, i, tables);
    this.#model = new SplitDevice(queue, lastAvail);
  }

  /** Plays all steps: how many chains were judged. */
  play(): number {
    const choices = this.#choices;
    let chains = 0;
    const asynchronous = choices.once(3);
    for (let steps = 1 + choices.below(6); steps > 0; steps--) {
      if (choices.once(5)) this.#disturb();
      else this.#offer(1 + choices.below(this.#queue.size));
      const before = this.#driverArea();
      chains += asynchronous ? this.#requests() : this.#burst();
      assert.ok(before.equals(this.#driverArea()), 'what the driver owns has changed');
      const image = new Uint8Array(this.#ring.u8.buffer, this.#queue.used, this.#model.area.length);
      if (!Buffer.from(this.#model.area.buffer).equals(image))
        assert.equal([...image], [...this.#model.area]);
      this.#compareState();
      if (this.#model.miss !== undefined) this.#mapAll();
    }
    return Math.max(1, chains);
  }

  /** A burst: taken, and given back at once. */
  #burst(): number {
    const { engine, vq, chains } = this.#ring;
    const choices = this.#choices;
    const max = choices.pick([64, 1, 2, 3, 64, 64]);
    const expected = this.#model.pop(max);
    const count = engine.devicePop(vq, max);
    if (count !== expected.length) assert.is(count, expected.length, 'chains taken');
    let segment = this.#ring.segments;
    const used = [];
    for (let i = 0; i < count; i++) {
      const chain = expected[i]!;
      segment = this.#compareChain(i, segment, chain);
      const bytes = choices.below(32);
      used.push({ id: chain.id, bytes });
      this.#ring.data.setUint32(chains + i * layout.CHAIN_SIZE + layout.CHAIN_COUNTS, bytes, true);
    }
    if (choices.once(4)) this.#compareNotifications();
    const due = this.#model.push(used);
    const pushed = engine.devicePush(vq, count);
    assert.is(pushed, count | (due ? layout.NOTIFY_DUE : 0), 'result of devicePush');
    return count + (this.#model.verdict || this.#model.miss !== undefined ? 1 : 0);
  }

  /** Requests: taken one by one, held, read from, written to, given back in any order. */
  #requests(): number {
    const { engine, vq } = this.#ring;
    const choices = this.#choices;
    let taken = 0;
    while (this.#blocks.length > this.#held.length && !choices.once(4)) {
      const block = this.#blocks.find((at) => !this.#held.some((held) => held.block === at))!;
      const request = this.#model.take();
      assert.is(engine.requestTake(vq, block), request ? 1 : 0, 'requests taken');
      if (!request) break;
      taken++;
      this.#held.push({ request, block });
      assert.is(this.#ring.u32(block + layout.REQUEST_HEAD), request.id, 'head of a request');
      const sum = (writable: boolean) =>
        request.elements.reduce((total, e) => total + (e.writable === writable ? e.bytes : 0), 0);
      assert.is(this.#ring.u32(block + layout.REQUEST_READABLE_BYTES), sum(false), 'readable bytes');
      assert.is(this.#ring.u32(block + layout.REQUEST_WRITABLE_BYTES), sum(true), 'writable bytes');
    }
    while (this.#held.length && !choices.once(3)) {
      const [{ request, block }] = this.#held.splice(choices.below(this.#held.length), 1) as [
        { request: Request; block: number },
      ];
      const written = choices.pick([0, 1, choices.below(256), 0xffffffff]);
      this.#model.finish(request, written);
      engine.requestFinish(vq, block, written);
      // A second time, as a confused model might: nothing happens.
      if (choices.once(8)) engine.requestFinish(vq, block, written);
      this.#unpublished++;
    }
    if (choices.once(4)) this.#compareNotifications();
    if (this.#unpublished) {
      const due = this.#model.publish();
      const result = engine.requestPublish(vq, this.#unpublished);
      assert.is(result, due ? layout.NOTIFY_DUE : 0, 'result of requestPublish');
      this.#unpublished = 0;
    }
    return taken + (this.#model.verdict || this.#model.miss !== undefined ? 1 : 0);
  }

  /** Makes heads available, mostly sound ones. */
  #offer(count: number): void {
    const { data, avail, size } = this.#ring;
    const choices = this.#choices;
    let index = data.getUint16(avail + VIRTQ_AVAIL_IDX, true);
    for (let i = 0; i < count; i++) {
      let head = choices.below(size);
      if (choices.once(40)) head = choices.pick([size, 65535]);
      data.setUint16(avail + VIRTQ_AVAIL_RING + (index % size) * 2, head, true);
      index = (index + 1) & 0xffff;
    }
    data.setUint16(avail + VIRTQ_AVAIL_IDX, index, true);
  }

  /** Something that drivers do to a queue between two bursts, or should not. */
  #disturb(): void {
    const { data, avail, size } = this.#ring;
    const choices = this.#choices;
    const event = avail + VIRTQ_AVAIL_RING + size * 2;
    switch (choices.below(6)) {
      case 0:
        data.setUint16(avail + VIRTQ_AVAIL_FLAGS, choices.pick([0, 1, 2, 0xffff]), true);
        break;
      case 1: {
        const used = data.getUint16(this.#queue.used + VIRTQ_USED_IDX, true);
        data.setUint16(event, choices.pick([used, used + 1, used - 1, choices.below(65536)]), true);
        break;
      }
      case 2:
        scribble(this.#ring, choices, choices.below(size), this.#tables);
        break;
      case 3: {
        const index = data.getUint16(avail + VIRTQ_AVAIL_IDX, true);
        const jump = choices.pick([size, 1, size + 1, 65535, 65536 - size, choices.below(65536)]);
        data.setUint16(avail + VIRTQ_AVAIL_IDX, index + jump, true);
        break;
      }
      case 4:
        this.#unmap(choices.pick(REGIONS));
        break;
      case 5:
        this.#mapAll();
        break;
    }
  }

  #map(region: Region): void {
    this.#regions.push(region);
    this.#ring.map(region.iova, region.linear, region.bytes, region.access);
  }

  #unmap(region: Region): void {
    const at = this.#regions.indexOf(region);
    if (at < 0) return;
    this.#regions.splice(at, 1);
    this.#ring.engine.iotlbUnmap(this.#ring.iotlb, region.iova, region.iova + BigInt(region.bytes) - 1n);
  }

  /** Answers a miss, as the host does: by all there is, and a verdict where that does not help. */
  #mapAll(): void {
    for (const region of REGIONS) if (!this.#regions.includes(region)) this.#map(region);
    this.#model.mapped();
    this.#ring.set(this.#ring.vq, { [layout.VQ_MISS]: 0 });
  }

  #compareChain(index: number, segment: number, { id, readable, writable }: Chain): number {
    const ring = this.#ring;
    const at = ring.chains + index * layout.CHAIN_SIZE;
    const count = readable.length + writable.length;
    const counts = readable.length | (count << 16);
    this.#reached.count(SEGMENT_NAMES[count] ?? 'more segments');
    if (ring.u32(at) !== id || ring.u32(at + layout.CHAIN_COUNTS) !== counts)
      assert.equal(
        [ring.u32(at), ring.u32(at + layout.CHAIN_COUNTS)],
        [id, counts],
        'head and counts of a chain',
      );
    for (const pieces of [readable, writable])
      for (const [linear, bytes] of pieces) {
        if (ring.u32(segment) !== linear || ring.u32(segment + layout.SEGMENT_BYTES) !== bytes)
          assert.equal(ring.chain(index), { head: id, readable, writable });
        segment += layout.SEGMENT_SIZE;
      }
    return segment;
  }

  #compareNotifications(): void {
    const { engine, vq } = this.#ring;
    assert.is(engine.devicePending(vq), this.#model.pending(), 'chains that wait');
    if (this.#choices.once(2)) {
      engine.deviceDisarm(vq);
      this.#model.disarm();
    } else assert.is(engine.deviceArm(vq), this.#model.arm(), 'chains that wait when armed');
  }

  #compareState(): void {
    const ring = this.#ring;
    const { verdict } = this.#model;
    assert.is(ring.verdict(), verdict, 'verdict');
    if (verdict) this.#reached.count(`verdict ${verdict}`);
    const miss = ring.missed() ? ring.data.getBigUint64(ring.vq + layout.VQ_FAULT_IOVA, true) : undefined;
    assert.is(miss, this.#model.miss, 'missing address');
    if (miss !== undefined) this.#reached.count('miss');
    assert.is(ring.u32(ring.vq + layout.VQ_IN_FLIGHT), this.#model.inFlight, 'chains in flight');
  }

  /** Descriptor table and available ring: the device must not write them. */
  #driverArea(): Buffer {
    return Buffer.from(this.#ring.u8.slice(this.#queue.desc, this.#queue.used).buffer);
  }
}

function stage(tables: number): Stage {
  const reached = new Reached();
  const rings = new Rings();
  const blocks = new Map<Ring, number[]>();
  const blocksOf = (ring: Ring): number[] => {
    let made = blocks.get(ring);
    if (!made) {
      const bytes = layout.REQUEST_DESCRIPTORS + (ring.size + 1) * 16;
      made = Array.from({ length: 5 }, () => ring.allocate(bytes));
      blocks.set(ring, made);
    }
    return made;
  };
  return {
    play: (choices) => new Case(rings, blocksOf, choices, tables, reached).play(),
    reached,
    close: async () => {},
  };
}

/** Chains of a hostile driver, taken in bursts or one by one. */
export const splitDevice: Target = {
  name: 'split-device',
  about: 'split rings of a hostile driver, against the model of a device',
  operations: 'chains',
  start: async () => stage(1),
};

/** The same with half of the descriptors referring to indirect tables. */
export const indirectTables: Target = {
  name: 'indirect-tables',
  about: 'indirect tables of a hostile driver: nested, torn by regions, over the ring itself',
  operations: 'chains',
  start: async () => stage(4),
};
