import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import { VIRTQ_DESC_SIZE } from '../../../assembly/virtio.js';
import { Ring } from '../../engine/fixture.js';
import type { Chain, DeviceSide, Request } from '../../virtqueue/device-side.js';
import type { Region } from '../../virtqueue/regions.js';
import type { Choices } from '../choices.js';
import { Reached, type Stage, type Target } from '../target.js';
import type { HostileDriver } from './hostile-driver.js';
import { REGIONS, wipeMemory } from './hostile-memory.js';
import { HostilePackedDriver } from './hostile-packed-driver.js';
import { HostileSplitDriver } from './hostile-split-driver.js';

const SPLIT_SIZES = [8, 4, 2, 16];
const PACKED_SIZES = [8, 3, 1, 16, 5];
/** Chains and segments that the tables of a small ring hold. */
const SMALL = { burst: 3, segments: 4 };
const LARGE = { burst: 64, segments: 1024 };
/** Requests that are held at a time. */
const HELD = 5;

/** Outcomes of a chain by its segments; the fast path takes up to three. */
const SEGMENT_NAMES = ['', '1 segment', '2 segments', '3 segments', '4 segments'];

interface Setting {
  packed: boolean;
  size: number;
  indirect: boolean;
  eventIdx: boolean;
  inOrder: boolean;
  small: boolean;
}

/** A ring with what a case needs beside it. */
interface Place {
  ring: Ring;
  regions: Region[];
  /** Request blocks. */
  blocks: number[];
}

/** The ring of a setting, made when it is first needed. */
class Places {
  readonly #places = new Map<string, Place>();

  at({ small, ...setting }: Setting): Place {
    const key = Object.values({ small, ...setting }).join();
    let made = this.#places.get(key);
    if (!made) {
      const ring = new Ring({ ...setting, fence: true, ...(small ? SMALL : LARGE) });
      const bytes = layout.REQUEST_DESCRIPTORS + (ring.size + 1) * VIRTQ_DESC_SIZE;
      made = { ring, regions: [], blocks: Array.from({ length: HELD }, () => ring.allocate(bytes)) };
      this.#places.set(key, made);
    }
    return made;
  }
}

/** One case: a queue between the engine and the model, both asked to do the same. */
class Case {
  readonly #ring: Ring;
  readonly #regions: Region[];
  readonly #choices: Choices;
  readonly #driver: HostileDriver;
  readonly #model: DeviceSide;
  /** Requests held by both, as the model and as the engine know them. */
  readonly #held: { request: Request; block: number }[] = [];
  readonly #blocks: number[];
  readonly #reached: Reached;
  #unpublished = 0;

  constructor(places: Places, setting: Setting, choices: Choices, tables: number, reached: Reached) {
    const { ring, regions, blocks } = places.at(setting);
    this.#ring = ring;
    this.#regions = regions;
    this.#blocks = blocks;
    this.#choices = choices;
    this.#reached = reached;
    wipeMemory(ring);
    ring.engine.iotlbInit(ring.iotlb, 32);
    regions.length = 0;
    for (const region of REGIONS) if (!choices.once(8)) this.#map(region);
    const { data, size, desc, avail, used } = ring;
    const queue = { ...setting, ...(setting.small ? SMALL : LARGE), data, size, desc, avail, used, regions };
    const Driver = setting.packed ? HostilePackedDriver : HostileSplitDriver;
    this.#driver = new Driver(ring, queue, choices, tables);
    this.#model = this.#driver.model;
  }

  /** Plays all steps: how many chains were judged. */
  play(): number {
    const choices = this.#choices;
    const { u8, desc, buffers } = this.#ring;
    let chains = 0;
    const asynchronous = choices.once(3);
    for (let steps = 1 + choices.below(6); steps > 0; steps--) {
      if (choices.once(5)) this.#disturb();
      else this.#driver.offer(1 + choices.below(this.#ring.size));
      // Rings and slots: the device writes there what the model does, and nothing else.
      const image = u8.slice(desc, buffers);
      chains += asynchronous ? this.#requests() : this.#burst();
      this.#model.writes.apply(new DataView(image.buffer), desc);
      const actual = u8.subarray(desc, buffers);
      if (Buffer.compare(image, actual)) {
        const at = image.findIndex((byte, i) => byte !== actual[i]);
        assert.is(actual[at], image[at], `byte ${at} of the rings`);
      }
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
      const bytes = choices.once(2)
        ? choices.below(32)
        : chain.writable.reduce((sum, [, length]) => sum + length, 0);
      used.push({ head: chain.head, bytes });
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
      assert.is(this.#ring.u32(block + layout.REQUEST_HEAD), request.head, 'head of a request');
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

  /** The driver misbehaves, or the mappings change. */
  #disturb(): void {
    const choices = this.#choices;
    switch (choices.below(3)) {
      case 0:
        this.#driver.disturb();
        break;
      case 1:
        this.#unmap(choices.pick(REGIONS));
        break;
      case 2:
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

  #compareChain(index: number, segment: number, { head, readable, writable }: Chain): number {
    const ring = this.#ring;
    const at = ring.chains + index * layout.CHAIN_SIZE;
    const count = readable.length + writable.length;
    const counts = readable.length | (count << 16);
    this.#reached.count(SEGMENT_NAMES[count] ?? 'more segments');
    assert.is(ring.u32(at), head, 'head of a chain');
    assert.is(ring.u32(at + layout.CHAIN_COUNTS), counts, 'counts of a chain');
    for (const pieces of [readable, writable])
      for (const [linear, bytes] of pieces) {
        if (ring.u32(segment) !== linear || ring.u32(segment + layout.SEGMENT_BYTES) !== bytes)
          assert.equal(ring.chain(index), { head, readable, writable });
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
}

/** A stage that plays rings of the formats given. */
function stage(formats: readonly boolean[], tables: number): Stage {
  const reached = new Reached();
  const places = new Places();
  const play = (choices: Choices) => {
    const packed = choices.pick(formats);
    const setting = {
      packed,
      size: choices.pick(packed ? PACKED_SIZES : SPLIT_SIZES),
      indirect: tables > 1 || choices.once(2),
      eventIdx: choices.once(2),
      small: choices.once(4),
      inOrder: packed && choices.once(3),
    };
    return new Case(places, setting, choices, tables, reached).play();
  };
  return { play, reached, close: async () => {} };
}

/** Chains of a hostile driver, taken in bursts or one by one. */
export const splitDevice: Target = {
  name: 'split-device',
  about: 'split rings of a hostile driver, against the model of a device',
  operations: 'chains',
  tested: 10000,
  start: async () => stage([false], 1),
};

/** The same on packed rings of any size. */
export const packedDevice: Target = {
  name: 'packed-device',
  about: 'packed rings of a hostile driver, in order too, against the model of a device',
  operations: 'chains',
  tested: 10000,
  start: async () => stage([true], 1),
};

/** Both with half of the descriptors referring to indirect tables. */
export const indirectTables: Target = {
  name: 'indirect-tables',
  about: 'indirect tables of a hostile driver: nested, torn by regions, over the ring itself',
  operations: 'chains',
  tested: 10000,
  start: async () => stage([false, true], 4),
};
