import {
  CHAIN_SIZE,
  GATE_STOPPED,
  IO_SIZE,
  LATENCY_BLOCK_SIZE,
  SEGMENT_SIZE,
  SEGMENTS_SLACK,
  VQ_BLOCK_SIZE,
  VQ_BURST,
  VQ_CALL_FD,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DOORBELL,
  VQ_DOORBELL_COUNT,
  VQ_DOORBELL_RINGS,
  VQ_DRIVER,
  VQ_EPOCH,
  VQ_EXIT,
  VQ_F_EVENT_IDX,
  VQ_F_PACKED,
  VQ_FAULT_ACCESS,
  VQ_FAULT_IOVA,
  VQ_FEATURES,
  VQ_FLAGS,
  VQ_FLIGHT,
  VQ_FREE_ENTRIES,
  VQ_GATE,
  VQ_HEADS,
  VQ_IN_FLIGHT,
  VQ_IOTLB,
  VQ_KICK_FD,
  VQ_LAST_AVAIL,
  VQ_LATENCY,
  VQ_LOG,
  VQ_MISS,
  VQ_REPLAY,
  VQ_REPLAY_END,
  VQ_REPLAY_ENTRIES,
  VQ_REPLAYING,
  VQ_SAMPLING,
  VQ_SEGMENTS,
  VQ_SEGMENTS_CAPACITY,
  VQ_SIZE,
  VQ_SNAPSHOT,
  VQ_THREAD,
  VQ_USED,
  VQ_VERDICT,
  VQ_VERDICT_HEAD,
  VQ_WRITABLE,
} from '../../assembly/layout.js';
import { VIRTQ_DESC_SIZE } from '../../assembly/virtio.js';
import type { Aperture } from '../aperture/aperture.js';
import type { QueueFlight } from '../flight.js';
import { FlightRecorder } from './flight-recorder.js';
import { Gate } from './gate.js';
import { LatencyRecorder } from './latency-recorder.js';
import { ringFlags } from './ring-flags.js';

/** Chains; the most that one pop takes. */
export const BURST_LIMIT = 128;
/** Segments that a pop can hold at least, whatever the size of the queue. */
const SEGMENTS_MINIMUM = 1024;

/** Where the rings of a queue lie: linear addresses. */
export interface RingPlacement {
  /** Entries. */
  size: number;
  descriptorTable: number;
  driverArea: number;
  deviceArea: number;
}

/** One virtqueue of a device, seen from the host: the VQ block of assembly/layout.ts and the tables that it points to. */
export class QueueBlock {
  readonly aperture: Aperture;
  /** Linear address of the VQ block. */
  readonly vq: number;
  readonly gate: Gate;
  /** How long its requests take. */
  readonly latency: LatencyRecorder;
  /** What it has done last; undefined where that is not recorded. */
  readonly flight: FlightRecorder | undefined;

  /**
   * Allocates the block of a queue of at most `maxSize` entries, and its tables; it starts stopped. `flight` is the linear
   * address of its flight recorder, 0 for none.
   */
  static allocate(aperture: Aperture, maxSize: number, iotlb: number, flight = 0): QueueBlock {
    const vq = aperture.allocate(VQ_BLOCK_SIZE);
    const burst = Math.min(maxSize, BURST_LIMIT);
    // A chain may be as long as the queue, and each of its descriptors may cross into another region.
    const segments = Math.max(2 * maxSize, SEGMENTS_MINIMUM);
    const set = (offset: number, value: number) => aperture.data.setUint32(vq + offset, value, true);
    set(VQ_IOTLB, iotlb);
    set(VQ_BURST, burst);
    set(VQ_CHAINS, aperture.allocate(burst * CHAIN_SIZE));
    set(VQ_WRITABLE, aperture.allocate(burst * Uint32Array.BYTES_PER_ELEMENT));
    set(VQ_SEGMENTS, aperture.allocate((segments + SEGMENTS_SLACK) * SEGMENT_SIZE));
    set(VQ_SEGMENTS_CAPACITY, segments);
    set(VQ_SNAPSHOT, aperture.allocate(Math.max(maxSize + 1, 4) * VIRTQ_DESC_SIZE));
    set(VQ_HEADS, aperture.allocate(maxSize));
    set(VQ_LATENCY, aperture.allocate(LATENCY_BLOCK_SIZE));
    set(VQ_FLIGHT, flight);
    aperture.data.setInt32(vq + VQ_KICK_FD, -1, true);
    aperture.data.setInt32(vq + VQ_CALL_FD, -1, true);
    const block = new QueueBlock(aperture, vq);
    block.gate.close();
    return block;
  }

