/** The engine and both references give the same segments and verdicts: figures compare equal work only. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  SEGMENT_SIZE,
  SEGMENTS_SLACK,
  VERDICT_UNMAPPED,
  VQ_CHAINS,
  VQ_F_INDIRECT_DESC,
  VQ_MISS,
  VQ_SEGMENTS,
  VQ_VERDICT,
} from '../../assembly/layout.js';
import {
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../../assembly/virtio.js';
import { buildReference, loadReference } from '../../bench/build.js';
import { TypeScriptRing } from '../../bench/reference/ring.js';
import { Ring } from '../../bench/ring/ring.js';

const QUEUE_SIZE = 16;
/** Segments: few enough for a burst to run out of them. */
const CAPACITY = 16;
const CHAINS = 4;
const TRIALS = 20_000;
const FIRST = 0x1_0000_0000n;
const REGION_BYTES = 0x1_0000n;
const BOTH = IOTLB_ACCESS_READ | IOTLB_ACCESS_WRITE;

/** A sequence of pseudo-random integers: the same in every run. */
function randomSource(seed: number): (below: number) => number {
  return (below) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
}

/** What a device made of a ring: each chain as {head, readable, segments, linear, bytes, …}, and the verdict at the end. */
interface Outcome {
  chains: number[][];
  verdict: number;
}

function askEngine(ring: Ring, burst: number): Outcome {
  const { engine, vq, data } = ring;
  const chains: number[][] = [];
  engine.deviceStart(vq, 0);
  for (let count = engine.devicePop(vq, burst); count; count = engine.devicePop(vq, burst)) {
    let segment = data.getUint32(vq + VQ_SEGMENTS, true);
    for (let i = 0; i < count; i++) {
      const entry = data.getUint32(vq + VQ_CHAINS, true) + i * 8;
      const segments = data.getUint16(entry + 6, true);
      const chain = [data.getUint32(entry, true), data.getUint16(entry + 4, true), segments];
      for (let word = 0; word < segments * 2; word++, segment += 4) chain.push(data.getUint32(segment, true));
      chains.push(chain);
    }
  }
  const behindSegments = data.getUint32(vq + VQ_SEGMENTS, true) + (CAPACITY + SEGMENTS_SLACK) * SEGMENT_SIZE;
  assert.is(data.getBigUint64(behindSegments, true), 0n, 'nothing is written behind the segment table');
  const missed = data.getUint32(vq + VQ_MISS, true) ? VERDICT_UNMAPPED : 0;
  return { chains, verdict: data.getUint32(vq + VQ_VERDICT, true) || missed };
}

function askTypeScript(ring: Ring): Outcome {
  const device = new TypeScriptRing(ring.memory.buffer, ring);
  const chains: number[][] = [];
  while (device.pop()) {
    const chain = [device.head, device.readable, device.segments];
    for (let i = 0; i < device.segments; i++) chain.push(device.linear[i]!, device.bytes[i]!);
    chains.push(chain);
  }
  return { chains, verdict: device.verdict };
}

function askCpp(ring: Ring): Outcome {
  const device = new (loadReference().ReferenceRing)(new Uint8Array(ring.memory.buffer), {
    size: ring.size,
    table: ring.table,
    avail: ring.avail,
    used: ring.used,
    flags: ring.flags,
    segmentsCapacity: ring.segmentsCapacity,
    regions: ring.regions,
    descriptors: 1,
    buffers: new BigUint64Array(QUEUE_SIZE + 1),
    tablesIova: 0n,
    tablesLinear: 0,
    dataBytes: 0,
    copyTo: 0,
  });
  const words = new Uint32Array(3 + 2 * (CAPACITY + QUEUE_SIZE));
  const chains: number[][] = [];
  while (device.pop(words)) chains.push([...words.subarray(0, 3 + 2 * words[2]!)]);
  return { chains, verdict: device.verdict };
}

/** Two neighbours, a read-only and a write-only region, and holes. The two neighbours are apart in linear memory. */
function mapRegions(ring: Ring): void {
  const linear = (i: number) => ring.buffers + i * 0x4_0000;
  ring.map([
    { iova: FIRST, bytes: REGION_BYTES, linear: linear(0), access: BOTH },
    { iova: FIRST + REGION_BYTES, bytes: REGION_BYTES, linear: linear(1), access: BOTH },
    { iova: FIRST + 4n * REGION_BYTES, bytes: REGION_BYTES, linear: linear(2), access: IOTLB_ACCESS_READ },
    { iova: FIRST + 6n * REGION_BYTES, bytes: REGION_BYTES, linear: linear(3), access: IOTLB_ACCESS_WRITE },
  ]);
}

