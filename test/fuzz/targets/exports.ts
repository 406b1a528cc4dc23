import { instantiateSync } from '@assemblyscript/loader';
import * as layout from '../../../assembly/layout.js';
import { ETH_HLEN, VIRTIO_NET_HDR_SIZE, VIRTQ_DESC_SIZE } from '../../../assembly/virtio.js';
import { buildAssembly } from '../../../bench/build-assembly.js';
import { type Module, RuntimeError } from '../../../host/aperture/web-assembly.js';
import { DRIVER_BYTES, DRIVER_IOVA, DRIVER_LINEAR, Ring } from '../../engine/fixture.js';
import type { Choices } from '../choices.js';
import { Reached, type Target } from '../target.js';
import * as world from './exports-layout.js';
import { REGIONS } from './hostile-memory.js';

/** The exports that are called, by their number. */
export const CALLS: readonly string[] = Object.entries(world)
  .filter((entry): entry is [string, number] => entry[0].startsWith('CALL_'))
  .sort(([, one], [, other]) => one - other)
  .map(([name]) => name.slice('CALL_'.length));

/** The most operations of one case: a quarter of it on average. */
const OPERATIONS = 16384;
const SPLIT_SIZES = [8, 4, 2, 16, 32];
const PACKED_SIZES = [8, 3, 1, 16, 31];
/** Regions that have memory behind all of them: a device model writes wherever it may. */
const REAL = REGIONS.filter(({ bytes }) => bytes <= DRIVER_BYTES);
const HOME = REAL.filter(({ iova }) => iova < DRIVER_IOVA).length;
/** Offsets in the driver's memory. */
const TABLES = 0x18000;
const BUFFERS = 0x20000;
const BOUNCE = 0xa0000;
const DIRTY_LOG = 0xd0000;
const DOORBELL = 0xe0000;
const BOUNCE_PAGES = 24;
const SOUND_DISK = layout.DISK_F_FLUSH | layout.DISK_F_DISCARD | layout.DISK_F_WRITE_ZEROES;
/** Bytes of a network queue's slot. */
const FRAME_SLOT_BYTES = VIRTIO_NET_HDR_SIZE + 500;
/** Records of a flight recorder: fewer than a burst has. */
const FLIGHT_LENGTH = 8;
/** Bytes behind everything in private memory that nothing may write. */
const GUARD_BYTES = 4096;
const GUARD = 0xa5;

interface Setting {
  size: number;
  packed: boolean;
  indirect: boolean;
  eventIdx: boolean;
  inOrder: boolean;
  net: boolean;
}

/** What differs from case to case on the same ring. */
interface Play {
  /** MODE_* bits. */
  mode: number;
  /** Whether the driver's data goes through bounce buffers; whether it rings a doorbell, and what that says. */
  bounce: boolean;
  doorbell: boolean;
  notificationData: boolean;
  /** Whether the device keeps an in-flight log. */
  log: boolean;
  flight: boolean;
  /** DISK_F_* bits, and which operations are left to the file of the disk. */
  diskFlags: number;
  fileOps: number;
}

/** A ring with all that the exports want. */
class World {
  readonly ring: Ring;
  readonly #at: number;
  readonly #guard: number;
  readonly #bitmap: number;
  readonly #log: number;
  /** Flight recorders of the device and of the driver. */
  readonly #flights: readonly [device: number, driver: number];
  readonly #module: { storm(world: number, seed: bigint, first: number, end: number): number };