  /** The block at `vq`, allocated by another thread. */
  constructor(aperture: Aperture, vq: number) {
    this.aperture = aperture;
    this.vq = vq;
    this.gate = new Gate(aperture, vq);
    const latency = this.#get(VQ_LATENCY);
    this.latency = new LatencyRecorder(aperture.i32, (vq + VQ_SAMPLING) / 4, aperture.memory.buffer, latency);
    const flight = this.#get(VQ_FLIGHT);
    this.flight = flight === 0 ? undefined : new FlightRecorder(aperture, flight);
  }

  /** Private memory for the I/O table of one burst: its linear address. */
  allocateIoTable(): number {
    return this.aperture.allocate((this.burst + 1) * IO_SIZE);
  }

  /** Chains; the most that one pop takes. */
  get burst(): number {
    return this.#get(VQ_BURST);
  }

  /** Linear address of the IOTLB through which the queue sees the driver's memory. Only while stopped. */
  set iotlb(iotlb: number) {
    this.#set(VQ_IOTLB, iotlb);
  }

  /** Says where the rings are. Only while stopped; a queue that runs already goes on where it was. */
  place(placement: RingPlacement): void {
    this.#set(VQ_SIZE, placement.size);
    this.#set(VQ_DESC, placement.descriptorTable);
    this.#set(VQ_DRIVER, placement.driverArea);
    this.#set(VQ_DEVICE, placement.deviceArea);
  }

  /**
   * Starts the queue over its rings at the position of the vring base `base` with the negotiated `features`. Only while
   * stopped. Throws WebAssembly.RuntimeError if the rings are not accessible.
   */
  start(base: number, features: bigint): void {
    this.#negotiate(features);
    this.aperture.engine.deviceStart(this.vq, base);
  }

  /**
   * Starts the queue over its rings where another process has left it, by its in-flight log: false if the log says that the
   * driver had not started it. Only while stopped. Throws WebAssembly.RuntimeError if the rings are not accessible.
   */
  resume(features: bigint): boolean {
    this.#negotiate(features);
    return this.aperture.engine.deviceResume(this.vq) !== 0;
  }

  /** Whether there is an in-flight log, and it says that the driver has started the queue: in this process, or another one. */
  get logged(): boolean {
    return this.aperture.engine.logIsRunning(this.vq) !== 0;
  }

  /** Has the in-flight log, if there is one, say that the driver has not started the queue. Only while stopped. */
  idle(): void {
    this.aperture.engine.deviceIdle(this.vq);
  }

