/**
 * A device dies at every store that it makes to memory that outlives it, each in turn, and another one goes on from ring
 * and log; then that one dies at every store too. Whoever serves, and in whatever order, each request is answered once.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { VIRTIO_BLK_HEADER_SIZE, VIRTIO_BLK_SECTOR_SIZE, VIRTIO_BLK_T_OUT } from '../../assembly/virtio.js';
import type { Engine } from '../../host/aperture/engine.js';
import { DISK_LINEAR, DRIVER_LINEAR, Ring } from './fixture.js';
import { buildMortalEngine, Death, mortalEngine } from './mortal-engine.js';

const NEXT = 1;
const WRITE = 2;
const SIZE = 8;
/** Two descriptors a request: header with data, and status byte. */
const SLOTS = SIZE / 2;
/** Requests of a run. */
const REQUESTS = 9;
const READABLE = VIRTIO_BLK_HEADER_SIZE + VIRTIO_BLK_SECTOR_SIZE;
/** Indices cross 2^16 in the middle of a run. */
const FIRST_INDEX = 65533;

const module = await buildMortalEngine();

/** Random bits from a seed. */
function random(seed: number): () => number {
  let state = seed * 2654435761 + 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 8;
  };
}

/** A driver that writes sector n with the byte n, and believes nothing. */
class Driver {
  readonly ring = new Ring({ size: SIZE, log: true });
  /** Request in each slot. */
  readonly busy = new Map<number, number>();
  /** Requests in the order in which they were offered are numbered so. */
  offered = 0;
  done = 0;
  #used = FIRST_INDEX;

  constructor() {
    const { ring } = this;
    ring.data.setUint16(ring.avail + 2, FIRST_INDEX, true);
    ring.data.setUint16(ring.used + 2, FIRST_INDEX, true);
    ring.engine.deviceStart(ring.vq, FIRST_INDEX);
  }

  offer(): void {
    const slot = [...Array(SLOTS).keys()].find((candidate) => !this.busy.has(candidate));
    if (slot === undefined || this.offered === REQUESTS) return;
    const { ring } = this;
    const request = this.offered++;
    this.busy.set(slot, request);
    const at = this.#buffer(slot);
    ring.data.setUint32(at, VIRTIO_BLK_T_OUT, true);
    ring.data.setBigUint64(at + 8, BigInt(request), true);
    ring.u8.fill(request + 1, at + VIRTIO_BLK_HEADER_SIZE, at + READABLE);
    ring.u8[at + READABLE] = 0xff;
    ring.descriptor(2 * slot, ring.iova(at), READABLE, NEXT, 2 * slot + 1);
    ring.descriptor(2 * slot + 1, ring.iova(at + READABLE), 1, WRITE);
    ring.offer(2 * slot);
  }

