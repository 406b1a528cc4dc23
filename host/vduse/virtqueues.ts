import { VERDICT_UNMAPPED } from '../../assembly/layout.js';
import type { Aperture } from '../aperture/aperture.js';
import { QueueBlock } from '../queue/queue-block.js';
import { AddressSpaces } from './address-spaces.js';
import type { VduseDeviceLayout, VduseDeviceListener } from './device-layout.js';
import type { DirtyOperation, DirtyRange } from './dirty-pages.js';
import { DoorbellWindows } from './doorbell-windows.js';
import { DriverLog } from './driver-log.js';
import type { VduseFile } from './file.js';
import { Virtqueue } from './virtqueue.js';

/**
 * The virtqueues of a device and the driver's memory that they see. Mappings change only while all of them are paused:
 * nothing is ever unmapped under a running queue.
 */
export class Virtqueues {
  readonly #aperture: Aperture;
  readonly #pauseLimitMs: number;
  readonly #queues: readonly Virtqueue[];
  readonly #addressSpaces: AddressSpaces;
  readonly #driverLog: DriverLog;

  constructor(file: VduseFile, aperture: Aperture, layout: VduseDeviceLayout, listener: VduseDeviceListener) {
    this.#aperture = aperture;
    this.#pauseLimitMs = layout.pauseLimitMs;
    this.#addressSpaces = new AddressSpaces(file, aperture, layout, listener);
    this.#driverLog = new DriverLog(file, aperture, layout.iotlbs);
    const doorbells = new DoorbellWindows(file, aperture);
    this.#queues = layout.queues.map(
      ({ vq, ...eventfds }, index) =>
        new Virtqueue(file, index, new QueueBlock(aperture, vq), eventfds, layout, doorbells, (...range) =>
          this.#translate(index, ...range),
        ),
    );
  }

  [Symbol.iterator](): Iterator<Virtqueue> {
    return this.#queues[Symbol.iterator]();
  }

  /** Queue `index`, if there is one. */
  at(index: number): Virtqueue | undefined {
    return this.#queues[index];
  }

  /** Announces the queues. Before the device is attached. */
  async setup(): Promise<void> {
    for (const queue of this.#queues) await queue.setup(this.#addressSpaces.groupOf(queue.index));
  }

  /** Adopts the queues that are ready: the rest. */
  async adoptReady(features: bigint): Promise<Virtqueue[]> {
    const late: Virtqueue[] = [];
    for (const queue of this.#queues) {
      if (await queue.isReady()) await queue.adopt(features);
      else late.push(queue);
    }
    return late;
  }

  /** Opens the queues that are adopted. */
  openAdopted(): void {
    for (const queue of this.#queues) if (queue.adopted) queue.open();
  }

  /** Maps the region that contains `iova` for queue `index`: false if the driver has none there. Throws ERR_THREAD_LOST. */
  async map(index: number, iova: bigint): Promise<boolean> {
    const memory = this.#addressSpaces.memoryOf(index);
    // Another queue was first to miss it.
    if (memory.covers(iova)) return true;
    const region = await memory.fetch(iova);
    if (!region) return false;
    // Overlapping what is mapped: the table has changed, and the message that says so is on its way.
    await this.paused(() => memory.add(region));
    return true;
  }

  /** Maps what a pop of `queue` waits for, and has it tried again: false if the driver has no memory there. */
  async resolveMiss(queue: Virtqueue): Promise<boolean> {
    if (!(await this.map(queue.index, queue.block.faultIova))) return false;
    queue.pause();
    queue.block.clearMiss();
    queue.resume();
    return true;
  }

  /**
   * Forgets mappings of [first, last] in address space `asid`, where the transport's table has changed already. Nothing old
   * is reachable afterwards; the rings are found again at once, the rest when it is next needed. Throws ERR_THREAD_LOST.
   */
  async unmap(asid: number, first: bigint, last: bigint): Promise<void> {
    await this.paused(async () => {
      await this.#addressSpaces.drop(asid, first, last);
      await this.#relocate();
    });
  }

  /** Gives a group of queues another address space: false if there is no such group or address space. Throws ERR_THREAD_LOST. */
  async assign(group: number, asid: number): Promise<boolean> {
    return this.paused(async () => {
      if (!this.#addressSpaces.assign(group, asid)) return false;
      this.#showAddressSpaces();
      await this.#relocate();
      return true;
    });
  }

  /** Does something with the dirty pages: those that were fetched, ascending in each address space. Throws ERR_THREAD_LOST. */
  async dirtyPages(operation: DirtyOperation): Promise<DirtyRange[]> {
    const each = [...this.#addressSpaces].map(({ dirty }) => dirty);
    if (operation === 'fetch') return each.flatMap((dirty) => dirty.fetch());
    await this.paused(async () => {
      for (const dirty of each) dirty[operation]();
    });
    return [];
  }

  /** Marks what is written in the log that the driver's side has handed in, or in none. Throws ERR_THREAD_LOST. */
  followLog(): Promise<void> {
    return this.#driverLog.follow((change) => this.paused(change));
  }

  /** Has `change` run while no queue runs: all of them are paused, or none. Throws ERR_THREAD_LOST. */
  async paused<T>(change: () => Promise<T>): Promise<T> {
    const paused: Virtqueue[] = [];
    const limitMs = this.#countdown();
    try {
      for (const queue of this.#queues) {
        queue.pause(limitMs());
        paused.push(queue);
      }
      return await change();
    } finally {
      for (const queue of paused) queue.resume();
    }
  }

  /** Stops all that can be stopped, until each is opened again: false if a thread does not leave its ring. */
  stop(): boolean {
    let stopped = true;
    const limitMs = this.#countdown();
    for (const queue of this.#queues) {
      try {
        queue.stop(limitMs());
      } catch {
        stopped = false;
      }
    }
    return stopped;
  }

  /** Forgets the driver. All queues must be stopped. */
  async reset(): Promise<void> {
    for (const queue of this.#queues) queue.reset();
    await this.#addressSpaces.reset();
    this.#showAddressSpaces();
  }

  /** Milliseconds that are left for the queues together: a transport waits for one answer, however many there are. */
  #countdown(): () => number {
    const end = performance.now() + this.#pauseLimitMs;
    return () => Math.max(end - performance.now(), 0);
  }

  /** Finds the rings again in what is mapped now. Those that are gone break their queue. */
  async #relocate(): Promise<void> {
    for (const queue of this.#queues) {
      if (!(await queue.relocate())) this.#aperture.engine.deviceBreak(queue.block.vq, VERDICT_UNMAPPED);
      // What was missing may be there now: the pop is tried again.
      queue.block.clearMiss();
    }
  }

  /** Tells each queue which IOTLB it goes through. */
  #showAddressSpaces(): void {
    for (const { index, block } of this.#queues) block.iotlb = this.#addressSpaces.memoryOf(index).iotlb;
  }

  async #translate(index: number, iova: bigint, bytes: number, access: number): Promise<number> {
    const memory = this.#addressSpaces.memoryOf(index);
    const linear = memory.translate(iova, bytes, access);
    if (linear !== 0 || !(await this.map(index, iova))) return linear;
    return memory.translate(iova, bytes, access);
  }
}
