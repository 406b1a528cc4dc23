import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_SIZE,
} from '../../assembly/virtio.js';
import { PACKED_VRING_BASE_RESET } from '../uapi/vring-base.js';
import type { MockMemory } from './mock-memory.js';
import { type MockDescriptor, MockRing, type UsedElement, writeDescriptor } from './mock-ring.js';

/** A place in a packed ring, and the wrap counter there. */
interface Place {
  index: number;
  wrap: boolean;
}

/** A packed ring ("Packed Virtqueues"). Its driver always wants to be interrupted. */
export class MockPackedRing extends MockRing {
  readonly startBase = PACKED_VRING_BASE_RESET;
  readonly #ids: number[];
  /** Descriptors of each chain, by its buffer id. */
  readonly #chains = new Map<number, number>();
  readonly #avail: Place = { index: 0, wrap: true };
  readonly #used: Place = { index: 0, wrap: true };
  #free: number;

  constructor(memory: MockMemory, size: number, inOrder: boolean) {
    super(memory, size, true, inOrder);
    this.#ids = Array.from({ length: size }, (_, id) => id);
    this.#free = size;
  }

  get free(): number {
    return this.#free;
  }

  publish(descriptors: readonly MockDescriptor[]): number {
    const id = this.#ids.shift()!;
    this.#chains.set(id, descriptors.length);
    this.#publishAs(id, descriptors);
    return id;
  }

  reap(): UsedElement | undefined {
    const { index, wrap } = this.#used;
    const offset = this.areas.desc + index * VIRTQ_DESC_SIZE;
    const flags = Atomics.load(this.memory.words, (offset + PVIRTQ_DESC_FLAGS) / 2);
    const marks = wrap ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0;
    if ((flags & (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED)) !== marks) return undefined;
    // What was never written looks used where the counter is 0, and nothing is in flight.
    if (this.#free === this.size) return undefined;
    const { view } = this.memory;
    return {
      id: view.getUint16(offset + PVIRTQ_DESC_ID, true),
      len: view.getUint32(offset + PVIRTQ_DESC_LEN, true),
    };
  }

  retire(id: number): void {
    const descriptors = this.#chains.get(id) ?? 0;
    this.#chains.delete(id);
    this.#ids.push(id);
    this.#free += descriptors;
    this.#advance(this.#used, descriptors);
  }

  publishHead(id: number): void {
    this.#publishAs(id, [{ addr: this.memory.iova(this.areas.desc), len: 16, flags: 0 }]);
  }

  publishLoop(descriptor: MockDescriptor): void {
    this.#publishAs(
      0,
      Array.from({ length: this.size }, () => descriptor),
      true,
    );
  }

  /** `endless`: there is no last descriptor. */
  #publishAs(id: number, descriptors: readonly MockDescriptor[], endless = false): void {
    const first = { ...this.#avail };
    let firstFlags = 0;
    for (const [at, { addr, len, flags }] of descriptors.entries()) {
      const { index, wrap } = this.#avail;
      const offset = this.areas.desc + index * VIRTQ_DESC_SIZE;
      const next = endless || at < descriptors.length - 1 ? VIRTQ_DESC_F_NEXT : 0;
      const all = flags | next | (wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);
      writeDescriptor(this.memory, offset, addr, len);
      this.memory.view.setUint16(offset + PVIRTQ_DESC_ID, id, true);
      if (at === 0) firstFlags = all;
      else this.memory.view.setUint16(offset + PVIRTQ_DESC_FLAGS, all, true);
      this.#advance(this.#avail, 1);
    }
    this.#free -= descriptors.length;
    // The first one last: it makes all of them available.
    const offset = this.areas.desc + first.index * VIRTQ_DESC_SIZE + PVIRTQ_DESC_FLAGS;
    Atomics.store(this.memory.words, offset / 2, firstFlags);
  }

  #advance(place: Place, descriptors: number): void {
    place.index += descriptors;
    if (place.index < this.size) return;
    place.index -= this.size;
    place.wrap = !place.wrap;
  }
}
