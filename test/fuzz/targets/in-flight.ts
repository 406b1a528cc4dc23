import * as assert from 'uvu/assert';
import * as layout from '../../../assembly/layout.js';
import { VIRTQ_DESC_SIZE } from '../../../assembly/virtio.js';
import type { Engine } from '../../../host/aperture/engine.js';
import type { Module } from '../../../host/aperture/web-assembly.js';
import { DRIVER_LINEAR, LOG_LINEAR, Ring, type RingOptions } from '../../engine/fixture.js';
import { buildMortalEngine, Death, type Life, mortalEngine } from '../../engine/mortal-engine.js';
import { PackedRing } from '../../engine/packed-ring.js';
import { type Buffer, type SurvivingDriver, survivor } from '../../engine/surviving-driver.js';
import type { Choices } from '../choices.js';
import { Reached, type Target } from '../target.js';

const SPLIT_SIZES = [8, 4, 2, 16];
const PACKED_SIZES = [8, 3, 16, 5, 2];
/** Requests that are held at a time, and lives before the last. */
const HELD = 5;
const LIVES = 3;
/** Stores that a life has at most. */
const STORES = 90;
/** Bytes of driver memory for each request in flight; its table lies in the upper half. */
const STEP = 512;
/** What a buffer holds until the device has written it. */
const UNWRITTEN = 0xee;

/** What one device leaves to the next. */
const isShared = (linear: number) => linear >= DRIVER_LINEAR;

/** A request: which it is, counted as they are offered, and what it is answered with. */
interface Request {
  number: number;
  at: number;
  /** Buffers that the device writes. */
  writable: Buffer[];
}

/** Bytes that a device says it has written to a request, always as many: what is replayed is answered as before. */
function writtenTo({ number, writable }: Request): number {
  const bytes = writable.reduce((sum, buffer) => sum + buffer.bytes, 0);
  return number % 3 ? bytes : Math.min(bytes, number % 7);
}

/** A ring with what a case needs beside it. */
interface Place {
  ring: Ring;
  engine: Engine;
  life: Life;
  /** Request blocks. */
  blocks: number[];
  scratch: number;
}

/** The ring of a setting, made when it is first needed. */
class Places {
  readonly #places = new Map<string, Place>();
  readonly #module: Module;

  constructor(module: Module) {
    this.#module = module;
  }

  at(options: RingOptions): Place {
    const key = Object.values(options).join();
    let made = this.#places.get(key);
    if (!made) {
      const Format = options.packed ? PackedRing : Ring;
      const ring = new Format({ ...options, log: true, fence: true });
      const life = { stores: Number.POSITIVE_INFINITY };
      const bytes = layout.REQUEST_DESCRIPTORS + (ring.size + 1) * VIRTQ_DESC_SIZE;
      const blocks = Array.from({ length: HELD }, () => ring.allocate(bytes));
      const engine = mortalEngine(this.#module, ring.memory, life, isShared);
      made = { ring, engine, life, blocks, scratch: ring.allocate(64) };
      this.#places.set(key, made);
    }
    const { ring } = made;
    ring.u8.fill(0, ring.desc, ring.buffers + ring.size * STEP);
    ring.u8.fill(0, LOG_LINEAR, LOG_LINEAR + layout.LOG_ENTRIES + ring.size * layout.LOG_BYTES_PER_ENTRY);
    return made;
  }
}

/** A device model: whichever process runs it, a request is written by its number. */
interface Server {
  step(): void;
  /** Serves all there is. */
  drain(): void;
}

/** One case: a driver, and devices one after the other on its ring, each but the last killed at a store of its choice. */
class Case {
  readonly #choices: Choices;
  readonly #reached: Reached;
  readonly #engine: Engine;
  readonly #life: Life;
  readonly #driver: SurvivingDriver;
  readonly #inOrder: boolean;
  readonly #indirect: boolean;
  readonly #requests = new Map<number, Request>();
  readonly #blocks: number[];
  readonly #scratch: number;
  #lives = 0;
  #offered = 0;
  #answered = 0;

