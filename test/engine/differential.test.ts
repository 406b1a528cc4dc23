import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { DRIVER_BYTES, DRIVER_IOVA, DRIVER_LINEAR, Ring } from './fixture.js';
import { generator } from './random.js';
import { type Outcome, type Queue, type Region, referenceChain } from './reference.js';

const SIZE = 16;
const HUGE = 0x10_0000_0000n;
/** Extra regions beside the driver's memory: adjacent, apart in linear memory, with every permission. */
const REGIONS: Region[] = [
  { iova: DRIVER_IOVA, bytes: DRIVER_BYTES, linear: DRIVER_LINEAR, access: 3 },
  { iova: DRIVER_IOVA + BigInt(DRIVER_BYTES), bytes: 4096, linear: DRIVER_LINEAR + 0x40000, access: 3 },
  {
    iova: DRIVER_IOVA + BigInt(DRIVER_BYTES) + 4096n,
    bytes: 4096,
    linear: DRIVER_LINEAR + 0x60000,
    access: 1,
  },
  { iova: 0x1000n, bytes: 4096, linear: DRIVER_LINEAR + 0x80000, access: 1 },
  { iova: 0x2000n, bytes: 4096, linear: DRIVER_LINEAR + 0x82000, access: 2 },
  { iova: 2n ** 64n - 4096n, bytes: 4096, linear: DRIVER_LINEAR + 0x90000, access: 3 },
  // Larger than the memory behind it: only translated, never touched. Lengths here can add up to 2^32.
  { iova: HUGE, bytes: 0xf000_0000, linear: DRIVER_LINEAR, access: 3 },
];

/** Writes random descriptors: mostly sound, so that deep rules are reached, with one field in a few made bad. */
function scribble(
  ring: Ring,
  random: (n: number) => number,
  table: number,
  entries: number,
  allowIndirect: boolean,
): void {
  const edges = [
    ...REGIONS.slice(0, -1).flatMap((r) => [r.iova, r.iova + BigInt(r.bytes) - 8n, r.iova + BigInt(r.bytes)]),
    // Where the difference of two offsets changes its sign.
    ...REGIONS.map((r) => BigInt.asUintN(64, r.iova + 2n ** 63n - 16n)),
    0n,
    2n ** 64n - 1n,
  ];
  for (let i = 0; i < entries; i++) {
    const last = random(3) === 0;
    let iova = DRIVER_IOVA + BigInt(0x20000 + random(0x10000));
    if (random(6) === 0) iova = BigInt.asUintN(64, edges[random(edges.length)]! + BigInt(random(16)));
    let bytes = random(8) ? 1 + random(64) : [0, 1, 4096, 0xffffffff, 9000, 2 ** 31][random(6)]!;
    if (random(6) === 0) {
      iova = HUGE + BigInt(random(4096));
      if (random(2)) bytes = [0x80000000, 0x7fffffff, 0xe0000000][random(3)]!;
    }
    let flags = (last ? 0 : 1) | (random(4) === 0 || last ? 2 : 0);
    if (random(24) === 0) flags = random(8);
    const next = random(10) ? (i + 1) % entries : [random(entries), SIZE, 65535, i][random(4)]!;
    if (allowIndirect && random(4) === 0) {
      const at = ring.buffers + 0x4000 + random(4) * 0x1000 + random(2) * 4;
      const count = random(12) ? 1 + random(5) : random(20);
      const where = random(8) ? ring.iova(at) : REGIONS[1]!.iova + 4096n - 24n;
      ring.descriptor(
        i,
        where,
        random(20) ? count * 16 : random(80),
        random(10) ? 4 : 4 | random(4),
        next,
        table,
      );
      scribble(
        ring,
        random,
        random(8) ? at : DRIVER_LINEAR + 0x40000 + 4096 - 24,
        Math.max(1, count),
        random(8) === 0,
      );
    } else ring.descriptor(i, iova, bytes, flags, next, table);
  }
}

/** What the engine makes of the second chain of the ring, the first one having been sound. */
function engineOutcome(ring: Ring): Outcome {
  const taken = ring.pop(2);
  assert.ok(taken > 0, 'the primer is sound');
  if (taken === 2) {
    const { readable, writable } = ring.chain(1);
    return { readable, writable };
  }
  if (ring.missed()) return { miss: ring.data.getBigUint64(ring.vq + layout.VQ_FAULT_IOVA, true) };
  return { verdict: ring.verdict() };
}

for (const indirect of [false, true])
  test(`random chains get the reference's verdict and segments (${indirect ? 'with' : 'without'} indirect descriptors)`, () => {
    const random = generator(indirect ? 20 : 10);
    const seen = new Map<string, number>();
    const ring = new Ring({ size: SIZE, indirect });
    for (const region of REGIONS.slice(1)) ring.map(region.iova, region.linear, region.bytes, region.access);
    const queue: Queue = { data: ring.data, size: SIZE, desc: ring.desc, indirect, regions: REGIONS };
    for (let run = 0; run < 30000; run++) {
      ring.start();
      scribble(ring, random, ring.desc, SIZE, true);
      const head = random(40) ? random(SIZE) : SIZE + random(3);
      // A sound chain before it makes one of the regions the current one, so that the fast path has its turn.
      const primer = REGIONS.filter((region) => region.access & layout.IOTLB_ACCESS_READ)[
        random(REGIONS.length - 1)
      ]!;
      ring.descriptor(SIZE - 1, primer.iova, 16);
      ring.offer(SIZE - 1, head);
      const expected = referenceChain(queue, head);
      const actual = engineOutcome(ring);
      assert.equal(actual, expected, `run ${run}, head ${head}`);
      const kind =
        'verdict' in expected
          ? `verdict ${expected.verdict}`
          : 'miss' in expected
            ? 'miss'
            : `${expected.readable.length + expected.writable.length} segments`;
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
    }
    // The generator must reach every rule of a single chain, and accept often enough to exercise the fast path.
    // (An address that nothing maps is a miss here: only the host can tell that it will stay one.)
    const { VERDICT_HEAD, VERDICT_INDIRECT_LENGTH, VERDICT_UNMAPPED } = layout;
    const rules = Array.from(
      { length: VERDICT_INDIRECT_LENGTH - VERDICT_HEAD + 1 },
      (_, i) => VERDICT_HEAD + i,
    );
    const verdicts = rules.filter((verdict) => verdict !== VERDICT_UNMAPPED);
    for (const verdict of verdicts) {
      const needsFeature = verdict >= layout.VERDICT_INDIRECT_NEXT;
      const reachable = indirect ? verdict !== layout.VERDICT_INDIRECT_NOT_NEGOTIATED : !needsFeature;
      if (reachable) assert.ok(seen.has(`verdict ${verdict}`), `verdict ${verdict} was never provoked`);
    }
    for (const count of [1, 2, 3, 4])
      assert.ok((seen.get(`${count} segments`) ?? 0) > 100, `chains of ${count} segments`);
    assert.ok(seen.has('miss'));
  });

test.run();
