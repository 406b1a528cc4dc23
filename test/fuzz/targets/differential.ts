import { instantiateSync } from '@assemblyscript/loader';
import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import { buildAssembly } from '../../../bench/build-assembly.js';
import type { Module } from '../../../host/aperture/web-assembly.js';
import { DRIVER_IOVA, DRIVER_LINEAR, Ring } from '../../engine/fixture.js';
import type { DeviceSide } from '../../virtqueue/device-side.js';
import { PackedDevice } from '../../virtqueue/packed-device.js';
import { PackedPlace } from '../../virtqueue/packed-place.js';
import type { Region } from '../../virtqueue/regions.js';
import { SplitDevice } from '../../virtqueue/split-device.js';
import type { Choices } from '../choices.js';
import { Reached, type Target } from '../target.js';
import { REGIONS } from './hostile-memory.js';

/** The most rings that one case makes inside WebAssembly: a quarter of it on average. */
const RINGS = 4096;
/** Chains that a burst takes at most, as in the modules. */
const CHAINS = 10;
const TABLES_OFFSET = 0x18000;
const TABLES_BYTES = 4096;
/** Place of the driver's own memory among the regions, in the order of their addresses. */
const HOME = REGIONS.filter(({ iova }) => iova < DRIVER_IOVA).length;

interface Differential {
  differ(
    vq: number,
    other: number,
    regions: number,
    home: number,
    tables: number,
    tablesIova: bigint,
    seed: bigint,
    first: number,
    end: number,
  ): number;
}

/** A queue with a second block beside it: same rings, tables of its own. */
class Pair {
  readonly reached = new Reached();
  readonly #ring: Ring;
  readonly #other: number;
  readonly #module: Differential;

  constructor(module: Module, packed: boolean) {
    const ring = new Ring({ size: 16, indirect: true, packed, fence: true });
    this.#ring = ring;
    this.#module = instantiateSync(module, { env: { memory: ring.memory as never } }).instance
      .exports as unknown as Differential;
    this.#other = ring.allocate(layout.VQ_BLOCK_SIZE);
    ring.u8.copyWithin(this.#other, ring.vq, ring.vq + layout.VQ_BLOCK_SIZE);
    ring.set(this.#other, {
      [layout.VQ_CHAINS]: ring.allocate(64 * layout.CHAIN_SIZE),
      [layout.VQ_SEGMENTS]: ring.allocate(1024 * layout.SEGMENT_SIZE),
      [layout.VQ_SNAPSHOT]: ring.allocate(17 * 16),
    });
  }

  play(choices: Choices): number {
    const ring = this.#ring;
    const { vq, u8 } = ring;
    const seed = (BigInt(choices.below(2 ** 32)) << 32n) | BigInt(choices.below(2 ** 32));
    const last = choices.below(RINGS);
    const first = last - choices.below(last + 1);
    ring.engine.iotlbInit(ring.iotlb, 32);
    for (const { iova, linear, bytes, access } of REGIONS) ring.map(iova, linear, bytes, access);
    ring.data.setBigUint64(vq + layout.VQ_REGION_BYTES, 0n, true);
    const tables = DRIVER_LINEAR + TABLES_OFFSET;
    u8.fill(0, tables, tables + TABLES_BYTES);
    u8.fill(0, ring.desc, ring.buffers);
    const tablesIova = ring.iova(tables);
    const memory = [REGIONS.length, HOME, tables, tablesIova] as const;
    const agreed = this.#module.differ(vq, this.#other, ...memory, seed, first, last + 1);
    if (agreed <= last)
      throw new Error(`ring ${agreed} of seed ${seed}: a burst is not what its chains are one by one`);
    this.#compareLast();
    return last - first + 1;
  }

  /** What both paths have made of the last ring is what the model makes of it. */
  #compareLast(): void {
    const ring = this.#ring;
    const model = this.#model();
    const chains = model.pop(CHAINS);
    for (const [i, { head, readable, writable }] of chains.entries()) {
      assert.equal(ring.chain(i), { head, readable, writable }, `chain ${i}`);
      this.reached.count(`${Math.min(readable.length + writable.length, 4)} segments`);
    }
    assert.is(ring.verdict(), model.verdict, 'verdict');
    if (model.verdict) this.reached.count(`verdict ${model.verdict}`);
    const miss = ring.missed() ? ring.data.getBigUint64(ring.vq + layout.VQ_FAULT_IOVA, true) : undefined;
    assert.is(miss, model.miss, 'missing address');
    if (miss !== undefined) this.reached.count('miss');
  }

  /** The model of the device as it was before the last burst, which the other block still says. */
  #model(): DeviceSide {
    const ring = this.#ring;
    const { data, packed, desc, avail, used } = ring;
    const other = this.#other;
    const size = ring.u32(other + layout.VQ_SIZE);
    const flags = ring.u32(other + layout.VQ_FLAGS);
    const queue = {
      data,
      size,
      desc,
      avail,
      used,
      indirect: (flags & layout.VQ_F_INDIRECT_DESC) !== 0,
      inOrder: (flags & layout.VQ_F_IN_ORDER) !== 0,
      eventIdx: false,
      burst: CHAINS,
      segments: ring.u32(other + layout.VQ_SEGMENTS_CAPACITY),
      regions: this.#regions(),
    };
    const last = ring.u32(other + layout.VQ_LAST_AVAIL);
    if (!packed) return new SplitDevice(queue, last);
    const place = (value: number) => new PackedPlace(size, value & 0x7fff, value >>> 15 === 1);
    return new PackedDevice(queue, place(last), place(ring.u32(other + layout.VQ_USED)));
  }

  /** The regions as they have become. */
  #regions(): Region[] {
    const { data, iotlb } = this.#ring;
    return Array.from({ length: REGIONS.length }, (_, i) => {
      const entry = iotlb + layout.IOTLB_ENTRIES + i * layout.IOTLB_ENTRY_SIZE;
      return {
        iova: data.getBigUint64(entry + layout.IOTLB_ENTRY_IOVA, true),
        bytes: Number(data.getBigUint64(entry + layout.IOTLB_ENTRY_BYTES, true)),
        linear: data.getUint32(entry + layout.IOTLB_ENTRY_LINEAR, true),
        access: 3 & ~data.getUint32(entry + layout.IOTLB_ENTRY_DENY, true),
      };
    });
  }
}

function target(format: 'split' | 'packed', about: string): Target {
  return {
    name: `${format}-differential`,
    about,
    operations: 'rings',
    tested: 400,
    start: async () => {
      const module = await buildAssembly(`test/fuzz/assembly/${format}-differential.ts`);
      const pair = new Pair(module, format === 'packed');
      return { play: (choices) => pair.play(choices), reached: pair.reached, close: async () => {} };
    },
  };
}

/** Random rings made and compared inside WebAssembly, so that there can be very many. */
export const splitDifferential = target(
  'split',
  'the fast path of split rings against the complete one; of each case the last ring against the model, too',
);

/** The same for packed rings. */
export const packedDifferential = target(
  'packed',
  'the fast path of packed rings of any size, in order too, against the complete one, and the model',
);
