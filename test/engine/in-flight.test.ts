/**
 * A device dies at every store that it makes to memory that outlives it, each in turn, and another one goes on from ring
 * and log; then that one dies at every store too. Whoever serves, and in whatever order, each request is answered once.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as layout from '../../assembly/layout.js';
import { VIRTIO_BLK_HEADER_SIZE, VIRTIO_BLK_SECTOR_SIZE, VIRTIO_BLK_T_OUT } from '../../assembly/virtio.js';
import type { Engine } from '../../host/aperture/engine.js';
import { DISK_LINEAR, DRIVER_LINEAR, Ring, type RingOptions } from './fixture.js';
import { buildMortalEngine, Death, mortalEngine } from './mortal-engine.js';
import { PackedRing } from './packed-ring.js';
import { type SurvivingDriver, survivor } from './surviving-driver.js';

/** Requests of a run, and how many of them there are at a time. */
const REQUESTS = 7;
const SLOTS = 3;
/** Each store of the second life is its last with one in so many of the first. */
const STRIDE = 9;
const READABLE = VIRTIO_BLK_HEADER_SIZE + VIRTIO_BLK_SECTOR_SIZE;

/** A ring as drivers have it, and how far it has come: indices, and laps, begin anew in the middle of a run. */
interface Format {
  options: RingOptions;
  first: number;
}

/** Two descriptors a request: header with data, and status byte. A packed one of an odd size has some that go on at its start. */
const FORMATS: Record<string, Format> = {
  split: { options: { size: 8 }, first: 65534 },
  packed: { options: { size: 7, packed: true }, first: 5 },
  'packed, in order': { options: { size: 8, packed: true, inOrder: true }, first: 13 },
};

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
  readonly #driver: SurvivingDriver;
  /** Request and slot by id. */
  readonly #busy = new Map<number, { request: number; slot: number }>();
  /** Requests in the order in which they were offered are numbered so. */
  #offered = 0;
  done = 0;

  constructor({ options, first }: Format) {
    const Format = options.packed ? PackedRing : Ring;
    this.#driver = survivor(new Format({ ...options, log: true }), first);
  }

  get ring() {
    return this.#driver.ring;
  }

  offer(): void {
    const taken = [...this.#busy.values()].map(({ slot }) => slot);
    const slot = [...Array(SLOTS).keys()].find((candidate) => !taken.includes(candidate));
    if (slot === undefined || this.#offered === REQUESTS) return;
    const { ring } = this;
    const request = this.#offered;
    const at = this.#buffer(slot);
    ring.data.setUint32(at, VIRTIO_BLK_T_OUT, true);
    ring.data.setBigUint64(at + 8, BigInt(request), true);
    ring.u8.fill(request + 1, at + VIRTIO_BLK_HEADER_SIZE, at + READABLE);
    ring.u8[at + READABLE] = 0xff;
    const id = this.#driver.offer([
      { at, bytes: READABLE, writable: false },
      { at: at + READABLE, bytes: 1, writable: true },
    ]);
    if (id === undefined) return;
    this.#offered++;
    this.#busy.set(id, { request, slot });
  }

  reap(): void {
    for (const { id } of this.#driver.reap()) {
      const { request, slot } = this.#busy.get(id)!;
      assert.is(this.ring.u8[this.#buffer(slot) + READABLE], 0, `request ${request} has its status`);
      const sector = DISK_LINEAR + request * VIRTIO_BLK_SECTOR_SIZE;
      assert.is(this.ring.u8[sector + VIRTIO_BLK_SECTOR_SIZE - 1], request + 1, `and was done`);
      this.#busy.delete(id);
      this.done++;
    }
  }

  /** The process that served is gone. */
  forget(): void {
    this.#driver.forget();
  }

  /** Another one goes on with `engine`. */
  resume(engine: Engine): void {
    assert.ok(this.#driver.resume(engine));
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
    ring.allocate(layout.REQUEST_DESCRIPTORS + (ring.size + 1) * 16),
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
function lives(format: Format, makers: MakeServer[], stores: number[], seed: number): number {
  const choose = random(seed);
  const driver = new Driver(format);
  const { ring } = driver;
  for (const [index, make] of makers.entries()) {
    const life = { stores: stores[index] ?? Number.POSITIVE_INFINITY };
    const engine = mortalEngine(module, ring.memory, life, isShared);
    if (index > 0) {
      driver.forget();
      try {
        driver.resume(engine);
      } catch (error) {
        if (!(error instanceof Death)) throw error;
        continue;
      }
    }
    if (live(driver, make(driver, engine), choose)) return index + 1;
  }
  return makers.length + 1;
}

for (const [name, format] of Object.entries(FORMATS)) {
  // Whoever answers in any order does not use a ring in order.
  const servers = Object.entries(SERVERS).filter(
    ([, make]) => !format.options.inOrder || make !== inAnyOrder,
  );
  for (const [first, makeFirst] of servers)
    for (const [second, makeSecond] of servers)
      test(`${name}: killed at any store while serving ${first}, then at any store while serving ${second}`, () => {
        let tried = 0;
        for (let before = 0; ; before++) {
          let count = 0;
          for (let after = before % STRIDE; ; after += STRIDE) {
            count = lives(format, [makeFirst, makeSecond, makeSecond], [before, after], before);
            assert.ok(count <= 3, 'the last one is not killed');
            tried++;
            if (count < 3) break;
          }
          if (count === 1) break;
        }
        assert.ok(tried > 50, `${tried} deaths`);
      });
}

test.run();
