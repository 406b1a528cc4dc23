import { readFileSync } from 'node:fs';
import { instantiateSync } from '@assemblyscript/loader';
import { type Memory, Module } from './web-assembly.js';

/**
 * What engine.wasm exports: numbers in, numbers out. `vq` is the linear address of a VQ block, `dq` of a DQ block, `disk`
 * of a DISK block, `iotlb` of an IOTLB (assembly/layout.ts has every offset). WASM returns u32 as a signed number: use
 * `>>> 0` where the top bit can be set. Any call may throw WebAssembly.RuntimeError when it touches memory that is not
 * accessible; the caller then breaks that queue with VERDICT_TRAP.
 */
export interface Engine {
  // IOTLB: only while no queue that uses it is inside its gate.
  iotlbInit(iotlb: number, capacity: number): void;
  /** Adds a region; IOTLB_OK, IOTLB_EXISTS (overlap), IOTLB_FULL, IOTLB_INVALID (no bytes, past 2^64 or past 2^32 linear). */
  iotlbMap(iotlb: number, iova: bigint, bytes: bigint, linear: number, access: number): number;
  /** Removes every region that overlaps [first, last], whole, as the kernel does: how many. */
  iotlbUnmap(iotlb: number, first: bigint, last: bigint): number;
  /** Linear address of a range that lies in one piece with that access, else 0. */
  iotlbTranslate(iotlb: number, iova: bigint, bytes: number, access: number): number;

  // Dirty pages, marked by whatever below writes to driver memory through an IOTLB that has a bitmap or a log.
  /** Marks the pages of `bytes` bytes at `linear`, which have just been written; what is no driver memory has no marks. */
  dirtyMark(iotlb: number, linear: number, bytes: number): void;
  /**
   * Fetches and clears the marks of the regions that end at or after IOVA `from` into DIRTY_RANGES at `ranges`, ascending, at
   * most `capacity` (at least 16): how many. There may be more behind the last, until it is none. Queues may run.
   */
  dirtyFetch(iotlb: number, from: bigint, ranges: number, capacity: number): number;

  // The gate of a queue (host/queue/gate.ts), from the thread that runs it.
  /** Enters for one burst: 1, or 0 while the control plane has the queue. */
  gateEnter(vq: number): number;
  /** Leaves after the burst, and wakes a control plane that waits for that. */
  gateLeave(vq: number): void;

  // Virtqueue, device side. The calls of a burst: devicePop, handle, devicePush; before sleeping, deviceArm.
  /** Resets the running state to the position that a vring base gives; a split ring knows its used index itself. Counters stay. */
  deviceStart(vq: number, base: number): void;
  /**
   * Goes on, over the same rings, where another process has stopped, by its in-flight log: 1; 0 if the log says that the
   * driver had not started the queue. VQ_VERDICT is set if log and ring contradict each other.
   */
  deviceResume(vq: number): number;
  /** Whether the in-flight log, if there is one, says that the driver has started the queue: 1 or 0. */
  logIsRunning(vq: number): number;
  /** Notes in the in-flight log, if there is one, that the driver has not started the queue. */
  deviceIdle(vq: number): void;
  /** Parses up to `max` chains into the chain and segment tables: how many. 0 with VQ_VERDICT or VQ_MISS set when refused. */
  devicePop(vq: number, max: number): number;
  /** Publishes the first `count` entries of the chain table as used: `count`, with NOTIFY_DUE if an interrupt is. */
  devicePush(vq: number, count: number): number;
  /** Asks for notifications, then looks again: at least how many chains wait. 0: safe to sleep. */
  deviceArm(vq: number): number;
  /** Asks for no notifications. */
  deviceDisarm(vq: number): void;
  /** At least how many chains wait, without changing anything: a packed ring tells of the next one only. */
  devicePending(vq: number): number;
  /** Looks up to `spins` times for chains that wait, or until the gate is asked to close: as devicePending. */
  deviceWait(vq: number, spins: number): number;
  /** Puts chains [first, end) of the last pop, which were its last, back: the next pop takes them again. */
  deviceReturn(vq: number, first: number, end: number): void;
  /**
   * Sets a verdict from outside (VERDICT_TRAP, VERDICT_MEMORY_LOST, VERDICT_THREAD_LOST, VERDICT_REQUEST); the first one
   * stays. `head` is the chain's, if it is about one.
   */
  deviceBreak(vq: number, verdict: number, head?: number): void;

  /**
   * Looks at the software doorbells of queues, and `spins` times more while none has rung: a bit for each queue of `mask`
   * that has. `queues` is the linear address of the linear addresses of their VQ blocks, a u32 each.
   */
  doorbellWatch(queues: number, mask: number, spins: number): number;