/** Fills a ring with chains that are mostly right. */
function scribble(ring: Ring, random: (below: number) => number): void {
  const { data } = ring;
  const one = <T>(...values: T[]) => values[random(values.length)]!;
  const hostile = () => random(24) === 0;
  // Now and then a driver whose buffers lie in read-only memory: right as long as the device only reads.
  const readOnly = random(8) === 0;
  const address = () => {
    if (readOnly) return FIRST + 4n * REGION_BYTES + BigInt(random(0xf000));
    if (hostile())
      return one(
        0n,
        FIRST - 1n,
        FIRST + 2n * REGION_BYTES,
        0xffff_ffff_ffff_fff0n,
        FIRST + 4n * REGION_BYTES,
        FIRST + 6n * REGION_BYTES,
      );
    // Often enough across the border of the two neighbours.
    return random(4) ? FIRST + BigInt(random(0xf000)) : FIRST + REGION_BYTES - BigInt(random(512));
  };
  const bytes = () => (hostile() ? one(0, 0xffff_ffff, 0x8000_0000, 0x1_0000) : 1 + random(600));
  const write = (at: number, iova: bigint, length: number, flags: number, next: number) => {
    data.setBigUint64(at, iova, true);
    data.setUint32(at + 8, length, true);
    data.setUint16(at + 12, flags, true);
    data.setUint16(at + 14, next, true);
  };
  /** A chain of `count` from entry `first` of a table of `entries`. */
  const chain = (table: number, first: number, count: number, entries: number) => {
    const readable = readOnly && random(4) ? count : random(count + 1);
    for (let i = 0; i < count; i++) {
      let flags = (i + 1 < count ? VIRTQ_DESC_F_NEXT : 0) | (i < readable ? 0 : VIRTQ_DESC_F_WRITE);
      if (hostile()) flags = random(8);
      const next = hostile() ? one(entries, 0xffff, first, 0) : (first + i + 1) % entries;
      write(table + ((first + i) % entries) * VIRTQ_DESC_SIZE, address(), bytes(), flags, next);
    }
  };
  // What lies behind the table looks like descriptors too: a device that reads there would be believed.
  for (let i = QUEUE_SIZE; i < 2 * QUEUE_SIZE; i++) write(ring.table + i * VIRTQ_DESC_SIZE, FIRST, 1, 0, 0);
  const heads: number[] = [];
  for (let i = 0; i < CHAINS; i++) {
    const head = i * (QUEUE_SIZE / CHAINS);
    const count = 1 + random(hostile() ? QUEUE_SIZE : QUEUE_SIZE / CHAINS);
    const direct = ring.flags & VQ_F_INDIRECT_DESC ? random(3) > 0 : !hostile();
    if (direct) chain(ring.table, head, count, QUEUE_SIZE);
    else {
      // A table at a place of its own, now and then across the two neighbours, whose descriptors no other table shares.
      const offset = random(4) ? 0xf000 + i * 0x200 : 0x1_0000 - 8 * VIRTQ_DESC_SIZE;
      const tables = new DataView(new ArrayBuffer(count * VIRTQ_DESC_SIZE));
      const staging = ring.buffers + 0x20_0000;
      chain(staging, 0, count, count);
      for (let at = 0; at < tables.byteLength; at++) {
        const place =
          offset + at < 0x1_0000
            ? ring.buffers + offset + at
            : ring.buffers + 0x4_0000 + offset + at - 0x1_0000;
        data.setUint8(place, data.getUint8(staging + at));
      }
      const length = hostile() ? one(0, 8, 17, 0xffff_fff0) : tables.byteLength;
      const flags =
        VIRTQ_DESC_F_INDIRECT | (random(4) ? 0 : VIRTQ_DESC_F_WRITE) | (hostile() ? VIRTQ_DESC_F_NEXT : 0);
      const table = hostile() ? address() : FIRST + BigInt(offset);
      // Now and then behind a direct descriptor.
      const behind = random(4) === 0 ? 1 : 0;
      if (behind) write(ring.table + head * VIRTQ_DESC_SIZE, address(), bytes(), VIRTQ_DESC_F_NEXT, head + 1);
      write(ring.table + (head + behind) * VIRTQ_DESC_SIZE, table, length, flags, 0);
    }
    heads.push(hostile() ? one(QUEUE_SIZE, 0xffff) : head);
  }
  for (const [i, head] of heads.entries()) data.setUint16(ring.avail + VIRTQ_AVAIL_RING + i * 2, head, true);
  data.setUint16(ring.avail + VIRTQ_AVAIL_IDX, random(40) ? CHAINS : QUEUE_SIZE + 1, true);
}

function buildFailure(): string | undefined {
  try {
    buildReference();
    return undefined;
  } catch (error) {
    return (
      (error as Error).message.split('\n').find((line) => /error|not found/i.test(line)) ?? String(error)
    );
  }
}

const failure = buildFailure();
if (failure) process.stdout.write(`skipped: the references cannot be built here: ${failure}\n`);
const testBuilt = failure ? test.skip : test;

for (const flags of [0, VQ_F_INDIRECT_DESC])
  testBuilt(
    `${flags ? 'with' : 'without'} indirect descriptors, all three see the same chains and the same mistakes`,
    () => {
      const ring = new Ring(QUEUE_SIZE, flags, CAPACITY);
      mapRegions(ring);
      const random = randomSource(1 + flags);
      const verdicts = new Set<number>();
      let accepted = 0;
      for (let trial = 0; trial < TRIALS; trial++) {
        scribble(ring, random);
        const engine = askEngine(ring, 1 + random(CHAINS));
        const cpp = askCpp(ring);
        const typescript = askTypeScript(ring);
        assert.equal(cpp, engine, `C++ and the engine in trial ${trial}`);
        assert.equal(typescript, engine, `TypeScript and the engine in trial ${trial}`);
        accepted += engine.chains.length;
        verdicts.add(engine.verdict);
      }
      assert.ok(accepted > TRIALS, `${accepted} chains were accepted`);
      assert.ok(verdicts.size > (flags ? 12 : 9), `verdicts ${[...verdicts].sort((a, b) => a - b)}`);
    },
  );

test.run();
