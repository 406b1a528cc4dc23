import { createHash } from 'node:crypto';
import * as layout from '../../assembly/layout.js';
import {
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  VIRTIO_BLK_T_FLUSH,
  VIRTQ_AVAIL_ENTRY_SIZE,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_SIZE,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
} from '../../assembly/virtio.js';
import { Ring } from '../engine/fixture.js';
import { DeviceLoop, DriverLoop, type Side } from './sides.js';
import { type Access, type Done, type Instrumented, SteppedEngine } from './stepped-engine.js';

export interface ExploreOptions {
  packed: boolean;
  /** Entries of the queue. */
  size: number;
  eventIdx: boolean;
  /** VIRTIO_F_IN_ORDER; packed rings only. */
  inOrder?: boolean;
  /** Requests that the driver makes. */
  requests: number;
}

/** What an exploration has seen, or the first thing that went wrong. */
export interface Explored {
  states: number;
  /** Ways to the end of all requests. */
  ends: number;
  fault?: string;
}

/** A side in the middle of a call, or between two. */
interface Moment {
  /** State of the side's loop. */
  loop: number[];
  /** Its memory when the call began. */
  memory: Buffer;
  /** Accesses that the call has made. */
  done: Done[];
  /** The next one; none before the next signal, wait or end. */
  access: Access | undefined;
  /** Plain stores that the other side cannot see yet, oldest first: the store buffer of a processor (x86-TSO). */
  buffer: { at: number; value: Uint8Array }[];
  /** Its eventfd was written since it was read. */
  signalled: boolean;
}

/** All there is: shared memory, the driver, the device. */
interface World {
  shared: Buffer;
  sides: readonly [Moment, Moment];
}

/**
 * Every interleaving of a driver and a device, both of them the real engine on one ring: the accesses to shared words are
 * the steps, plain stores may become visible any time later in their order, and nobody may sleep for ever with work left,
 * break, or complete a request twice.
 */
export function explore(engine: Instrumented, options: ExploreOptions): Explored {
  return new Exploration(engine, options).run();
}

class Exploration {
  readonly #ring: Ring;
  readonly #stepped: SteppedEngine;
  readonly #sides: readonly [Side, Side];
  readonly #sharedStart: number;
  readonly #sharedEnd: number;
  readonly #seen = new Set<string>();
  #ends = 0;

  constructor(engine: Instrumented, options: ExploreOptions) {
    const { packed, size, eventIdx, inOrder = false, requests } = options;
    // A slot for each entry: with indirect tables a queue of two holds two requests.
    const ring = new Ring({ packed, size, eventIdx, inOrder, indirect: true, segments: 64 });
    this.#ring = ring;
    for (let i = 0; i < requests; i++) ring.submission(i, { type: VIRTIO_BLK_T_FLUSH, tag: i });
    const words = packed ? packedWords(ring) : splitWords(ring);
    this.#sharedStart = ring.desc;
    this.#sharedEnd = ring.u32(ring.dq + layout.DQ_SLOT_MEMORY) + size * layout.SLOT_SIZE;
    const isShared = (at: number) => at >= this.#sharedStart && at < this.#sharedEnd;
    this.#stepped = new SteppedEngine(ring, engine, isShared, (at) => words.has(at));
    this.#sides = [new DriverLoop(ring, requests), new DeviceLoop(ring)];
  }

