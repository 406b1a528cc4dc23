import {
  PVIRTQ_DESC_FLAGS,
  PVIRTQ_DESC_ID,
  PVIRTQ_DESC_LEN,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../../../assembly/virtio.js';
import type { Ring } from '../../engine/fixture.js';
import type { DriverModel } from '../../virtqueue/driver-model.js';
import { walkPackedChain } from '../../virtqueue/packed-chain.js';
import { PackedPlace } from '../../virtqueue/packed-place.js';
import { type Segments, segmentsOf } from '../../virtqueue/split-chain.js';
import type { Choices } from '../choices.js';
import type { HostileDevice, UsedBuffer } from './hostile-device.js';
import { DRIVER_REGIONS } from './hostile-split-device.js';

const OWNER = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

/** A hostile device on a packed ring. */
export class HostilePackedDevice implements HostileDevice {
  readonly anyOrder: boolean;
  readonly #ring: Ring;
  readonly #indirect: boolean;
  readonly #eventIdx: boolean;
  readonly #model: DriverModel;
  readonly #choices: Choices;
  /** Where the driver's next chain is, and where it was when the device was last thought of. */
  readonly #avail: PackedPlace;
  #signalled: PackedPlace;
  /** Where the device uses the next buffer, and where the driver looks for it. */
  readonly #used: PackedPlace;
  readonly #lastUsed: PackedPlace;
  /** Descriptors that each chain takes, by id; ids that are used and not reaped. */
  readonly #descriptors = new Map<number, number>();
  readonly #usedIds = new Set<number>();
  /** Used descriptors that are not published: in order, the batch that grows. */
  #batch: { id: number; bytes: number; descriptors: number } | undefined;
  /** What the driver has still to complete of a batch: its last id, and the bytes of that. */
  #pendingBatch: { id: number; bytes: number } | undefined;

  constructor(
    ring: Ring,
    { indirect, eventIdx, inOrder }: { indirect: boolean; eventIdx: boolean; inOrder: boolean },
    model: DriverModel,
    choices: Choices,
  ) {
    this.anyOrder = !inOrder;
    this.#ring = ring;
    this.#indirect = indirect;
    this.#eventIdx = eventIdx;
    this.#model = model;
    this.#choices = choices;
    this.#avail = new PackedPlace(ring.size);
    this.#signalled = this.#avail.copy();
    this.#used = this.#avail.copy();
    this.#lastUsed = this.#avail.copy();
  }

  look(): Segments & { id: number } {
    const { data, desc, size } = this.#ring;
    const flags = data.getUint16(desc + this.#avail.index * VIRTQ_DESC_SIZE + PVIRTQ_DESC_FLAGS, true);
    if ((flags & OWNER) !== (this.#avail.wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED))
      throw new Error(`descriptor ${this.#avail.index} is not available: flags ${flags}`);
    const ring = { data, size, desc, indirect: this.#indirect, regions: DRIVER_REGIONS };
    const chain = walkPackedChain(ring, this.#avail.index);
    const segments = 'elements' in chain ? segmentsOf(DRIVER_REGIONS, chain.elements) : chain;
    if (!('readable' in segments) || !('elements' in chain))
      throw new Error(`the driver offers what is no chain: ${Object.entries(segments)}`);
    this.#avail.advance(chain.descriptors);
    this.#descriptors.set(chain.id, chain.descriptors);
    return { id: chain.id, ...segments };
  }

  wantsKick(count: number): boolean {
    if (count === 0) return false;
    const { used, size } = this.#ring;
    const before = this.#signalled;
    this.#signalled = this.#avail.copy();
    const event = this.#ring.u16(used);
    const flags = this.#ring.u16(used + 2);
    if (flags !== RING_EVENT_FLAGS_DESC || !this.#eventIdx) return flags !== RING_EVENT_FLAGS_DISABLE;
    return (event & 0x7fff) >= size || before.passes(event, this.#avail);
  }

  use(id: number, bytes: number): void {
    const descriptors = this.#descriptors.get(id) ?? 1;
    this.#usedIds.add(id);
    if (this.#batch) {
      const offer = this.#model.inFlight.get(this.#batch.id);
      // A batch goes on only behind buffers that are written completely.
      if (offer && this.#batch.bytes === offer.writable && !this.#choices.once(3)) {
        this.#batch = { id, bytes, descriptors: this.#batch.descriptors + descriptors };
        return;
      }
      this.publish();
    }
    this.#batch = { id, bytes, descriptors };
    if (this.anyOrder) this.publish();
  }

  hasUsed(id: number): boolean {
    return this.#usedIds.has(id) && !this.#choices.once(60);
  }

  publish(): void {
    if (!this.#batch) return;
    const { data, desc, size } = this.#ring;
    const { id, bytes, descriptors } = this.#batch;
    const at = desc + this.#used.index * VIRTQ_DESC_SIZE;
    data.setUint32(at + PVIRTQ_DESC_LEN, bytes, true);
    data.setUint16(at + PVIRTQ_DESC_ID, id, true);
    // Devices of QEMU and of Linux leave WRITE out, whatever they have written.
    const write = this.#choices.pick([bytes ? VIRTQ_DESC_F_WRITE : 0, 0]);
    data.setUint16(at + PVIRTQ_DESC_FLAGS, (this.#used.wrap ? OWNER : 0) | write, true);
    this.#used.advance(Math.min(descriptors, size));
    this.#batch = undefined;
  }

  disturb(): void {
    const { data, u8, desc, avail, used, size, buffers } = this.#ring;
    const choices = this.#choices;
    switch (choices.below(5)) {
      case 0:
        data.setUint16(used + 2, choices.pick([0, 1, 2, 3, 0xffff]), true);
        break;
      case 1:
        data.setUint16(
          used,
          choices.pick([this.#avail.value, this.#avail.value ^ 0x8000, size, choices.below(65536)]),
          true,
        );
        data.setUint16(used + 2, RING_EVENT_FLAGS_DESC, true);
        break;
      case 2: {
        // A descriptor of any place says anything: that of a lap before, of one to come, used, or neither.
        const at = desc + choices.below(size) * VIRTQ_DESC_SIZE;
        data.setUint16(
          at + PVIRTQ_DESC_FLAGS,
          choices.pick([0, OWNER, VIRTQ_DESC_F_AVAIL, VIRTQ_DESC_F_USED]),
          true,
        );
        data.setUint16(at + PVIRTQ_DESC_ID, choices.below(size + 1), true);
        break;
      }
      case 3:
        u8.fill(choices.below(256), avail, used);
        break;
      case 4:
        u8.fill(choices.below(256), used + 4, buffers);
        break;
    }
  }

  reap(max: number): UsedBuffer[] {
    const buffers: UsedBuffer[] = [];
    if (this.#model.verdict) return buffers;
    while (buffers.length < max && this.#model.inFlight.size) {
      const used = this.#pendingBatch ?? this.#usedDescriptor();
      if (!used) break;
      let { id, bytes } = used;
      if (!this.anyOrder) {
        // Whatever was offered before the buffer that is used has been used with it, and written completely.
        if (this.#model.inFlight.has(used.id)) this.#pendingBatch = used;
        const [first] = this.#model.inFlight.keys();
        if (this.#pendingBatch && first !== used.id) {
          id = first!;
          bytes = this.#model.inFlight.get(id)!.writable;
        }
      }
      const descriptors = this.#descriptors.get(id) ?? 1;
      if (!this.#model.complete(id, bytes)) break;
      if (id === this.#pendingBatch?.id) this.#pendingBatch = undefined;
      this.#usedIds.delete(id);
      buffers.push({ id, bytes });
      this.#lastUsed.advance(descriptors);
    }
    return buffers;
  }

  waiting(): number {
    if (this.#model.verdict || this.#model.inFlight.size === 0) return 0;
    return this.#pendingBatch || this.#usedDescriptor() ? 1 : 0;
  }

  wish(): number[] {
    return [this.#ring.u16(this.#ring.avail), this.#ring.u16(this.#ring.avail + 2)];
  }

  wishOf(state: 'armed' | 'disarmed'): number[] {
    if (state === 'disarmed') return [0, RING_EVENT_FLAGS_DISABLE];
    return this.#eventIdx ? [this.#lastUsed.value, RING_EVENT_FLAGS_DESC] : [0, RING_EVENT_FLAGS_ENABLE];
  }

  /** What the driver's next place says, if both flags are like the wrap counter. */
  #usedDescriptor(): { id: number; bytes: number } | undefined {
    const { data, desc } = this.#ring;
    const at = desc + this.#lastUsed.index * VIRTQ_DESC_SIZE;
    const flags = data.getUint16(at + PVIRTQ_DESC_FLAGS, true);
    if ((flags & OWNER) !== (this.#lastUsed.wrap ? OWNER : 0)) return undefined;
    return {
      id: data.getUint16(at + PVIRTQ_DESC_ID, true),
      bytes: data.getUint32(at + PVIRTQ_DESC_LEN, true),
    };
  }
}
