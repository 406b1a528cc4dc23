import {
  CACHE_LINE,
  DQ_BLOCK_SIZE,
  DQ_DESC,
  DQ_DEVICE,
  DQ_DOMAIN,
  DQ_DOORBELL,
  DQ_DRIVER,
  DQ_FLAGS,
  DQ_FLIGHT,
  DQ_FREE,
  DQ_FREE_STACK,
  DQ_HEADER_BYTES,
  DQ_INDEX,
  DQ_IOVA_DELTA,
  DQ_LEAST_BYTES,
  DQ_ORDER,
  DQ_REAPED,
  DQ_SIZE,
  DQ_SLOT_BYTES,
  DQ_SLOT_DESCRIPTORS,
  DQ_SLOT_MEMORY,
  DQ_SLOT_STATE,
  DQ_SLOTS,
  DQ_VERDICT,
  DQ_VERDICT_HEAD,
  FRAME_SIZE,
  SLOT_STATE_BUSY,
  SLOT_STATE_SIZE,
  SLOT_STATE_TAG,
  VQ_BYTES_READ,
  VQ_BYTES_WRITTEN,
  VQ_KICKS,
  VQ_KICKS_SUPPRESSED,
  VQ_REQUESTS,
} from '../../assembly/layout.js';
import {
  VIRTIO_F_RING_PACKED,
  VIRTIO_RING_F_INDIRECT_DESC,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_RING,
} from '../../assembly/virtio.js';
import type { Window } from '../aperture/aperture.js';
import { ERROR_CODES, RingbellError, VERDICT_CODES } from '../errors.js';
import type { QueueFlight } from '../flight.js';
import { loadAddon } from '../native/addon.js';
import { FlightRecorder } from '../queue/flight-recorder.js';
import { LatencyRecorder } from '../queue/latency-recorder.js';
import { ringFlags } from '../queue/ring-flags.js';
import { hasBit } from '../uapi/bits.js';
import { vringAreas } from '../uapi/vring-areas.js';
import type { DriverMemory } from './driver-memory.js';

/** Bytes of one slot's number in the free-slot stack, and in the ring of slots in order. */
const SLOT_NUMBER_SIZE = 2;

/**
 * Bytes from the start of a line to the used ring of a split queue. Its entries then lie on multiples of their size, and none
 * of them on two lines or two pages: whoever writes one in two pieces, as QEMU does at the end of a page behind an IOMMU, may
 * lose one.
 */
const USED_RING_SHIFT = VIRTQ_USED_ENTRY_SIZE - VIRTQ_USED_RING;

/** What a driver keeps for each request of a queue, besides its private state. */
export interface SlotShape {
  /** Descriptors that it takes from the ring's own table, where it has no indirect one. */
  readonly descriptors: number;
  /** Bytes of memory. */
  readonly bytes: number;
  /** Whether that is data of requests, which bounce buffers stand in for, or what the driver says to the device about them. */
  readonly holdsData: boolean;
  /** Bytes of the header in front of each payload, and of the shortest payload: of a queue of buffers. */
  readonly headerBytes?: number;
  readonly leastBytes?: number;
}

/** What a queue is to be made for. */
export interface QueueShape {
  /** Entries at first, and those that it may be given later at most: powers of two. */
  readonly queueSize: number;
  readonly maxQueueSize: number;
  readonly slot: SlotShape;
  /** Chains that its flight recorder has room for; 0 for none. */
  readonly flightChains: number;
}

/** What a queue has done so far. Byte counts are of data, without headers and status. */
export interface DriverQueueStats {
  /** Requests that the device gave back. */
  requests: number;
  bytesRead: number;
  bytesWritten: number;
  /** Notifications sent, by doorbell or eventfd, and those that the device did not want. */
  kicks: number;
  kicksSuppressed: number;
  /** Interrupts received. */
  interrupts: number;
  /** Calls on the data path from JavaScript into WASM or the addon. */
  crossings: number;
  /** Whether kicks are stores to a mapped doorbell page. */
  doorbell: boolean;
}

/** Driver side of one virtqueue, whatever device it belongs to: rings, slots, DQ block, eventfds, doorbell. */
export class DriverQueue {
  readonly memory: DriverMemory;
  readonly index: number;
  /** Entries that the ring can be given at least, and at most, and the requests that are in flight then at most. */
  readonly minSize: number;
  readonly maxSize: number;
  readonly maxSlots: number;
  /** Linear address of the DQ block. */
  readonly block: number;
  /** Whether the ring is packed, and not split. */
  readonly packed: boolean;
  /** Linear addresses of descriptor area, driver area and device area. */
  readonly rings: { readonly desc: number; readonly driver: number; readonly device: number };
  /** Linear address of the slots' memory, and bytes of each. */
  readonly slotMemory: number;
  readonly slotBytes: number;
  /** Bytes of the header in front of each payload, and of the shortest and the longest payload: of a queue of buffers. */
  readonly headerBytes: number;
  readonly leastBytes: number;
  readonly mostBytes: number;
  readonly kickFd: number;
  readonly callFd: number;
  /** How long its requests take. */
  readonly latency = LatencyRecorder.create();
  /** What it has done last; undefined where that is not recorded. */
  readonly flight: FlightRecorder | undefined;
  /** Calls on the data path from JavaScript into WASM or the addon. */
  crossings = 0;
  interrupts = 0;
  #size = 0;
  #slots = 0;
  /** Descriptors of the ring that belong to each slot. */
  readonly #slotDescriptors: number;
  #doorbell: Window | undefined;