  run(): Explored {
    const first: World = {
      shared: this.#takeShared(),
      sides: [this.#begin(0), this.#begin(1)],
    };
    const stack = [first];
    // Both sides come to their first access before anything is chosen.
    for (const side of [0, 1] as const) stack[0] = this.#advance(stack[0]!, side);
    this.#remember(stack[0]!);
    try {
      while (stack.length) {
        const world = stack.pop()!;
        const following = this.#successors(world);
        if (following === 'end') this.#ends++;
        else if (following.length === 0) throw new Error('both sides sleep, and there is work left');
        else for (const next of following) if (this.#remember(next)) stack.push(next);
      }
    } catch (error) {
      return { states: this.#seen.size, ends: this.#ends, fault: (error as Error).message };
    }
    return { states: this.#seen.size, ends: this.#ends };
  }

  /** Whatever can happen next; 'end' once the driver has all it wants. */
  #successors(world: World): World[] | 'end' {
    const worlds: World[] = [];
    for (const side of [0, 1] as const) {
      const moment = world.sides[side];
      if (moment.buffer.length) worlds.push(this.#drain(world, side));
      if (moment.access) {
        worlds.push(this.#perform(world, side, moment.access));
        continue;
      }
      const { kind } = this.#stepOf(side, moment);
      if (kind === 'end') return 'end';
      if (kind === 'signal') worlds.push(this.#signal(world, side));
      else if (moment.signalled) worlds.push(this.#wake(world, side));
    }
    return worlds;
  }

  /** The oldest plain store of a side becomes visible. */
  #drain(world: World, side: 0 | 1): World {
    const moment = world.sides[side];
    const [oldest, ...buffer] = moment.buffer;
    const shared = Buffer.from(world.shared);
    shared.set(oldest!.value, oldest!.at - this.#sharedStart);
    return this.#with({ ...world, shared }, side, { ...moment, buffer });
  }

  /** A side makes its access and goes on to the next one. */
  #perform(world: World, side: 0 | 1, access: Access): World {
    const moment = world.sides[side];
    if (access.kind === 'load') {
      const at = access.at - this.#sharedStart;
      const value = Uint8Array.from(world.shared.subarray(at, at + access.bytes));
      // A processor sees its own stores before anyone else does.
      for (const store of moment.buffer)
        for (const [i, byte] of store.value.entries()) {
          const offset = store.at + i - access.at;
          if (offset >= 0 && offset < value.length) value[offset] = byte;
        }
      return this.#advance(this.#with(world, side, { ...moment, done: [...moment.done, value] }), side);
    }
    const done = [...moment.done, undefined];
    if (!access.atomic) {
      const buffer = [...moment.buffer, { at: access.at, value: access.value }];
      return this.#advance(this.#with(world, side, { ...moment, done, buffer }), side);
    }
    // An atomic store is a barrier: everything before it is visible with it.
    const shared = this.#visible(world, moment);
    shared.set(access.value, access.at - this.#sharedStart);
    return this.#advance(this.#with({ ...world, shared }, side, { ...moment, done, buffer: [] }), side);
  }

  /** Shared memory once all plain stores of a side are visible. */
  #visible(world: World, moment: Moment): Buffer {
    const shared = Buffer.from(world.shared);
    for (const { at, value } of moment.buffer) shared.set(value, at - this.#sharedStart);
    return shared;
  }

  /** A side writes the other one's eventfd: a system call, and so a barrier. */
  #signal(world: World, side: 0 | 1): World {
    const moment = world.sides[side];
    const shared = this.#visible(world, moment);
    const woken = this.#with({ ...world, shared }, side === 0 ? 1 : 0, {
      ...world.sides[side === 0 ? 1 : 0],
      signalled: true,
    });
    return this.#pass(woken, side, { ...moment, buffer: [] });
  }

  #wake(world: World, side: 0 | 1): World {
    const moment = world.sides[side];
    return this.#pass({ ...world, shared: this.#visible(world, moment) }, side, {
      ...moment,
      buffer: [],
      signalled: false,
    });
  }

  /** A side's signal or wait is behind it. */
  #pass(world: World, side: 0 | 1, moment: Moment): World {
    const loop = this.#sides[side];
    loop.state = moment.loop;
    loop.passed();
    return this.#advance(this.#with(world, side, { ...moment, loop: loop.state }), side);
  }