  constructor(module: Module, setting: Setting) {
    const { net, ...options } = setting;
    const ring = new Ring({ ...options, indirect: options.indirect && !net, fence: true });
    this.ring = ring;
    const at = ring.allocate(world.WORLD_SIZE);
    this.#at = at;
    const requestBytes = layout.REQUEST_DESCRIPTORS + (ring.size + 1) * VIRTQ_DESC_SIZE + world.COPIED_BYTES;
    const bits = (ring.u8.length / layout.PAGE_SIZE) * layout.DIRTY_BITS_PER_PAGE;
    const dirty = ring.allocate(layout.DIRTY_BITMAP + bits / 8);
    this.#bitmap = dirty + layout.DIRTY_BITMAP;
    const fileDisk = ring.allocate(layout.DISK_BLOCK_SIZE);
    ring.u8.copyWithin(fileDisk, ring.disk, ring.disk + layout.DISK_BLOCK_SIZE);
    ring.set(fileDisk, { [layout.DISK_LINEAR]: 0 });
    const queues = ring.allocate(4);
    ring.set(queues, { 0: ring.vq });
    const doorbell = DRIVER_LINEAR + DOORBELL;
    this.#flights = [this.#allocateFlight(), this.#allocateFlight()];
    this.#log = ring.allocate(layout.LOG_ENTRIES + ring.size * layout.LOG_BYTES_PER_ENTRY);
    ring.set(ring.vq, {
      [layout.VQ_REPLAY]: ring.allocate(ring.size * VIRTQ_DESC_SIZE),
      [layout.VQ_REPLAY_ENTRIES]: ring.allocate(ring.size * 2),
      [layout.VQ_FREE_ENTRIES]: ring.allocate(ring.size * 2),
      [layout.VQ_DOORBELL]: doorbell,
      [layout.VQ_DOORBELL_RINGS]: ring.vq + layout.VQ_DOORBELL_COUNT,
      [layout.VQ_GATE]: layout.GATE_OPEN,
    });
    const domain = ring.allocate(layout.DOMAIN_BLOCK_SIZE);
    ring.set(domain, {
      [layout.DOMAIN_BOUNCE]: DRIVER_LINEAR + BOUNCE,
      [layout.DOMAIN_PAGES]: BOUNCE_PAGES,
      [layout.DOMAIN_BITMAP]: ring.allocate(8),
      [layout.DOMAIN_MAPS]: ring.allocate(BOUNCE_PAGES * layout.BOUNCE_MAP_SIZE),
    });
    if (net) this.#driveFrames();
    ring.set(at, {
      [world.WORLD_VQ]: ring.vq,
      [world.WORLD_DQ]: ring.dq,
      [world.WORLD_IOTLB]: ring.iotlb,
      [world.WORLD_DISK]: ring.disk,
      [world.WORLD_FILE_DISK]: fileDisk,
      [world.WORLD_IO]: ring.io,
      [world.WORLD_REQUESTS]: ring.allocate(world.HELD * requestBytes),
      [world.WORLD_REQUEST_BYTES]: requestBytes,
      [world.WORLD_SUBMISSIONS]: ring.submissions,
      [world.WORLD_TABLE]: ring.completions,
      [world.WORLD_RANGES]: dirty,
      [world.WORLD_QUEUES]: queues,
      [world.WORLD_DOORBELL]: doorbell,
      [world.WORLD_DOMAIN]: domain,
      [world.WORLD_SCRATCH]: ring.allocate(world.SCRATCH_BYTES),
      [world.WORLD_BUFFERS]: DRIVER_LINEAR + BUFFERS,
      [world.WORLD_TABLES]: DRIVER_LINEAR + TABLES,
      [world.WORLD_HOME]: HOME,
      [world.WORLD_DIRTY_LOG]: DRIVER_LINEAR + DIRTY_LOG,
      [world.WORLD_DIRTY_BITMAP]: this.#bitmap,
    });
    ring.data.setBigUint64(at + world.WORLD_BUFFERS_IOVA, ring.iova(DRIVER_LINEAR + BUFFERS), true);
    ring.data.setBigUint64(at + world.WORLD_TABLES_IOVA, ring.iova(DRIVER_LINEAR + TABLES), true);
    this.#guard = ring.allocate(GUARD_BYTES);
    const imports = { env: { memory: ring.memory as never }, engine: ring.engine as never };
    this.#module = instantiateSync(module, imports).instance.exports as never;
  }

