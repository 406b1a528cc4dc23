import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import {
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from '../../assembly/virtio.js';
import { PACKED_VRING_BASE_RESET } from '../../host/uapi/vring-base.js';
import { DRIVER_BYTES, DRIVER_IOVA, DRIVER_LINEAR } from './fixture.js';
import { PackedRing } from './packed-ring.js';
import { generator } from './random.js';

const SIZE = 13;
/** The most that one pop takes: one and a half times what is taken four at a time. */
const CHAINS = 6;
/** The most that is taken chain by chain. */
const FEW = 2;
const NEIGHBOUR = DRIVER_IOVA + BigInt(DRIVER_BYTES);
const READ_ONLY = 0x1000n;
const HUGE = 0x10_0000_0000n;
/** What becomes the current region in turn: the driver's memory, a read-only one, one larger than the memory behind it. */
const CURRENT = [
  { iova: DRIVER_IOVA, bytes: DRIVER_BYTES, linear: DRIVER_LINEAR, deny: 0 },
  { iova: READ_ONLY, bytes: 4096, linear: DRIVER_LINEAR + 0x80000, deny: VIRTQ_DESC_F_WRITE },
  { iova: HUGE, bytes: 0xf000_0000, linear: DRIVER_LINEAR, deny: 0 },
];

/**
 * Random descriptors from `table` on: mostly sound and in the region `home`, so that deep rules are reached, with one field in
 * a few made bad. Of `singles` descriptors one goes on.
 */
function scribble(
  ring: PackedRing,
  random: (n: number) => number,
  home: bigint,
  singles: number,
  table = ring.desc,
  entries = SIZE,
): void {
  const isRing = table === ring.desc;
  for (let i = 0; i < entries; i++) {
    let iova = home + BigInt(random(4000));
    if (random(12) === 0)
      iova = [READ_ONLY, READ_ONLY + 4090n, NEIGHBOUR - 8n, NEIGHBOUR, HUGE, 0n, 2n ** 64n - 8n][random(7)]!;
    let bytes = random(12) ? 1 + random(64) : [0, 1, 4096, 0xffff_ffff, 9000, 2 ** 31][random(6)]!;
    if (home === HUGE && random(3) === 0) bytes = [0x8000_0000, 0x7fff_ffff, 0xe000_0000][random(3)]!;
    const last = random(singles) !== 0;
    let flags = (last ? 0 : VIRTQ_DESC_F_NEXT) | (random(3) === 0 ? VIRTQ_DESC_F_WRITE : 0);
    if (random(24) === 0) flags = random(8);
    if (isRing && random(4) === 0) {
      const at = ring.buffers + random(4) * 0x1000 + random(2) * 4;
      const count = random(12) ? 1 + random(4) : random(SIZE + 2);
      iova = random(8) ? ring.iova(at) : NEIGHBOUR - 24n;
      bytes = random(20) ? count * 16 : random(80);
      flags = VIRTQ_DESC_F_INDIRECT | (random(10) ? 0 : random(4));
      scribble(ring, random, home, singles, at, count);
    }
    if (isRing) flags |= random(20) ? VIRTQ_DESC_F_AVAIL : random(2) ? VIRTQ_DESC_F_USED : 0;
    ring.place(i, iova, bytes, random(65536), flags, table);
  }
  // A parser that goes on behind the end of the ring finds something to take.
  if (isRing)
    for (const i of [SIZE, SIZE + 1])
      ring.place(i, home + 99n, 9, 9, VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_WRITE, table);
}

/** Makes `region` the current one; none, so that the slow path has to find it. */
function current(ring: PackedRing, region?: (typeof CURRENT)[number]): void {
  const { iova, bytes, linear, deny } = region ?? { iova: 0n, bytes: 0, linear: 0, deny: 0 };
  ring.data.setBigUint64(ring.vq + layout.VQ_REGION_IOVA, iova, true);
  ring.data.setBigUint64(ring.vq + layout.VQ_REGION_BYTES, BigInt(bytes), true);
  ring.data.setUint32(ring.vq + layout.VQ_REGION_LINEAR, linear, true);
  ring.data.setUint32(ring.vq + layout.VQ_REGION_DENY, deny, true);
  const generation = ring.u32(ring.iotlb + layout.IOTLB_GENERATION);
  ring.data.setUint32(ring.vq + layout.VQ_REGION_GENERATION, generation, true);
}

/** Everything about a chain of the last pop. */
const chainOf = (ring: PackedRing, index: number) => ({
  ...ring.buffer(index),
  ...ring.chain(index),
  bytes: ring.u32(ring.u32(ring.vq + layout.VQ_WRITABLE) + index * 4),
});

/** What the chains from `place` on come to: in pops of `max` with a region current, or one by one without. */
function outcome(ring: PackedRing, place: number, max: number, region?: (typeof CURRENT)[number]) {
  ring.engine.deviceStart(ring.vq, PACKED_VRING_BASE_RESET | place | (place << 16));
  const chains: ReturnType<typeof chainOf>[] = [];
  while (chains.length < CHAINS) {
    current(ring, region);
    const taken = ring.pop(Math.min(max, CHAINS - chains.length));
    if (taken === 0) break;
    for (let i = 0; i < taken; i++) chains.push(chainOf(ring, i));
  }
  return {
    chains,
    verdict: ring.verdict(),
    missed: ring.missed() && ring.data.getBigUint64(ring.vq + layout.VQ_FAULT_IOVA, true),
    next: ring.u32(ring.vq + layout.VQ_LAST_AVAIL),
  };
}

for (const indirect of [false, true])
  test(`whatever the fast path takes, the slow one takes alike (${indirect ? 'with' : 'without'} indirect descriptors)`, () => {
    const random = generator(indirect ? 40 : 30);
    const ring = new PackedRing({ size: SIZE, indirect, inOrder: true });
    ring.map(NEIGHBOUR, DRIVER_LINEAR + 0x40000, 4096);
    ring.map(READ_ONLY, DRIVER_LINEAR + 0x80000, 4096, layout.IOTLB_ACCESS_READ);
    ring.map(HUGE, DRIVER_LINEAR, 0xf000_0000);
    const seen = new Map<string, number>();
    const count = (kind: string) => seen.set(kind, (seen.get(kind) ?? 0) + 1);
    for (let run = 0; run < 40_000; run++) {
      const region = CURRENT[random(CURRENT.length)]!;
      scribble(ring, random, region.iova, random(2) ? 40 : 2);
      const place = random(SIZE);
      const slow = outcome(ring, place, 1);
      for (const max of [CHAINS, FEW])
        assert.equal(outcome(ring, place, max, region), slow, `run ${run}, place ${place}, pops of ${max}`);
      for (const chain of slow.chains) count(`${chain.descriptors} of the ring`);
      count(slow.verdict ? `verdict ${slow.verdict}` : `${slow.chains.length} chains`);
    }
    for (const descriptors of [1, 2, 3, 4])
      assert.ok(seen.get(`${descriptors} of the ring`)! > 30, `chains of ${descriptors} descriptors`);
    for (const verdict of [layout.VERDICT_ZERO_LENGTH, layout.VERDICT_TOTAL_LENGTH, layout.VERDICT_ORDER])
      assert.ok(seen.get(`verdict ${verdict}`)! > 100, `verdict ${verdict}`);
    assert.ok(seen.get(`${CHAINS} chains`)! > 100, 'bursts of many chains');
  });

test.run();
