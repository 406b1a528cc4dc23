import { instantiateSync } from '@assemblyscript/loader';
import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import { VIRTQ_AVAIL_RING } from '../../../assembly/virtio.js';
import { buildAssembly } from '../../../bench/build-assembly.js';
import type { Module } from '../../../host/aperture/web-assembly.js';
import { DRIVER_IOVA, DRIVER_LINEAR, Ring } from '../../engine/fixture.js';
import { type SplitTable, segmentsOf, walkChain } from '../../virtqueue/split-chain.js';
import type { Choices } from '../choices.js';
import { Reached, type Target } from '../target.js';
import { REGIONS } from './hostile-memory.js';

/** Rings that one case makes inside WebAssembly. */
const RINGS = 2000;
/** As in assembly/differential.ts. */
const CHAINS = 8;
const TABLES_OFFSET = 0x18000;
/** Place of the driver's own memory among the regions, in the order of their addresses. */
const HOME = REGIONS.filter(({ iova }) => iova < DRIVER_IOVA).length;

interface Differential {
  differ(
    vq: number,
    other: number,
    ring: number,
    iotlb: number,
    regions: number,
    home: number,
    tables: number,
    tablesIova: bigint,
    seed: bigint,
    count: number,
  ): number;
}

/** A queue with a second block beside it: same rings, tables of its own. */
class Pair {
  readonly reached = new Reached();
  readonly #ring = new Ring({ size: 16, indirect: true, fence: true });
  readonly #other: number;
  readonly #module: Differential;

  constructor(module: Module) {
    const ring = this.#ring;
    this.#module = instantiateSync(module, { env: { memory: ring.memory as never } }).instance
      .exports as unknown as Differential;
    for (const region of REGIONS.slice(1)) ring.map(region.iova, region.linear, region.bytes, region.access);
    this.#other = ring.allocate(layout.VQ_BLOCK_SIZE);
    ring.u8.copyWithin(this.#other, ring.vq, ring.vq + layout.VQ_BLOCK_SIZE);
    ring.set(this.#other, {
      [layout.VQ_CHAINS]: ring.allocate(64 * layout.CHAIN_SIZE),
      [layout.VQ_SEGMENTS]: ring.allocate(1024 * layout.SEGMENT_SIZE),
      [layout.VQ_SNAPSHOT]: ring.allocate(17 * 16),
    });
  }

  play(choices: Choices): number {
    const { vq, avail, iotlb, u8 } = this.#ring;
    const seed = (BigInt(choices.below(2 ** 32)) << 32n) | BigInt(choices.below(2 ** 32));
    const tables = DRIVER_LINEAR + TABLES_OFFSET;
    u8.fill(0, tables, tables + 4096);
    u8.fill(0, this.#ring.desc, this.#ring.buffers);
    const tablesIova = this.#ring.iova(tables);
    const arguments_ = [
      vq,
      this.#other,
      avail,
      iotlb,
      REGIONS.length,
      HOME,
      tables,
      tablesIova,
      seed,
      RINGS,
    ] as const;
    const agreed = this.#module.differ(...arguments_);
    if (agreed < RINGS)
      throw new Error(`ring ${agreed} of seed ${seed}: a burst is not what its chains are one by one`);
    this.#compareLast();
    return RINGS;
  }

  /** What both paths have made of the last ring is what the model makes of it. */
  #compareLast(): void {
    const ring = this.#ring;
    const size = ring.u32(ring.vq + layout.VQ_SIZE);
    const last = ring.u32(ring.vq + layout.VQ_LAST_AVAIL);
    const indirect = ring.u32(ring.vq + layout.VQ_FLAGS) !== 0;
    const table: SplitTable = { data: ring.data, size, desc: ring.desc, indirect, regions: REGIONS };
    let room = ring.u32(ring.vq + layout.VQ_SEGMENTS_CAPACITY);
    for (let i = 0; i < Math.min(size, CHAINS); i++) {
      const head = ring.u16(ring.avail + VIRTQ_AVAIL_RING + ((last + i) % size) * 2);
      const chain = walkChain(table, head);
      const expected = Array.isArray(chain) ? segmentsOf(REGIONS, chain, room) : chain;
      if ('noRoom' in expected) return;
      if (!('readable' in expected)) {
        if ('verdict' in expected) assert.is(ring.verdict(), expected.verdict, `verdict on chain ${i}`);
        else {
          assert.ok(ring.missed());
          assert.is(
            ring.data.getBigUint64(ring.vq + layout.VQ_FAULT_IOVA, true),
            expected.miss,
            `miss of chain ${i}`,
          );
        }
        this.reached.count('verdict' in expected ? `verdict ${expected.verdict}` : 'miss');
        return;
      }
      room -= expected.readable.length + expected.writable.length;
      const { readable, writable } = ring.chain(i);
      assert.equal({ readable, writable }, expected, `chain ${i}`);
      this.reached.count(`${readable.length + writable.length} segments`);
    }
  }
}

/** Random rings made and compared inside WebAssembly, so that there can be very many. */
export const differential: Target = {
  name: 'differential',
  about: 'the fast path of split rings against the complete one; one ring in 2,000 against the model too',
  operations: 'rings',
  tested: 200,
  start: async () => {
    const pair = new Pair(await buildAssembly('test/fuzz/assembly/differential.ts'));
    return { play: (choices) => pair.play(choices), reached: pair.reached, close: async () => {} };
  },
};
