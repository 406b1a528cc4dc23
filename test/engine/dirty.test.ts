import { randomFillSync } from 'node:crypto';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import type { DirtyLoopData } from './dirty-loop-main.js';
import { DirtyRing, pageOf, pagesOf, RandomRequests, REGIONS } from './dirty-traffic.js';
import type { DirtyWriterData } from './dirty-writer-main.js';
import { DISK_LINEAR, DISK_SECTORS, DRIVER_BYTES, DRIVER_IOVA, DRIVER_LINEAR } from './fixture.js';
import { buildMortalEngine, interruptedEngine, mortalEngine } from './mortal-engine.js';
import { generator } from './random.js';

const { PAGE_SIZE } = layout;
const WRITE = 2;
/** The used ring of so many entries reaches into a second page. */
const LARGE = 512;

const ascending = (pages: Iterable<number>) => [...new Set(pages)].sort((a, b) => a - b);

/** Pages of the used ring that publishing entries [from, to) writes. */
function usedPages(ring: DirtyRing, from: number, to: number): number[] {
  const index = ring.used + virtio.VIRTQ_USED_IDX;
  const places: [linear: number, bytes: number][] = to > from ? [[index, 2]] : [];
  for (let used = from; used < to; used++) {
    const at = ring.used + virtio.VIRTQ_USED_RING + (used % ring.size) * virtio.VIRTQ_USED_ENTRY_SIZE;
    places.push([at, virtio.VIRTQ_USED_ENTRY_SIZE]);
  }
  return places.flatMap(([linear, bytes]) => pagesOf(ring.iova(linear), bytes));
}

/** One chain with `bytes` writable bytes at `iova`, taken as a request; the block's linear address. */
function take(ring: DirtyRing, iova: bigint, bytes: number): number {
  ring.descriptor(0, iova, bytes, WRITE);
  ring.offer(0);
  assert.is(ring.engine.requestTake(ring.vq, ring.request), 1);
  return ring.request;
}

test('nothing is marked until it is asked for, nor afterwards', () => {
  const ring = new DirtyRing();
  const scratch = ring.allocate(64);
  const request = take(ring, DRIVER_IOVA + 0x9000n, 64);
  ring.engine.requestWrite(ring.vq, request, 0, scratch, 8);
  ring.track(true);
  assert.equal(ring.fetch(), []);
  ring.engine.requestWrite(ring.vq, request, 8, scratch, 8);
  ring.track(false);
  ring.engine.requestFinish(ring.vq, request, 16);
  ring.engine.requestPublish(ring.vq, 1);
  ring.track(true);
  assert.equal(ring.fetch(), [pageOf(DRIVER_IOVA + 0x9000n)]);
});

test('a write marks its first and last page and no neighbour, whatever the alignment of the region', () => {
  const [, second, odd] = REGIONS as [(typeof REGIONS)[0], (typeof REGIONS)[0], (typeof REGIONS)[0]];
  const oddEnd = odd.iova + BigInt(odd.bytes);
  for (const [iova, bytes] of [
    [DRIVER_IOVA + 0x9000n, 1],
    [DRIVER_IOVA + 0x9fffn, 1],
    [DRIVER_IOVA + 0x9fffn, 2],
    [DRIVER_IOVA + 0x9000n, PAGE_SIZE],
    [DRIVER_IOVA + 0x9001n, PAGE_SIZE],
    [DRIVER_IOVA + 0x8000n, 70 * PAGE_SIZE],
    [second.iova - 1n, 2],
    [second.iova - 1n, 1],
    [second.iova, 1],
    [odd.iova, 1],
    [odd.iova + 0x1ffn, 1],
    [odd.iova + 0x1ffn, 2],
    [odd.iova, odd.bytes],
    [oddEnd - 1n, 1],
  ] as const) {
    const ring = new DirtyRing();
    ring.track(true);
    const request = take(ring, iova, bytes);
    assert.is(ring.engine.requestWrite(ring.vq, request, 0, DISK_LINEAR, bytes), bytes);
    assert.equal(ring.fetch(), pagesOf(iova, bytes), `${bytes} bytes at 0x${iova.toString(16)}`);
  }
});

