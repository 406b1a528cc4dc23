import {
  VIRTQ_AVAIL_ENTRY_SIZE,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_SIZE,
  VIRTQ_USED_ENTRY_SIZE,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
} from '../../assembly/virtio.js';
import { SPLIT_VRING_BASE_RESET } from '../uapi/vring-base.js';
import type { MockMemory } from './mock-memory.js';
import { type MockDescriptor, MockRing, type UsedElement, writeDescriptor } from './mock-ring.js';

/** A split ring ("Split Virtqueues"). */
export class MockSplitRing extends MockRing {
  readonly startBase = SPLIT_VRING_BASE_RESET;
  /** Indices of free descriptors; in order, the next one is the one behind the last. */
  readonly #free: number[];
  /** Descriptors of each chain, by its head. */
  readonly #chains = new Map<number, number[]>();
  #avail = 0;
  #used = 0;

  constructor(memory: MockMemory, size: number, inOrder: boolean) {
    super(memory, size, false, inOrder);
    this.#free = Array.from({ length: size }, (_, index) => index);
  }

  get free(): number {
    return this.#free.length;
  }

  publish(descriptors: readonly MockDescriptor[]): number {
    const indices = this.#free.splice(0, descriptors.length);
    for (const [at, { addr, len, flags }] of descriptors.entries()) {
      const next = indices[at + 1];
      this.#write(indices[at]!, addr, len, next === undefined ? flags : flags | VIRTQ_DESC_F_NEXT, next ?? 0);
    }
    const head = indices[0]!;
    this.#chains.set(head, indices);
    this.publishHead(head);
    return head;
  }

  reap(): UsedElement | undefined {
    const { device, driver } = this.areas;
    const { view, words } = this.memory;
    // The entry behind the one that is being looked at: armed before the look, so that none falls in between.
    view.setUint16(driver + VIRTQ_AVAIL_RING + this.size * VIRTQ_AVAIL_ENTRY_SIZE, this.#used, true);
    if (Atomics.load(words, (device + VIRTQ_USED_IDX) / 2) === this.#used) return undefined;
    const entry = device + VIRTQ_USED_RING + (this.#used % this.size) * VIRTQ_USED_ENTRY_SIZE;
    return { id: view.getUint32(entry, true), len: view.getUint32(entry + 4, true) };
  }

  retire(id: number): void {
    this.#free.push(...(this.#chains.get(id) ?? []));
    this.#chains.delete(id);
    this.#used = (this.#used + 1) & 0xffff;
  }

  publishHead(id: number): void {
    const { driver } = this.areas;
    const entry = driver + VIRTQ_AVAIL_RING + (this.#avail % this.size) * VIRTQ_AVAIL_ENTRY_SIZE;
    this.memory.view.setUint16(entry, id, true);
    this.jump(1);
  }

  publishLoop({ addr, len, flags }: MockDescriptor): void {
    const [first, second] = this.#free as [number, number];
    this.#write(first, addr, len, flags | VIRTQ_DESC_F_NEXT, second);
    this.#write(second, addr, len, flags | VIRTQ_DESC_F_NEXT, first);
    this.publishHead(first);
  }

  /** Says that so many more are available. */
  jump(chains: number): void {
    this.#avail = (this.#avail + chains) & 0xffff;
    Atomics.store(this.memory.words, (this.areas.driver + VIRTQ_AVAIL_IDX) / 2, this.#avail);
  }

  #write(index: number, addr: bigint, len: number, flags: number, next: number): void {
    const offset = this.areas.desc + index * VIRTQ_DESC_SIZE;
    writeDescriptor(this.memory, offset, addr, len);
    this.memory.view.setUint16(offset + 12, flags, true);
    this.memory.view.setUint16(offset + 14, next, true);
  }
}