  /** Bytes of memory for data that the slots of a queue take. */
  static bufferBytes(size: number, slot: SlotShape): number {
    return slot.holdsData ? size * slot.bytes + CACHE_LINE : 0;
  }

  /** Bytes of coherent memory that a queue takes. */
  static coherentBytes(size: number, slot: SlotShape): number {
    // A packed ring takes less.
    const { desc, driver, device } = vringAreas(size, false);
    const ring = desc.bytes + driver.bytes + USED_RING_SHIFT + device.bytes;
    return ring + (slot.holdsData ? 0 : size * slot.bytes) + 4 * CACHE_LINE;
  }

  /** Bytes of private memory that a queue takes, without tables of its driver. */
  static privateBytes(size: number, flightChains: number): number {
    const tables = size * (SLOT_STATE_SIZE + 2 * SLOT_NUMBER_SIZE + FRAME_SIZE);
    return DQ_BLOCK_SIZE + tables + FlightRecorder.bytes(flightChains) + 6 * CACHE_LINE;
  }

  /** `deviceId` is the VIRTIO_ID_* of its device. */
  constructor(memory: DriverMemory, index: number, shape: QueueShape, features: bigint, deviceId: number) {
    const { queueSize, maxQueueSize, slot, flightChains } = shape;
    const { aperture } = memory;
    const addon = loadAddon();
    this.memory = memory;
    this.index = index;
    this.minSize = slot.descriptors;
    this.maxSize = maxQueueSize;
    this.#slotDescriptors = hasBit(features, VIRTIO_RING_F_INDIRECT_DESC) ? 1 : slot.descriptors;
    this.maxSlots = this.#slotsOf(maxQueueSize);
    this.packed = hasBit(features, VIRTIO_F_RING_PACKED);
    // The three areas lie on lines of their own: of a split ring each is written by one side only.
    const areas = vringAreas(maxQueueSize, this.packed);
    const shift = this.packed ? 0 : USED_RING_SHIFT;
    this.rings = {
      desc: memory.takeCoherent(areas.desc.bytes),
      driver: memory.takeCoherent(areas.driver.bytes),
      device: memory.takeCoherent(shift + areas.device.bytes) + shift,
    };
    const slotsBytes = this.maxSlots * slot.bytes;
    this.slotMemory = slot.holdsData ? memory.take(slotsBytes) : memory.takeCoherent(slotsBytes);
    this.slotBytes = slot.bytes;
    this.headerBytes = slot.headerBytes ?? 0;
    this.leastBytes = slot.leastBytes ?? 0;
    this.mostBytes = slot.bytes - this.headerBytes;
    this.block = aperture.allocate(DQ_BLOCK_SIZE);
    const word = (offset: number, value: number) => {
      aperture.u32[(this.block + offset) / 4] = value;
    };
    word(DQ_FLAGS, ringFlags(features));
    word(DQ_DESC, this.rings.desc);
    word(DQ_DRIVER, this.rings.driver);
    word(DQ_DEVICE, this.rings.device);
    word(DQ_SLOT_MEMORY, this.slotMemory);
    word(DQ_SLOT_BYTES, slot.bytes);
    word(DQ_HEADER_BYTES, this.headerBytes);
    word(DQ_LEAST_BYTES, this.leastBytes);
    word(DQ_SLOT_DESCRIPTORS, this.#slotDescriptors);
    word(DQ_DOMAIN, memory.domain?.block ?? 0);
    word(DQ_SLOT_STATE, aperture.allocate(this.maxSlots * SLOT_STATE_SIZE));
    word(DQ_FREE_STACK, aperture.allocate(this.maxSlots * SLOT_NUMBER_SIZE));
    word(DQ_ORDER, aperture.allocate(this.maxSlots * SLOT_NUMBER_SIZE));
    word(DQ_REAPED, aperture.allocate(this.maxSlots * FRAME_SIZE));
    word(DQ_INDEX, index);
    if (flightChains > 0) {
      const flight = FlightRecorder.allocate(aperture, flightChains, deviceId);
      word(DQ_FLIGHT, flight);
      this.flight = new FlightRecorder(aperture, flight);
    }
    aperture.u64[(this.block + DQ_IOVA_DELTA) / 8] = memory.iovaDelta;
    this.kickFd = addon.eventfd();
    try {
      this.callFd = addon.eventfd();
    } catch (error) {
      addon.close(this.kickFd);
      throw error;
    }
    this.#start(queueSize);
  }

  /** Entries of the ring. */
  get size(): number {
    return this.#size;
  }

  /** Requests that can be in flight. */
  get slots(): number {
    return this.#slots;
  }

  /**
   * Starts the queue anew over the same memory, with `size` entries: minSize to maxSize. The device must have let go of it.
   * What was in flight holds its slot no more, and its tag is forgotten.
   */
  restart(size: number): void {
    this.memory.aperture.engine.driverReset(this.block);
    this.#start(size);
  }

  /** Tags of the requests of a block queue that the device has not given back. */
  tagsInFlight(): number[] {
    const { i32 } = this.memory.aperture;
    const states = (i32[(this.block + DQ_SLOT_STATE) / 4] as number) / 4;
    const tags: number[] = [];
    for (let slot = 0; slot < this.#slots; slot++) {
      const state = states + (slot * SLOT_STATE_SIZE) / 4;
      if (i32[state + SLOT_STATE_BUSY / 4]) tags.push(i32[state + SLOT_STATE_TAG / 4] as number);
    }
    return tags;
  }

  /** Slots that no request holds. */
  get free(): number {
    return this.memory.aperture.u32[(this.block + DQ_FREE) / 4] as number;
  }

  /** The doorbell page; undefined while the kick eventfd is used. */
  get doorbell(): Window | undefined {
    return this.#doorbell;
  }

  set doorbell(page: Window) {
    this.#doorbell = page;
    this.memory.aperture.u32[(this.block + DQ_DOORBELL) / 4] = page.linear;
  }

  /** Whether the device did something that no sound device does. Cheap enough to ask after every burst. */
  get broken(): boolean {
    return this.memory.aperture.u32[(this.block + DQ_VERDICT) / 4] !== 0 || this.memory.lost;
  }

  /** What the device did. Only while `broken`. */
  verdict(): RingbellError {
    const { u32 } = this.memory.aperture;
    const code = VERDICT_CODES[u32[(this.block + DQ_VERDICT) / 4] as number] ?? 'ERR_MEMORY_LOST';
    const at = u32[(this.block + DQ_VERDICT_HEAD) / 4];
    return new RingbellError(code, `queue ${this.index}: ${ERROR_CODES[code]} (${at})`);
  }

  /** Counts a call from JavaScript into WASM that offers or reaps, and is about to be made. */
  enter(): void {
    this.crossings++;
    this.flight?.stamp();
  }

  /** Signals the kick eventfd. */
  kick(): void {
    this.crossings++;
    loadAddon().eventfdSignal(this.kickFd);
  }

  /** Reads a pending interrupt away. */
  drainCall(): void {
    this.crossings++;
    if (loadAddon().eventfdDrain(this.callFd) > 0) this.interrupts++;
  }

  stats(): DriverQueueStats {
    const counter = (offset: number) => Number(this.memory.aperture.u64[(this.block + offset) / 8]);
    return {
      requests: counter(VQ_REQUESTS),
      bytesRead: counter(VQ_BYTES_READ),
      bytesWritten: counter(VQ_BYTES_WRITTEN),
      kicks: counter(VQ_KICKS),
      kicksSuppressed: counter(VQ_KICKS_SUPPRESSED),
      interrupts: this.interrupts,
      crossings: this.crossings,
      doorbell: this.#doorbell !== undefined,
    };
  }

  /** What its flight recorder holds; undefined where there is none. */
  flightOf(): QueueFlight | undefined {
    if (!this.flight) return undefined;
    return {
      queue: this.index,
      ring: this.packed ? 'packed' : 'split',
      size: this.#size,
      inFlight: this.#slots - this.free,
      recorded: this.flight.recorded,
      records: this.flight.read(this.packed),
    };
  }

  /** Takes the doorbell page out of the mapping. Nothing may be submitted any more. */
  unmapDoorbell(): void {
    if (this.#doorbell) this.memory.aperture.unmap(this.#doorbell);
  }

  close(): void {
    loadAddon().close(this.kickFd);
    loadAddon().close(this.callFd);
  }

  #slotsOf(size: number): number {
    return Math.floor(size / this.#slotDescriptors);
  }

  #start(size: number): void {
    const { engine, u32 } = this.memory.aperture;
    this.#size = size;
    this.#slots = this.#slotsOf(size);
    u32[(this.block + DQ_SIZE) / 4] = this.#size;
    u32[(this.block + DQ_SLOTS) / 4] = this.#slots;
    engine.driverStart(this.block);
  }
}