test('what is fetched is clean, until it is written again', () => {
  const ring = new DirtyRing();
  ring.track(true);
  const request = take(ring, DRIVER_IOVA + 0x9000n, 2 * PAGE_SIZE);
  ring.engine.requestWrite(ring.vq, request, 0, DISK_LINEAR, 2 * PAGE_SIZE);
  assert.equal(ring.fetch().length, 2);
  assert.equal(ring.fetch(), []);
  ring.engine.requestWrite(ring.vq, request, PAGE_SIZE, DISK_LINEAR, 1);
  assert.equal(ring.fetch(), [pageOf(DRIVER_IOVA + 0xa000n)]);
});

test('what does not fit into the table of one fetch comes with the next', () => {
  const ring = new DirtyRing();
  ring.track(true);
  const pages = Array.from({ length: 40 }, (_, i) => i * 2);
  for (const page of pages) {
    const request = take(ring, DRIVER_IOVA + BigInt(0x9000 + page * PAGE_SIZE), 1);
    ring.engine.requestWrite(ring.vq, request, 0, DISK_LINEAR, 1);
    ring.engine.requestFinish(ring.vq, request, 1);
  }
  assert.equal(
    ring.fetchRanges(16),
    pages.map((page) => [pageOf(DRIVER_IOVA + 0x9000n) + page, 1]),
  );
  assert.equal(ring.fetch(), []);
});

test('regions that come and go in any order are found by what they are in memory', () => {
  const ring = new DirtyRing();
  const random = generator(7);
  const bytes = 2 * PAGE_SIZE;
  const mapped = new Map<number, number>();
  const at = (slot: number) => DRIVER_LINEAR + 0x10000 + slot * bytes;
  const iovaOf = (place: number) => BigInt((0x100 + place * 2) * PAGE_SIZE);
  ring.track(true);
  for (let change = 0; change < 400; change++) {
    const slot = random(14);
    const place = mapped.get(slot);
    if (place !== undefined) {
      assert.is(ring.engine.iotlbUnmap(ring.iotlb, iovaOf(place), iovaOf(place)), 1);
      mapped.delete(slot);
    } else {
      const free = [...Array(14).keys()].filter((candidate) => ![...mapped.values()].includes(candidate));
      mapped.set(slot, free[random(free.length)]!);
      assert.is(ring.map(iovaOf(mapped.get(slot)!), at(slot), bytes), layout.IOTLB_OK);
    }
    for (const [, where] of mapped) {
      ring.descriptor(0, iovaOf(where) + 4095n, 2, WRITE);
      ring.offer(0);
      ring.engine.requestTake(ring.vq, ring.request);
      ring.engine.requestWrite(ring.vq, ring.request, 0, DISK_LINEAR, 2);
      ring.engine.requestFinish(ring.vq, ring.request, 0);
    }
    const pages = [...mapped.values()].flatMap((where) => pagesOf(iovaOf(where), bytes));
    assert.equal(ring.fetch(), ascending(pages), `change ${change}`);
  }
});

test('arming, and asking for no notifications, is a write too', () => {
  for (const eventIdx of [false, true]) {
    const ring = new DirtyRing({ size: LARGE, eventIdx });
    ring.track(true);
    ring.engine.deviceArm(ring.vq);
    const event = ring.used + (eventIdx ? virtio.VIRTQ_USED_RING + LARGE * virtio.VIRTQ_USED_ENTRY_SIZE : 0);
    assert.equal(ring.fetch(), [pageOf(ring.iova(event))]);
    ring.engine.deviceDisarm(ring.vq);
    assert.equal(ring.fetch(), eventIdx ? [] : [pageOf(ring.iova(ring.used))]);
  }
});

const instrumented = await buildMortalEngine();

