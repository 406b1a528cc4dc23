import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import { Ring } from '../../engine/fixture.js';
import type { Region } from '../../virtqueue/regions.js';
import type { Choices } from '../choices.js';
import { type Play, Reached, type Target } from '../target.js';

const CAPACITY = 6;
const LIMIT = 2n ** 64n;
/** Bytes; everything happens near a few places, so that regions meet. */
const UNIT = 4096;
const PLACES = [0n, 0x10000n, 0xffff_f000n, 2n ** 63n - 0x2000n, LIMIT - 0x8000n];
/** Linear memory that regions are said to lie in; nothing is read from it. */
const LINEAR = 0x100000;
/** By the result of iotlbMap. */
const MAP_OUTCOMES = ['mapped', 'exists', 'full', 'invalid'];

/** An address near one of the places. */
function address(choices: Choices): bigint {
  const exact = choices.once(4) ? 0 : choices.below(UNIT);
  return BigInt.asUintN(64, choices.pick(PLACES) + BigInt(choices.below(8) * UNIT + exact));
}

/** What the table must answer: a list of regions, searched from end to end. */
class Table {
  readonly regions: (Omit<Region, 'bytes'> & { bytes: bigint })[] = [];

  map(iova: bigint, bytes: bigint, linear: number, access: number): number {
    if (bytes === 0n || iova + bytes > LIMIT || linear === 0 || BigInt(linear) + bytes > 2n ** 32n)
      return layout.IOTLB_INVALID;
    if (this.regions.some((r) => r.iova < iova + bytes && iova < r.iova + r.bytes))
      return layout.IOTLB_EXISTS;
    if (this.regions.length === CAPACITY) return layout.IOTLB_FULL;
    this.regions.push({ iova, bytes, linear, access });
    return layout.IOTLB_OK;
  }

  unmap(first: bigint, last: bigint): number {
    const kept = this.regions.filter((r) => r.iova > last || r.iova + r.bytes - 1n < first);
    const removed = this.regions.length - kept.length;
    this.regions.splice(0, CAPACITY, ...kept);
    return removed;
  }

  /** Linear address of a range that lies in one piece: page by page, each where the one before it ends. */
  translate(iova: bigint, bytes: number, access: number): number {
    let start = 0;
    for (let at = iova; at < iova + BigInt(bytes); ) {
      const region = this.regions.find((r) => r.iova <= at && at < r.iova + r.bytes);
      if (!region || (region.access & access) !== access) return 0;
      const linear = region.linear + Number(at - region.iova);
      if (at === iova) start = linear;
      if (linear !== start + Number(at - iova)) return 0;
      at = region.iova + region.bytes;
    }
    return start;
  }
}

function playOn(ring: Ring, reached: Reached): Play {
  const { engine, iotlb } = ring;
  return (choices) => {
    engine.iotlbInit(iotlb, CAPACITY);
    const table = new Table();
    const steps = 2 + choices.below(30);
    for (let i = 0; i < steps; i++) {
      const iova = address(choices);
      const generation = ring.u32(iotlb + layout.IOTLB_GENERATION);
      let changes = false;
      switch (choices.below(4)) {
        case 0:
        case 1: {
          const bytes = choices.once(8)
            ? choices.pick([0n, 1n, LIMIT - 1n, 2n ** 32n, 2n ** 32n - BigInt(LINEAR)])
            : BigInt((1 + choices.below(3)) * UNIT);
          const linear = choices.once(16) ? choices.pick([0, 0xffff_f000]) : LINEAR + choices.below(8) * UNIT;
          const access = choices.pick([3, 1, 2]);
          const expected = table.map(iova, bytes, linear, access);
          assert.is(engine.iotlbMap(iotlb, iova, bytes, linear, access), expected, 'iotlbMap');
          changes = expected === layout.IOTLB_OK;
          reached.count(MAP_OUTCOMES[expected]!);
          break;
        }
        case 2: {
          const last = BigInt.asUintN(64, iova + BigInt(choices.below(4 * UNIT)));
          const removed = table.unmap(iova, last);
          assert.is(engine.iotlbUnmap(iotlb, iova, last), removed, 'iotlbUnmap');
          changes = removed > 0;
          reached.count(`${Math.min(removed, 2)} removed`);
          break;
        }
        case 3: {
          const bytes = 1 + choices.below(choices.once(8) ? 2 ** 32 - 1 : 3 * UNIT);
          const access = choices.pick([1, 2, 3]);
          const linear = engine.iotlbTranslate(iotlb, iova, bytes, access) >>> 0;
          assert.is(linear, table.translate(iova, bytes, access), 'iotlbTranslate');
          reached.count(linear ? 'translated' : 'not translated');
          break;
        }
      }
      const changed = ring.u32(iotlb + layout.IOTLB_GENERATION) !== generation;
      assert.is(changed, changes, 'a new generation exactly when something has changed');
    }
    return steps;
  };
}

/** Regions mapped, unmapped and looked up at the edges of each other and of the address space. */
export const iotlb: Target = {
  name: 'iotlb',
  about: 'regions mapped, unmapped and translated, against a list',
  operations: 'calls',
  tested: 20000,
  start: async () => {
    const reached = new Reached();
    return { play: playOn(new Ring({ fence: true }), reached), reached, close: async () => {} };
  },
};