  #negotiate(features: bigint): void {
    this.aperture.data.setBigUint64(this.vq + VQ_FEATURES, features, true);
    this.#set(VQ_FLAGS, ringFlags(features));
  }

  /** Whether the feature of bit number `bit` was negotiated. */
  negotiated(bit: number): boolean {
    return ((this.#get(VQ_FEATURES + (bit >> 5) * 4) >>> (bit & 31)) & 1) !== 0;
  }

  /** Clears the reasons not to run that a reset clears; what a model holds of the queue is stale from now on. Only while stopped. */
  reset(): void {
    this.#set(VQ_EPOCH, this.epoch + 1);
    this.#set(VQ_VERDICT, 0);
    this.#set(VQ_VERDICT_HEAD, 0);
    this.#set(VQ_MISS, 0);
  }

  /** Whether the control plane owns the queue at this moment. */
  get stopped(): boolean {
    return Atomics.load(this.aperture.i32, (this.vq + VQ_GATE) / 4) === GATE_STOPPED;
  }

  /** First VERDICT_* that broke the queue, 0 while it is sound. */
  get verdict(): number {
    return Atomics.load(this.aperture.i32, (this.vq + VQ_VERDICT) / 4);
  }

  /** Head of the chain that broke the queue, or the index that did. */
  get verdictHead(): number {
    return this.#get(VQ_VERDICT_HEAD);
  }

  /** Whether a pop waits for a region at `faultIova` to be mapped. */
  get miss(): boolean {
    return Atomics.load(this.aperture.i32, (this.vq + VQ_MISS) / 4) !== 0;
  }

  clearMiss(): void {
    Atomics.store(this.aperture.i32, (this.vq + VQ_MISS) / 4, 0);
  }

  /** IOVA that the verdict or the miss speaks of. */
  get faultIova(): bigint {
    return this.aperture.data.getBigUint64(this.vq + VQ_FAULT_IOVA, true);
  }

  /** IOTLB_ACCESS_* bits wanted at `faultIova`. */
  get faultAccess(): number {
    return this.#get(VQ_FAULT_ACCESS);
  }

  /** Chains that were taken and not given back yet, at this moment. */
  get inFlight(): number {
    return Atomics.load(this.aperture.u32, (this.vq + VQ_IN_FLIGHT) / 4);
  }

  /** The thread of the kernel that runs the queue, 0 where that is not known. */
  get thread(): number {
    return Atomics.load(this.aperture.i32, (this.vq + VQ_THREAD) / 4);
  }

  set thread(thread: number) {
    Atomics.store(this.aperture.i32, (this.vq + VQ_THREAD) / 4, thread);
  }

  /** Whether VIRTIO_RING_F_EVENT_IDX was negotiated. */
  get eventIdx(): boolean {
    return (this.#get(VQ_FLAGS) & VQ_F_EVENT_IDX) !== 0;
  }

  /** Changes with each start: a request from before is stale. */
  get epoch(): number {
    return this.#get(VQ_EPOCH);
  }

  /**
   * Keeps the queue's section of an in-flight log, at a linear address. `maxSize` is that of `allocate`. Before the queue is
   * first started, by the thread that has allocated it.
   */
  keepLog(linear: number, maxSize: number): void {
    this.#set(VQ_LOG, linear);
    this.#set(VQ_REPLAY, this.aperture.allocate(maxSize * VIRTQ_DESC_SIZE));
    this.#set(VQ_REPLAY_ENTRIES, this.aperture.allocate(maxSize * Uint16Array.BYTES_PER_ELEMENT));
    this.#set(VQ_FREE_ENTRIES, this.aperture.allocate(maxSize * Uint16Array.BYTES_PER_ELEMENT));
  }

  /** Its position, as a vring base says it: what is being replayed comes from before it. */
  get base(): number {
    const available = this.#get(this.#get(VQ_REPLAYING) ? VQ_REPLAY_END : VQ_LAST_AVAIL) & 0xffff;
    if (!(this.#get(VQ_FLAGS) & VQ_F_PACKED)) return available;
    return (available | (this.#get(VQ_USED) << 16)) >>> 0;
  }

  /** Eventfd on which the driver's kicks show, −1 for none. */
  get kickFd(): number {
    return Atomics.load(this.aperture.i32, (this.vq + VQ_KICK_FD) / 4);
  }

  set kickFd(fd: number) {
    Atomics.store(this.aperture.i32, (this.vq + VQ_KICK_FD) / 4, fd);
  }

  /** Eventfd that interrupts the driver, −1 where an ioctl has to. */
  get callFd(): number {
    return Atomics.load(this.aperture.i32, (this.vq + VQ_CALL_FD) / 4);
  }

  set callFd(fd: number) {
    Atomics.store(this.aperture.i32, (this.vq + VQ_CALL_FD) / 4, fd);
  }

  /** Linear address of the doorbell's word, 0 for a queue that has none to watch. */
  get doorbell(): number {
    return Atomics.load(this.aperture.u32, (this.vq + VQ_DOORBELL) / 4);
  }

  /**
   * Has the doorbell at linear address `doorbell` watched from now on, 0 for none; the VQ block at `counter` counts its rings
   * for all queues that share it. The page must stay mapped for as long as the queue has a thread.
   */
  watchDoorbell(doorbell: number, counter: number): void {
    // The thread of the queue may be looking: it must never find a word without a count.
    if (doorbell !== 0)
      Atomics.store(this.aperture.u32, (this.vq + VQ_DOORBELL_RINGS) / 4, counter + VQ_DOORBELL_COUNT);
    Atomics.store(this.aperture.u32, (this.vq + VQ_DOORBELL) / 4, doorbell);
  }

  /** Asks the thread that runs the queue to leave for good; its wake eventfd must be signalled afterwards. */
  requestExit(): void {
    Atomics.store(this.aperture.i32, (this.vq + VQ_EXIT) / 4, 1);
  }

  get exitRequested(): boolean {
    return Atomics.load(this.aperture.i32, (this.vq + VQ_EXIT) / 4) !== 0;
  }

  /** What its flight recorder holds; undefined where there is none. `queue` is its index. */
  flightOf(queue: number): QueueFlight | undefined {
    if (!this.flight) return undefined;
    const packed = (this.#get(VQ_FLAGS) & VQ_F_PACKED) !== 0;
    return {
      queue,
      ring: packed ? 'packed' : 'split',
      size: this.#get(VQ_SIZE),
      inFlight: this.inFlight,
      recorded: this.flight.recorded,
      records: this.flight.read(packed),
    };
  }

  #get(offset: number): number {
    return this.aperture.data.getUint32(this.vq + offset, true);
  }

  #set(offset: number, value: number): void {
    this.aperture.data.setUint32(this.vq + offset, value, true);
  }
}