  constructor(choices: Choices, reached: Reached, places: Places, options: RingOptions, first: number) {
    this.#choices = choices;
    this.#reached = reached;
    this.#inOrder = options.inOrder ?? false;
    this.#indirect = options.indirect ?? false;
    const { ring, engine, life, blocks, scratch } = places.at(options);
    this.#driver = survivor(ring, first);
    this.#life = life;
    this.#engine = engine;
    this.#blocks = blocks;
    this.#scratch = scratch;
  }

  /** Plays all lives: how many requests were answered. */
  play(): number {
    const choices = this.#choices;
    for (let deaths = choices.below(LIVES + 1); deaths > 0; deaths--) {
      this.#life.stores = choices.below(STORES);
      this.#live();
    }
    this.#life.stores = Number.POSITIVE_INFINITY;
    if (choices.once(8)) return this.#scribble();
    if (this.#lives > 0) this.#resume();
    const server = this.#server();
    this.#offer();
    server.drain();
    this.#reap();
    assert.is(this.#requests.size, 0, 'requests that are never answered');
    return Math.max(1, this.#answered);
  }

  /** A device serves some steps, unless it is killed before. */
  #live(): void {
    const choices = this.#choices;
    try {
      if (this.#lives++ > 0) this.#resume();
      const server = this.#server();
      for (let steps = 1 + choices.below(24); steps > 0; steps--) {
        if (!choices.once(3)) this.#offer();
        server.step();
        this.#reap();
        assert.is(this.#driver.ring.verdict(), 0, 'verdict');
      }
    } catch (error) {
      if (!(error instanceof Death)) throw error;
      this.#reached.count('killed');
    }
    // What was published before it died is used.
    this.#reap();
  }

  #resume(): void {
    const { ring } = this.#driver;
    this.#driver.forget();
    assert.ok(this.#driver.resume(this.#engine), 'the driver has started the queue');
    assert.is(ring.verdict(), 0, 'verdict of a resume');
    if (ring.counter(ring.vq, layout.VQ_REPLAYED)) this.#reached.count('replayed');
  }

  /** A log that somebody else has written: the device breaks, or goes on, and traps nowhere. */
  #scribble(): number {
    const choices = this.#choices;
    const { ring } = this.#driver;
    const bytes = layout.LOG_ENTRIES + ring.size * layout.LOG_BYTES_PER_ENTRY;
    for (let times = 1 + choices.below(32); times > 0; times--) {
      const at = LOG_LINEAR + 4 + choices.below(bytes - 4);
      ring.u8[at] = choices.pick([0, 1, 0xff, choices.below(256)]);
    }
    this.#driver.resume(this.#engine);
    for (let bursts = 4 * ring.size; bursts > 0; bursts--) {
      const count = this.#engine.devicePop(ring.vq, 3);
      if (count === 0) break;
      this.#engine.devicePush(ring.vq, count);
    }
    this.#reached.count(ring.verdict() ? 'a log that contradicts' : 'a log that is believed');
    return 1;
  }

  #offer(): void {
    const choices = this.#choices;
    const { ring } = this.#driver;
    const free = Array.from({ length: ring.size }, (_, i) => ring.buffers + i * STEP).find(
      (candidate) => ![...this.#requests.values()].some(({ at }) => at === candidate),
    );
    if (free === undefined) return;
    const number = this.#offered;
    // A chain is no longer than the queue, tables included.
    const writable = Array.from({ length: choices.below(Math.min(3, ring.size)) }, (_, i) => ({
      at: free + 32 + i * 32,
      bytes: 1 + choices.below(24),
      writable: true,
    }));
    ring.u8.fill(UNWRITTEN, free, free + 128);
    ring.data.setUint32(free, number, true);
    const buffers = [{ at: free, bytes: 4, writable: false }, ...writable];
    const table = this.#indirect && choices.once(2) ? free + STEP / 2 : undefined;
    const id = this.#driver.offer(buffers, table);
    if (id === undefined) return;
    this.#offered++;
    this.#requests.set(id, { number, at: free, writable });
  }

  /** Takes what is used: each was in flight, and has been done. */
  #reap(): void {
    const { ring } = this.#driver;
    for (const { id, bytes } of this.#driver.reap()) {
      const request = this.#requests.get(id)!;
      this.#requests.delete(id);
      const expected = writtenTo(request);
      // What in order is skipped counts as written completely; the model says that of none that was not.
      assert.is(bytes, request.writable.length || !this.#isSplit ? expected : bytes, 'used length');
      for (const { at, bytes: room } of request.writable)
        assert.is(ring.u8[at + room - 1], request.number & 0xff, `request ${request.number} was done`);
      this.#answered++;
    }
  }

  get #isSplit(): boolean {
    return !this.#driver.ring.packed;
  }

  /** The request with a number, which a device has found in driver memory: in flight, and not served twice by one process. */
  #found(number: number, served: Set<number>): Request {
    const request = [...this.#requests.values()].find((candidate) => candidate.number === number);
    assert.ok(request, `request ${number} is served, but not in flight`);
    assert.not.ok(served.has(number), `request ${number} is served twice`);
    served.add(number);
    for (const { at, bytes } of request!.writable) this.#driver.ring.u8.fill(number & 0xff, at, at + bytes);
    return request!;
  }

  #server(): Server {
    return this.#inOrder || this.#choices.once(2) ? this.#bursts() : this.#anyOrder();
  }

  /** Gives back in the order in which it takes. */
  #bursts(): Server {
    const { ring } = this.#driver;
    const served = new Set<number>();
    const burst = (max: number) => {
      const count = this.#engine.devicePop(ring.vq, max);
      let segment = ring.segments;
      for (let i = 0; i < count; i++) {
        const counts = ring.chains + i * layout.CHAIN_SIZE + layout.CHAIN_COUNTS;
        const request = this.#found(ring.u32(ring.u32(segment)), served);
        segment += (ring.u32(counts) >>> 16) * layout.SEGMENT_SIZE;
        ring.data.setUint32(counts, writtenTo(request), true);
      }
      if (count) this.#engine.devicePush(ring.vq, count);
      return count;
    };
    return {
      step: () => void burst(1 + this.#choices.below(4)),
      drain: () => {
        while (burst(64));
      },
    };
  }

  /** Takes, holds, gives back in any order; takes in the order of the ring. */
  #anyOrder(): Server {
    const { ring } = this.#driver;
    const served = new Set<number>();
    const free = [...this.#blocks];
    const held: { block: number; request: Request }[] = [];
    let newest = -1;
    let given = 0;
    const take = () => {
      const block = free.at(-1);
      if (block === undefined || !this.#engine.requestTake(ring.vq, block)) return false;
      free.pop();
      this.#engine.requestRead(ring.vq, block, 0, this.#scratch, 4);
      const number = ring.u32(this.#scratch);
      assert.ok(number > newest, `request ${number} is taken after ${newest}`);
      newest = number;
      held.push({ block, request: this.#found(number, served) });
      return true;
    };
    const finish = () => {
      const [{ block, request }] = held.splice(this.#choices.below(held.length), 1) as [
        (typeof held)[number],
      ];
      this.#engine.requestFinish(ring.vq, block, writtenTo(request));
      free.push(block);
      given++;
    };
    const publish = () => {
      if (given) this.#engine.requestPublish(ring.vq, given);
      given = 0;
    };
    return {
      step: () => {
        const action = this.#choices.below(3);
        if (action === 0) take();
        else if (action === 1 && held.length) finish();
        else publish();
      },
      drain: () => {
        do {
          while (held.length) finish();
          publish();
        } while (take());
      },
    };
  }
}

/** Devices that are killed at any store, and others that go on. */
export const inFlight: Target = {
  name: 'in-flight',
  about: 'devices killed at any store, of either format, and what the next one makes of ring and log',
  operations: 'requests',
  tested: 500,
  start: async () => {
    const reached = new Reached();
    const places = new Places(await buildMortalEngine());
    const play = (choices: Choices) => {
      const packed = choices.once(2);
      const options = {
        packed,
        size: choices.pick(packed ? PACKED_SIZES : SPLIT_SIZES),
        indirect: choices.once(2),
        eventIdx: choices.once(2),
        inOrder: packed && choices.once(3),
      };
      // Close to where indices, and laps, begin anew.
      const first = packed ? choices.below(2 * options.size) : choices.pick([0, 65530]);
      return new Case(choices, reached, places, options, first).play();
    };
    return { play, reached, close: async () => {} };
  },
};