for (const path of ['served from memory', 'by way of an I/O table'] as const)
  test(`random requests mark the pages that they write, and no other (${path})`, () => {
    const ring = new DirtyRing({ size: LARGE });
    randomFillSync(ring.u8, DISK_LINEAR, DISK_SECTORS * virtio.VIRTIO_BLK_SECTOR_SIZE);
    ring.track(true);
    /** Pages to which the engine has stored anything. */
    const stored = new Set<number>();
    const engine = mortalEngine(instrumented, ring.memory, { stores: 0 }, (linear) => {
      const page = ring.pageAt(linear);
      if (page !== undefined) stored.add(page);
      return false;
    });
    const requests = new RandomRequests(ring, generator(path.length));
    let used = 0;
    for (let round = 0; round < 150; round++) {
      const expected = requests.offer(1 + (round % 40));
      const before = ring.snapshot();
      stored.clear();
      let served = 0;
      while (engine.devicePending(ring.vq) > 0) {
        if (path === 'served from memory') served += engine.blkServe(ring.vq, ring.disk) & layout.COUNT_MASK;
        else {
          const count = engine.blkPrepare(ring.vq, ring.disk, ring.io, 64);
          served += engine.blkComplete(ring.vq, ring.disk, ring.io, count) & layout.COUNT_MASK;
        }
        assert.is(ring.verdict(), layout.VERDICT_NONE);
      }
      for (const page of usedPages(ring, used, used + served)) expected.add(page);
      used += served;
      const dirty = ring.fetch();
      assert.equal(dirty, ascending(expected), `round ${round}`);
      const forgotten = [...stored].filter((page) => !expected.has(page));
      assert.equal(forgotten, [], `round ${round}: stored to`);
      const missed = ring.changedSince(before).filter((page) => !expected.has(page));
      assert.equal(missed, [], `round ${round}: changed`);
    }
  });

test('a read that the addon could not finish marks all that it may have written', () => {
  const ring = new DirtyRing();
  // No disk in memory: every read is the addon's, which is not there.
  ring.set(ring.disk, { [layout.DISK_LINEAR]: 0 });
  ring.track(true);
  ring.data.setUint32(ring.buffers, virtio.VIRTIO_BLK_T_IN, true);
  ring.descriptor(0, ring.iova(ring.buffers), virtio.VIRTIO_BLK_HEADER_SIZE, 1, 1);
  ring.descriptor(1, DRIVER_IOVA + 0x9000n, 3 * PAGE_SIZE + 1, WRITE);
  for (const [result, pages] of [
    [-5n, 4],
    [BigInt(3 * PAGE_SIZE), 4],
  ] as const) {
    ring.offer(0);
    assert.is(ring.engine.blkPrepare(ring.vq, ring.disk, ring.io, 1), 1);
    ring.data.setBigInt64(ring.io + layout.IO_RESULT, result, true);
    ring.engine.blkComplete(ring.vq, ring.disk, ring.io, 1);
    const first = pageOf(DRIVER_IOVA + 0x9000n);
    assert.equal(
      ring.fetch().filter((page) => page >= first),
      Array.from({ length: pages }, (_, i) => first + i),
    );
  }
});

test('a log has bit n % 8 of byte n / 8 for page n; beyond its end nothing is marked', () => {
  const ring = new DirtyRing();
  const log = 0x480000;
  // The driver's regions where a log of one page has its last bits.
  ring.engine.iotlbUnmap(ring.iotlb, 0n, 2n ** 64n - 1n);
  const pages = PAGE_SIZE * 8;
  const iova = BigInt((pages - 20) * PAGE_SIZE);
  ring.map(iova, DRIVER_LINEAR, 0x40000);
  ring.log(log, PAGE_SIZE);
  const request = take(ring, iova + BigInt(11 * PAGE_SIZE), 20 * PAGE_SIZE);
  ring.engine.requestWrite(ring.vq, request, 0, DISK_LINEAR, 20 * PAGE_SIZE);
  assert.equal([...ring.u8.slice(log + PAGE_SIZE - 3, log + PAGE_SIZE + 2)], [0, 0x80 | 0, 0xff, 0, 0]);
  assert.not.ok(ring.u8.slice(log, log + PAGE_SIZE - 2).some((byte) => byte !== 0));
  ring.engine.requestWrite(ring.vq, request, 10 * PAGE_SIZE, DISK_LINEAR, PAGE_SIZE);
  assert.is(ring.u8[log + PAGE_SIZE], 0);
});

test('the bitmap and a log are marked together', () => {
  const ring = new DirtyRing();
  const log = 0x480000;
  ring.engine.iotlbUnmap(ring.iotlb, 0n, 2n ** 64n - 1n);
  ring.map(0x10000n, DRIVER_LINEAR, 0x40000);
  ring.log(log, 100);
  ring.track(true);
  const request = take(ring, 0x1c000n, 1);
  ring.engine.requestWrite(ring.vq, request, 0, DISK_LINEAR, 1);
  assert.equal(ring.fetch(), [0x1c]);
  assert.is(ring.u8[log + 3], 0x10);
  assert.equal(ring.fetch(), [], 'fetching clears the one');
  assert.is(ring.u8[log + 3], 0x10, 'and not the other');
});