  #with(world: World, side: 0 | 1, moment: Moment): World {
    return { shared: world.shared, sides: side === 0 ? [moment, world.sides[1]] : [world.sides[0], moment] };
  }

  #stepOf(side: 0 | 1, { loop }: Moment): ReturnType<Side['next']> {
    this.#sides[side].state = loop;
    return this.#sides[side].next();
  }

  /** Lets a side run on to its next access of a shared word, signal, wait or end. */
  #advance(world: World, side: 0 | 1): World {
    const loop = this.#sides[side];
    let moment = world.sides[side];
    this.#ring.u8.set(world.shared, this.#sharedStart);
    for (;;) {
      const step = this.#stepOf(side, moment);
      if (step.kind !== 'call') {
        const over = { ...moment, access: undefined };
        return this.#with({ ...world, shared: this.#takeShared() }, side, over);
      }
      this.#putMemory(loop, moment.memory);
      const done = [...moment.done];
      const progress = this.#stepped.advance(step.call, done);
      if ('access' in progress) {
        const paused = { ...moment, done, access: progress.access };
        return this.#with({ ...world, shared: this.#takeShared() }, side, paused);
      }
      step.after(progress.result);
      moment = { ...moment, loop: loop.state, memory: this.#takeMemory(loop), done: [], access: undefined };
    }
  }

  #begin(side: 0 | 1): Moment {
    const loop = this.#sides[side];
    return {
      loop: loop.state,
      memory: this.#takeMemory(loop),
      done: [],
      access: undefined,
      buffer: [],
      signalled: false,
    };
  }

  #takeShared(): Buffer {
    return Buffer.from(this.#ring.u8.slice(this.#sharedStart, this.#sharedEnd));
  }

  #takeMemory({ memory }: Side): Buffer {
    return Buffer.concat(memory.map(([at, bytes]) => this.#ring.u8.slice(at, at + bytes)));
  }

  #putMemory({ memory }: Side, image: Buffer): void {
    let from = 0;
    for (const [at, bytes] of memory) {
      this.#ring.u8.set(image.subarray(from, from + bytes), at);
      from += bytes;
    }
  }

  /** Enters a state: false if it was there before. */
  #remember({ shared, sides }: World): boolean {
    const hash = createHash('sha1').update(shared);
    for (const { loop, memory, done, buffer, signalled } of sides) {
      hash.update(memory).update(`${loop}|${signalled}|${done.length}|`);
      for (const value of done) if (value) hash.update(value);
      for (const { at, value } of buffer) hash.update(`|${at}|`).update(value);
    }
    const key = hash.digest('base64');
    if (this.#seen.has(key)) return false;
    this.#seen.add(key);
    return true;
  }
}

/** Where both sides look while they run: the indices, the entries that they count, and what each asks of the other. */
function splitWords({ avail, used, size }: Ring): Set<number> {
  const flags = [avail, used];
  const indices = [avail + VIRTQ_AVAIL_IDX, used + VIRTQ_USED_IDX];
  const entries = Array.from({ length: size }, (_, i) => [
    avail + VIRTQ_AVAIL_RING + i * VIRTQ_AVAIL_ENTRY_SIZE,
    used + VIRTQ_USED_RING + i * VIRTQ_USED_ENTRY_SIZE,
  ]);
  const events = [
    avail + VIRTQ_AVAIL_RING + size * VIRTQ_AVAIL_ENTRY_SIZE,
    used + VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE,
  ];
  return new Set([...flags, ...indices, ...entries.flat(), ...events]);
}

/** The same of a packed ring: the flags of each descriptor, with what is accessed together with them, and both wishes. */
function packedWords({ desc, avail, used, size }: Ring): Set<number> {
  const descriptors = Array.from({ length: size }, (_, i) => desc + i * VIRTQ_DESC_SIZE);
  return new Set([...descriptors.flatMap((at) => [at + PVIRTQ_DESC_LEN, at + PVIRTQ_DESC_ID]), avail, used]);
}