  reap(): void {
    for (const { id } of this.ring.usedEntries(this.#used)) {
      const slot = id / 2;
      const request = this.busy.get(slot);
      assert.ok(request !== undefined, `head ${id} is used although it is not in flight`);
      assert.is(this.ring.u8[this.#buffer(slot) + READABLE], 0, `request ${request} has its status`);
      const sector = DISK_LINEAR + request! * VIRTIO_BLK_SECTOR_SIZE;
      assert.is(this.ring.u8[sector + VIRTIO_BLK_SECTOR_SIZE - 1], request! + 1, `and was done`);
      this.busy.delete(slot);
      this.done++;
      this.#used = (this.#used + 1) & 0xffff;
    }
  }

  /** The process that served is gone: nothing but rings, log, disk and the driver's buffers is left. */
  forget(): void {
    const { ring } = this;
    const configuration = ring.u8.slice(ring.vq, ring.vq + layout.VQ_REGION_IOVA);
    ring.u8.fill(0, ring.vq, ring.vq + layout.VQ_BLOCK_SIZE);
    ring.u8.set(configuration, ring.vq);
    for (const offset of [layout.VQ_CHAINS, layout.VQ_SEGMENTS, layout.VQ_SNAPSHOT, layout.VQ_REPLAY])
      ring.u8.fill(0xa5, ring.u32(ring.vq + offset), ring.u32(ring.vq + offset) + 2 * SIZE);
  }

  #buffer(slot: number): number {
    return this.ring.buffers + slot * 1024;
  }
}

/** Serves a bit. */
type Server = (choose: () => number) => void;
type MakeServer = (driver: Driver, engine: Engine) => Server;

/** As a device model in TypeScript: takes, holds, gives back in any order. */
const inAnyOrder: MakeServer = ({ ring }, engine) => {
  const blocks = Array.from({ length: SLOTS }, () =>
    ring.allocate(layout.REQUEST_DESCRIPTORS + (SIZE + 1) * 16),
  );
  const scratch = ring.allocate(READABLE);
  const held: number[] = [];
  let newest = -1;
  let given = 0;
  return (choose) => {
    const action = choose() % 3;
    if (action === 0 && blocks.length) {
      if (!engine.requestTake(ring.vq, blocks.at(-1)!)) return;
      const block = blocks.pop()!;
      engine.requestRead(ring.vq, block, 0, scratch, READABLE);
      const sector = ring.u32(scratch + 8);
      assert.ok(sector > newest, `${sector} is taken after ${newest}`);
      newest = sector;
      held.push(block);
    } else if (action === 1 && held.length) {
      const [block] = held.splice(choose() % held.length, 1);
      engine.requestRead(ring.vq, block!, 0, scratch, READABLE);
      const sector = ring.u32(scratch + 8);
      const data = ring.u8.slice(scratch + VIRTIO_BLK_HEADER_SIZE, scratch + READABLE);
      ring.u8.set(data, DISK_LINEAR + sector * VIRTIO_BLK_SECTOR_SIZE);
      ring.u8[scratch] = 0;
      engine.requestWrite(ring.vq, block!, 0, scratch, 1);
      engine.requestFinish(ring.vq, block!, 1);
      blocks.push(block!);
      given++;
    } else if (given) {
      engine.requestPublish(ring.vq, given);
      given = 0;
    }
  };
};

/** As a disk in memory. */
const inMemory: MakeServer = ({ ring }, engine) => {
  ring.set(ring.disk, { [layout.DISK_LINEAR]: DISK_LINEAR });
  return () => engine.blkServe(ring.vq, ring.disk);
};

/** As a disk in a file: the file's I/O between two calls. */
const inFile: MakeServer = ({ ring }, engine) => {
  ring.set(ring.disk, { [layout.DISK_LINEAR]: 0 });
  return (choose) => {
    const count = engine.blkPrepare(ring.vq, ring.disk, ring.io, 1 + (choose() % SLOTS));
    for (let i = 0; i < count; i++) {
      const io = ring.io + i * layout.IO_SIZE;
      const offset = Number(ring.data.getBigUint64(io + layout.IO_OFFSET, true));
      const segment = ring.u32(io + layout.IO_SEGMENTS);
      const bytes = ring.u32(segment + layout.SEGMENT_BYTES);
      ring.u8.copyWithin(DISK_LINEAR + offset, ring.u32(segment), ring.u32(segment) + bytes);
      ring.data.setBigInt64(io + layout.IO_RESULT, BigInt(bytes), true);
    }
    engine.blkComplete(ring.vq, ring.disk, ring.io, count);
  };
};

const SERVERS = { 'in any order': inAnyOrder, 'in memory': inMemory, 'in a file': inFile };

/** Serves until everything is answered: false if the engine has died before. */
function live(driver: Driver, serve: Server, choose: () => number): boolean {
  try {
    for (let steps = 0; driver.done < REQUESTS; steps++) {
      assert.ok(steps < 1000, `only ${driver.done} requests are answered`);
      if (choose() % 2) driver.offer();
      serve(choose);
      driver.reap();
      assert.is(driver.ring.verdict(), 0);
    }
    return true;
  } catch (error) {
    if (!(error instanceof Death)) throw error;
    driver.reap();
    return false;
  }
}

/** What one device leaves to the next. */
const isShared = (linear: number) => linear >= DRIVER_LINEAR;

/** One life after the other, the nth ending before its stores[n]th store: how many lives there were. */
function lives(makers: MakeServer[], stores: number[], seed: number): number {
  const choose = random(seed);
  const driver = new Driver();
  const { ring } = driver;
  for (const [index, make] of makers.entries()) {
    const engine = mortalEngine(module, ring.memory, stores[index] ?? Number.POSITIVE_INFINITY, isShared);
    if (index > 0) {
      driver.forget();
      try {
        assert.is(engine.deviceResume(ring.vq), 1);
      } catch (error) {
        if (!(error instanceof Death)) throw error;
        continue;
      }
    }
    if (live(driver, make(driver, engine), choose)) return index + 1;
  }
  return makers.length + 1;
}

for (const [first, makeFirst] of Object.entries(SERVERS))
  for (const [second, makeSecond] of Object.entries(SERVERS))
    test(`killed at any store while serving ${first}, then at any store while serving ${second}`, () => {
      let tried = 0;
      for (let before = 0; ; before++) {
        let count = 0;
        for (let after = 0; ; after++) {
          count = lives([makeFirst, makeSecond, makeSecond], [before, after], before);
          assert.ok(count <= 3, 'the last one is not killed');
          tried++;
          if (count < 3) break;
        }
        if (count === 1) break;
      }
      assert.ok(tried > 100, `${tried} deaths`);
    });

test.run();