  /** Plays operations [first, last] of the sequence of `seed`. */
  play(how: Play, seed: bigint, first: number, last: number): void {
    const { ring } = this;
    const { bounce, doorbell, notificationData } = how;
    const { u8, engine, iotlb, dq, vq } = ring;
    u8.fill(0, DRIVER_LINEAR, DRIVER_LINEAR + DRIVER_BYTES);
    u8.fill(0, this.#at + world.WORLD_AT, this.#at + world.WORLD_SIZE);
    u8.fill(
      0,
      this.#bitmap,
      this.#bitmap + (u8.length / layout.PAGE_SIZE) * (layout.DIRTY_BITS_PER_PAGE / 8),
    );
    u8.fill(GUARD, this.#guard, this.#guard + GUARD_BYTES);
    engine.iotlbInit(iotlb, 32);
    for (const { iova, linear, bytes, access } of REAL) ring.map(iova, linear, bytes, access);
    ring.set(iotlb, {
      [layout.IOTLB_DIRTY]: 0,
      [layout.IOTLB_LOG_BASE]: 0,
      [layout.IOTLB_LOG_BYTES]: layout.PAGE_SIZE,
    });
    ring.set(dq, {
      [layout.DQ_DOMAIN]: bounce ? ring.u32(this.#at + world.WORLD_DOMAIN) : 0,
      [layout.DQ_DOORBELL]: doorbell ? DRIVER_LINEAR + DOORBELL : 0,
      [layout.DQ_FLIGHT]: how.flight ? this.#flights[1] : 0,
      [layout.DQ_FLAGS]:
        (ring.u32(dq + layout.DQ_FLAGS) & ~layout.VQ_F_NOTIFICATION_DATA) |
        (notificationData ? layout.VQ_F_NOTIFICATION_DATA : 0),
    });
    ring.set(vq, {
      [layout.VQ_DOORBELL_COUNT]: 0,
      [layout.VQ_DOORBELL_SEEN]: 0,
      [layout.VQ_LOG]: how.log ? this.#log : 0,
      [layout.VQ_FLIGHT]: how.flight ? this.#flights[0] : 0,
    });
    ring.set(ring.disk, { [layout.DISK_FLAGS]: how.diskFlags, [layout.DISK_FILE_OPS]: how.fileOps });
    ring.set(this.#at, { [world.WORLD_MODE]: how.mode });
    try {
      const played = this.#module.storm(this.#at, seed, first, last + 1);
      if (played <= last) throw new Error(`operation ${played}: ${this.#called()} gives what cannot be`);
    } catch (error) {
      if (!(error instanceof RuntimeError)) throw error;
      const operation = ring.u32(this.#at + world.WORLD_AT);
      throw new RuntimeError(`${error.message} in ${this.#called()}, operation ${operation}`);
    }
    const guard = u8.subarray(this.#guard, this.#guard + GUARD_BYTES).findIndex((byte) => byte !== GUARD);
    if (guard >= 0) throw new Error(`byte ${guard} behind private memory was written`);
  }

  /** How often each export was called since `play` began, and how often it gave something. */
  *calls(): Generator<[name: string, calls: number, gave: number]> {
    for (const [index, name] of CALLS.entries()) {
      const at = this.#at + world.WORLD_CALLS + index * 8;
      yield [name, this.ring.counter(at, 0), this.ring.counter(at, world.CALLS_MAX * 8)];
    }
  }

  #allocateFlight(): number {
    const { ring } = this;
    const flight = ring.allocate(layout.FLIGHT_RECORDS + FLIGHT_LENGTH * layout.FLIGHT_RECORD_SIZE);
    ring.set(flight, { [layout.FLIGHT_MASK]: FLIGHT_LENGTH - 1, [layout.FLIGHT_HEADERS]: 1 });
    return flight;
  }

  #called(): string {
    return CALLS[this.ring.u32(this.#at + world.WORLD_CALL)]!;
  }

  /** Has the driver's side be that of a network queue: a slot a descriptor. */
  #driveFrames(): void {
    const { ring } = this;
    const slots = ring.size;
    ring.set(ring.dq, {
      [layout.DQ_SLOTS]: slots,
      [layout.DQ_SLOT_MEMORY]: ring.buffers,
      [layout.DQ_SLOT_BYTES]: FRAME_SLOT_BYTES,
      [layout.DQ_HEADER_BYTES]: VIRTIO_NET_HDR_SIZE,
      [layout.DQ_LEAST_BYTES]: ETH_HLEN,
      [layout.DQ_SLOT_DESCRIPTORS]: 1,
      [layout.DQ_SLOT_STATE]: ring.allocate(slots * layout.SLOT_STATE_SIZE),
      [layout.DQ_FREE_STACK]: ring.allocate(slots * 2),
      [layout.DQ_ORDER]: ring.allocate(slots * 2),
      [layout.DQ_REAPED]: ring.allocate(slots * layout.FRAME_SIZE),
    });
  }
}

class Worlds {
  readonly reached = new Reached();
  readonly #module: Module;
  readonly #worlds = new Map<string, World>();

  constructor(module: Module) {
    this.#module = module;
  }

  play(choices: Choices): number {
    const packed = choices.once(2);
    const net = choices.once(3);
    const setting = {
      size: choices.pick(packed ? PACKED_SIZES : SPLIT_SIZES),
      packed,
      indirect: choices.once(2),
      eventIdx: choices.once(2),
      inOrder: packed && choices.once(3),
      net,
    };
    const made = this.#at(setting);
    const mode =
      (packed ? world.MODE_PACKED : 0) |
      (net ? world.MODE_NET : 0) |
      (choices.once(2) ? world.MODE_DRIVEN : 0) |
      (choices.once(3) ? world.MODE_REQUESTS : 0) |
      (choices.once(2) ? world.MODE_RECEIVE : 0);
    const play = {
      mode,
      bounce: choices.once(2),
      doorbell: choices.once(2),
      notificationData: choices.once(2),
      log: choices.once(2),
      flight: choices.once(2),
      diskFlags: choices.once(2) ? SOUND_DISK : choices.below(16),
      fileOps: choices.once(3) ? choices.below(256) : 0,
    };
    const seed = (BigInt(choices.below(2 ** 32)) << 32n) | BigInt(choices.below(2 ** 32));
    const last = choices.below(OPERATIONS);
    const first = last - choices.below(last + 1);
    made.play(play, seed, first, last);
    let calls = 0;
    for (const [name, called, gave] of made.calls()) {
      calls += called;
      this.reached.count(`${name} called`, called);
      this.reached.count(`${name} gave`, gave);
    }
    return calls;
  }

  /** The world of a setting, made when it is first needed. */
  #at(setting: Setting): World {
    const key = Object.values(setting).join();
    const made = this.#worlds.get(key) ?? new World(this.#module, setting);
    this.#worlds.set(key, made);
    return made;
  }
}

/** All exports on memory that anyone may write, from WebAssembly to WebAssembly, so that there can be very many calls. */
export const exports: Target = {
  name: 'exports',
  about:
    'every export of engine.wasm in any order, over memory that the other side writes meanwhile: no trap',
  operations: 'calls',
  tested: 40,
  start: async () => {
    const worlds = new Worlds(await buildAssembly('test/fuzz/assembly/exports.ts'));
    return { play: (choices) => worlds.play(choices), reached: worlds.reached, close: async () => {} };
  },
};