  // Block device.
  /** One burst of a disk in memory: chains served, with NOTIFY_DUE, and FILE_DUE where it stopped before a request that
   * needs the file of a mapped disk (blkPrepare). */
  blkServe(vq: number, disk: number): number;
  /**
   * Serves a disk in memory until an interrupt or the file is due, `spins` looks in a row found nothing, `bursts` were
   * served, the gate is asked to close or the queue breaks: chains served (saturating at COUNT_MASK), with the same bits.
   */
  blkPoll(vq: number, disk: number, spins: number, bursts: number): number;
  /** Pops a burst and turns it into an I/O table at `io` (room for `max` + 1 entries) for the addon: how many requests.
   * On a mapped disk bytes move at once; what is left for the addon are operations on the file. */
  blkPrepare(vq: number, disk: number, io: number, max: number): number;
  /** Puts status and used length of the `count` requests at `io` into the ring, and publishes: `count`, with NOTIFY_DUE. */
  blkComplete(vq: number, disk: number, io: number, count: number): number;

  // Asynchronous requests, for device models in TypeScript.
  /**
   * Takes up to `max` chains into the request blocks, of `bytes` bytes each, that the table at `table` names (TAKE_SIZE): how
   * many. Their readable bytes are copied behind their descriptors, room for the writable ones is zeroed. With LONG_DUE where
   * it stopped before a chain that is too long for a block: that one is for requestTake.
   */
  requestTakeBurst(vq: number, table: number, max: number, bytes: number): number;
  /**
   * Copies out, gives back and publishes the requests of the `count` entries (GIVE_SIZE) at `table`: how many entries are done
   * with, with NOTIFY_DUE. Fewer, with VQ_MISS, where nothing is mapped: the rest is to be given back later.
   */
  requestGiveBurst(vq: number, table: number, count: number): number;
  /** Pops one chain into the request block at `request`: 1, or 0 when there is none or it was refused (VQ_VERDICT, VQ_MISS). */
  requestTake(vq: number, request: number): number;
  /** Copies readable bytes from `offset` of the chain to private memory at `to`: bytes copied; fewer, with VQ_MISS, where nothing is mapped. */
  requestRead(vq: number, request: number, offset: number, to: number, bytes: number): number;
  /** Copies private memory at `from` to writable bytes from `offset` of the chain: bytes copied. */
  requestWrite(vq: number, request: number, offset: number, from: number, bytes: number): number;
  /** Gives the chain back with `written` bytes as its used length (capped to what is writable), unpublished. */
  requestFinish(vq: number, request: number, written: number): void;
  /** Publishes the `count` requests that requestFinish gave back: NOTIFY_DUE or 0. */
  requestPublish(vq: number, count: number): number;

  // Virtqueue, driver side.
  driverStart(dq: number): void;
  driverReset(dq: number): void;
  /** Puts up to `count` submissions at `table` on the ring, as many as there are free slots, and rings the doorbell if one
   * is mapped and wanted: how many, with NOTIFY_DUE if the kick eventfd is to be signalled. */
  blkSubmit(dq: number, table: number, count: number): number;
  /** Collects up to `max` completions to `table`; while there are fewer than `min`, looks again up to `spins` times. */
  blkReap(dq: number, table: number, max: number, min: number, spins: number): number;
  /** Puts the payloads of the `count` entries at `table` on the ring of a queue of buffers, and rings the doorbell as blkSubmit:
   * NOTIFY_DUE or 0. Their slots must be free, and hold the payloads behind room for the header. */
  bufferTransmit(dq: number, table: number, count: number): number;
  /** Puts the free slots of the `count` entries at `table` on the ring, with room for as many bytes as they say: NOTIFY_DUE or 0. */
  bufferReceive(dq: number, table: number, count: number): number;
  /** Collects up to `max` used slots of either kind to `table`, with the bytes of their payloads: how many. */
  bufferReap(dq: number, table: number, max: number): number;
  /** Asks for interrupts, then looks again: how many completions wait. 0: safe to sleep. */
  driverArm(dq: number): number;
  driverDisarm(dq: number): void;

  // IOVA domain of a driver: `domain` is the linear address of its DOMAIN block, `bounce` one that mapPage gave and unmapPage has
  // not taken back; offset and bytes lie inside its mapping. Directions are DMA_*.
  /** Copies `bytes` bytes (1 or more) at `linear` to bounce pages, by direction: their linear address, 0 when they are all taken. */
  mapPage(domain: number, linear: number, bytes: number, direction: number): number;
  /** Copies part of a mapping to the device again; nothing where it only writes. */
  syncSingleForDevice(domain: number, bounce: number, offset: number, bytes: number): void;
  /** Copies part of a mapping back from the device; nothing where it only reads. */
  syncSingleForCpu(domain: number, bounce: number, offset: number, bytes: number): void;
  /** Ends a mapping, without copying anything back. What the driver had put there is zeroed. */
  unmapPage(domain: number, bounce: number): void;

  // Copies.
  /** Copies between two places of the same aperture. The caller has checked both. */
  copy(to: number, from: number, bytes: number): void;
}

let module: Module | undefined;

/** The compiled engine, shared by every instance of this thread. */
function engineModule(): Module {
  module ??= new Module(readFileSync(new URL('../../engine.wasm', import.meta.url)));
  return module;
}

/** An instance of the engine on the memory of one aperture. Instances keep no state of their own. */
export function instantiateEngine(memory: Memory): Engine {
  // The loader's own export object is avoided: its helpers are for managed objects, which the engine has none of.
  return instantiateSync(engineModule(), { env: { memory } }).instance.exports as unknown as Engine;
}