/** A queue that is no more than a request that it holds, all of whose bytes are at `iova`, and a word to write. */
function heldRequest(
  ring: DirtyRing,
  iova: bigint,
  bytes: number,
): { vq: number; request: number; source: number } {
  const vq = ring.allocate(layout.VQ_BLOCK_SIZE);
  ring.set(vq, { [layout.VQ_IOTLB]: ring.iotlb });
  const request = ring.allocate(layout.REQUEST_DESCRIPTORS + virtio.VIRTQ_DESC_SIZE);
  ring.set(request, { [layout.REQUEST_COUNT]: 1 });
  ring.descriptor(0, iova, bytes, 0, 0, request + layout.REQUEST_DESCRIPTORS);
  return { vq, request, source: ring.allocate(4) };
}

/** Pages of each thread's buffers: the marks of all are in one word of the bitmap. */
const LOOP_PAGES = 7;
const LOOP_BUFFERS = DRIVER_LINEAR + 8 * PAGE_SIZE;
/** Times that the threads are stopped and the copy is compared, and fetches in between. */
const EPISODES = 30;
const FETCHES = 100;
/** Milliseconds; what a thread may need to get so far, on a busy machine. */
const LOOP_LIMIT_MS = 20_000;

test('copying what is dirty, again and again, while queues run loses no write', async () => {
  const ring = new DirtyRing({ size: 64 });
  const words = new Int32Array(ring.memory.buffer);
  const flag = () => ring.allocate(4) / 4;
  const run = flag();
  const held = (buffers: number) => ({
    buffers,
    ...heldRequest(ring, ring.iova(buffers), LOOP_PAGES * PAGE_SIZE),
  });
  const { memory, dq, vq, disk, submissions, completions } = ring;
  const common = { memory, pages: LOOP_PAGES, run };
  const threads: DirtyLoopData[] = [
    {
      ...common,
      ...{ vq, buffers: LOOP_BUFFERS, source: DISK_LINEAR, runs: flag() },
      reads: { dq, disk, submissions, completions },
    },
    { ...common, ...held(LOOP_BUFFERS + LOOP_PAGES * PAGE_SIZE), runs: flag() },
    { ...common, ...held(LOOP_BUFFERS + 2 * LOOP_PAGES * PAGE_SIZE), runs: flag() },
  ];
  ring.track(true);
  const workers = threads.map(
    (workerData) => new Worker(new URL('dirty-loop-main.js', import.meta.url), { workerData }),
  );
  await Promise.all(workers.map((worker) => once(worker, 'online')));
  const all = (value: number) => {
    for (const { runs } of threads)
      if (Atomics.load(words, runs) !== value)
        assert.is.not(Atomics.wait(words, runs, 1 - value, LOOP_LIMIT_MS), 'timed-out');
  };
  const copy = ring.snapshot();
  const pages = Array.from({ length: 3 * LOOP_PAGES }, (_, i) => 8 + i);
  const pageAt = (memory: Uint8Array, base: number, page: number) =>
    memory.subarray(base + page * PAGE_SIZE, base + (page + 1) * PAGE_SIZE);
  const move = () => {
    for (const dirty of ring.fetch()) {
      const page = dirty - pageOf(DRIVER_IOVA);
      pageAt(copy, 0, page).set(pageAt(ring.u8, DRIVER_LINEAR, page));
    }
  };
  try {
    for (let episode = 0; episode < EPISODES; episode++) {
      Atomics.store(words, run, 1);
      Atomics.notify(words, run);
      all(1);
      for (let fetches = 0; fetches < FETCHES; fetches++) move();
      Atomics.store(words, run, 0);
      all(0);
      move();
      for (const page of pages) {
        const now = pageAt(ring.u8, DRIVER_LINEAR, page);
        assert.is(Buffer.compare(now, pageAt(copy, 0, page)), 0, `episode ${episode}, page ${page}`);
      }
    }
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
});

test('whatever another thread does between two accesses of a mark or a fetch, each mark is found once', () => {
  const ring = new DirtyRing();
  const [first, second] = [ring.iova(LOOP_BUFFERS), ring.iova(LOOP_BUFFERS + PAGE_SIZE)] as const;
  /** Marks the page of an IOVA. */
  const marking = (iova: bigint) => {
    const { vq, request, source } = heldRequest(ring, iova, 1);
    return (engine = ring.engine) => {
      engine.requestWrite(vq, request, 0, source, 1);
    };
  };
  const [markFirst, markSecond] = [marking(first), marking(second)];
  const found: number[] = [];
  const fetch = (engine = ring.engine) => {
    found.push(...ring.fetch(engine));
  };
  ring.track(true);
  for (const [before, call, other] of [
    [markFirst, fetch, markSecond],
    [() => {}, markFirst, markSecond],
    [markSecond, markFirst, fetch],
  ] as const) {
    let left = 0;
    const engine = interruptedEngine(instrumented, ring.memory, () => {
      if (left-- === 0) other();
    });
    let accesses = 0;
    for (; left <= 0; accesses++) {
      found.length = 0;
      before();
      left = accesses;
      call(engine);
      if (left >= 0) other();
      fetch();
      assert.equal(ascending(found), [pageOf(first), pageOf(second)], `access ${accesses}`);
      assert.is(found.length, 2, `access ${accesses}: found twice`);
    }
    assert.ok(accesses > 10, `${accesses} accesses`);
  }
});

/** Marks of a thread that are each waited for. */
const WRITES = 20_000;

test('a mark that is set while another one is set, or fetched, in the same word is not lost', async () => {
  const ring = new DirtyRing();
  const words = new Int32Array(ring.memory.buffer);
  const [written, seen] = [ring.allocate(4) / 4, ring.allocate(4) / 4];
  const theirs = ring.iova(LOOP_BUFFERS);
  const own = theirs + BigInt(2 * PAGE_SIZE);
  const random = generator(11);
  const { vq, request, source } = heldRequest(ring, own, 1);
  ring.track(true);
  const workerData: DirtyWriterData = {
    ...{ memory: ring.memory, ...heldRequest(ring, theirs, 2 * PAGE_SIZE) },
    ...{ writes: WRITES, written, seen },
  };
  const worker = new Worker(new URL('dirty-writer-main.js', import.meta.url), { workerData });
  await once(worker, 'online');
  try {
    let found = false;
    for (let last = 0; last < WRITES; ) {
      const now = Atomics.load(words, written);
      // A mark of its own meets theirs; without one, the fetch does.
      const marks = random(2) === 1;
      if (marks) ring.engine.requestWrite(vq, request, 0, source, 1);
      const pages = ring.fetch();
      assert.is(pages.includes(pageOf(own)), marks, 'a mark of its own is lost, or was not cleared');
      if (pages.includes(pageOf(theirs) + 1)) found = true;
      if (now === last) continue;
      // Its mark came before the count.
      assert.ok(found, `mark ${now} is lost`);
      found = false;
      last = now;
      Atomics.store(words, seen, now);
      Atomics.notify(words, seen);
    }
  } finally {
    await worker.terminate();
  }
});

for (const inOrder of [false, true])
  test(`used descriptors of a packed ring are marked, and what asks for kicks (${inOrder ? 'in order' : 'in any order'})`, () => {
    const ring = new DirtyRing({ size: LARGE, packed: true, indirect: true, inOrder });
    ring.track(true);
    const random = generator(3);
    const ringPages = new Set(pagesOf(ring.iova(ring.desc), ring.avail - ring.desc));
    for (let round = 0; round < 60; round++) {
      const count = 1 + random(64);
      for (let i = 0; i < count; i++) ring.submission(i, { type: virtio.VIRTIO_BLK_T_FLUSH });
      ring.engine.blkSubmit(ring.dq, ring.submissions, count);
      const before = ring.u8.slice(DRIVER_LINEAR, DRIVER_LINEAR + DRIVER_BYTES);
      if (round % 2) ring.engine.deviceArm(ring.vq);
      else ring.engine.deviceDisarm(ring.vq);
      ring.engine.blkServe(ring.vq, ring.disk);
      const changed = ring.changedSince(before);
      const marked = ring.fetch();
      assert.equal(
        changed.filter((page) => !marked.includes(page)),
        [],
        `round ${round}`,
      );
      // Of a batch one descriptor is written, but all of its places count.
      const unchanged = marked.filter((page) => !changed.includes(page) && !ringPages.has(page));
      assert.ok(
        unchanged.every((page) => page === ring.pageAt(ring.used)),
        `round ${round}`,
      );
      assert.is(ring.engine.blkReap(ring.dq, ring.completions, 64, 0, 0), count);
    }
  });

test.run();
