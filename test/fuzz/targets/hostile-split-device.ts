import * as layout from '../../../assembly/layout.js';
import * as virtio from '../../../assembly/virtio.js';
import { DRIVER_BYTES, DRIVER_IOVA, DRIVER_LINEAR, type Ring } from '../../engine/fixture.js';
import type { DriverModel } from '../../virtqueue/driver-model.js';
import { passes } from '../../virtqueue/notification.js';
import type { Region } from '../../virtqueue/regions.js';
import { referenceChain, type Segments } from '../../virtqueue/split-chain.js';
import type { Choices } from '../choices.js';
import type { HostileDevice, UsedBuffer } from './hostile-device.js';

const { VIRTQ_AVAIL_RING, VIRTQ_USED_RING, VIRTQ_USED_IDX, VIRTQ_USED_ENTRY_SIZE } = virtio;
/** All of the driver's memory. */
export const DRIVER_REGIONS: readonly Region[] = [
  { iova: DRIVER_IOVA, bytes: DRIVER_BYTES, linear: DRIVER_LINEAR, access: 3 },
];

/** A hostile device on a split ring. */
export class HostileSplitDevice implements HostileDevice {
  readonly anyOrder = true;
  readonly #ring: Ring;
  readonly #indirect: boolean;
  readonly #eventIdx: boolean;
  readonly #model: DriverModel;
  readonly #choices: Choices;
  #avail = 0;
  #signalledAvail = 0;
  #lastUsed = 0;
  /** Where the device is in the used ring, and what it says. */
  #used = 0;

  constructor(
    ring: Ring,
    { indirect, eventIdx }: { indirect: boolean; eventIdx: boolean },
    model: DriverModel,
    choices: Choices,
  ) {
    this.#ring = ring;
    this.#indirect = indirect;
    this.#eventIdx = eventIdx;
    this.#model = model;
    this.#choices = choices;
  }

  look(): Segments & { id: number } {
    const { data, desc, avail, size } = this.#ring;
    const id = data.getUint16(avail + VIRTQ_AVAIL_RING + (this.#avail % size) * 2, true);
    const table = { data, size, desc, indirect: this.#indirect, regions: DRIVER_REGIONS };
    const chain = referenceChain(table, id);
    if (!('readable' in chain))
      throw new Error(`the driver offers what is no chain: ${Object.entries(chain)}`);
    this.#avail = (this.#avail + 1) & 0xffff;
    return { id, ...chain };
  }

  wantsKick(count: number): boolean {
    const { used, avail, size } = this.#ring;
    if (count === 0) return false;
    const index = this.#ring.u16(avail + virtio.VIRTQ_AVAIL_IDX);
    if (index !== this.#avail) throw new Error(`avail.idx is ${index}, not ${this.#avail}`);
    if (!this.#eventIdx) return !(this.#ring.u16(used) & virtio.VIRTQ_USED_F_NO_NOTIFY);
    const event = this.#ring.u16(used + VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE);
    const before = this.#signalledAvail;
    this.#signalledAvail = this.#avail;
    return passes(event, before, this.#avail);
  }

  use(id: number, bytes: number): void {
    const { data, used, size } = this.#ring;
    const at = used + VIRTQ_USED_RING + (this.#used % size) * VIRTQ_USED_ENTRY_SIZE;
    data.setUint32(at, id, true);
    data.setUint32(at + 4, bytes, true);
    this.#used = (this.#used + 1) & 0xffff;
  }

  /** It may use anything at any time: a used ring has room for all that is in flight. */
  hasUsed(id: number): boolean {
    const { used, size } = this.#ring;
    for (let index = this.#lastUsed; index !== this.#used; index = (index + 1) & 0xffff)
      if (this.#ring.u32(used + VIRTQ_USED_RING + (index % size) * VIRTQ_USED_ENTRY_SIZE) === id)
        return !this.#choices.once(30);
    return false;
  }

  publish(): void {
    const choices = this.#choices;
    if (choices.once(60))
      this.#used = (this.#used + choices.pick([1, 65535, this.#ring.size, choices.below(65536)])) & 0xffff;
    this.#ring.data.setUint16(this.#ring.used + VIRTQ_USED_IDX, this.#used, true);
  }

  disturb(): void {
    const { data, u8, used, size, desc, buffers } = this.#ring;
    const choices = this.#choices;
    const event = used + VIRTQ_USED_RING + size * VIRTQ_USED_ENTRY_SIZE;
    switch (choices.below(4)) {
      case 0:
        data.setUint16(used, choices.pick([0, 1, 2, 0xffff]), true);
        break;
      case 1:
        data.setUint16(event, this.#avail + choices.pick([0, 1, 2, -1, choices.below(65536)]), true);
        break;
      case 2:
        u8.fill(choices.below(256), desc, used);
        break;
      case 3:
        u8.fill(choices.below(256), event + 2, buffers);
        break;
    }
  }

  reap(max: number): UsedBuffer[] {
    const { used, size } = this.#ring;
    const buffers: UsedBuffer[] = [];
    for (let left = Math.min(this.waiting(), max); left > 0; left--) {
      const at = used + VIRTQ_USED_RING + (this.#lastUsed % size) * VIRTQ_USED_ENTRY_SIZE;
      const buffer = { id: this.#ring.u32(at), bytes: this.#ring.u32(at + 4) };
      if (!this.#model.complete(buffer.id, buffer.bytes)) break;
      buffers.push(buffer);
      this.#lastUsed = (this.#lastUsed + 1) & 0xffff;
    }
    return buffers;
  }

  waiting(): number {
    if (this.#model.verdict) return 0;
    const waiting = (this.#ring.u16(this.#ring.used + VIRTQ_USED_IDX) - this.#lastUsed) & 0xffff;
    if (waiting <= this.#model.inFlight.size) return waiting;
    this.#model.refuse(layout.VERDICT_USED_INDEX);
    return 0;
  }

  wish(): number[] {
    const { avail, size } = this.#ring;
    return [this.#eventIdx ? this.#ring.u16(avail + VIRTQ_AVAIL_RING + size * 2) : this.#ring.u16(avail)];
  }

  wishOf(state: 'armed' | 'disarmed'): number[] {
    if (!this.#eventIdx) return [state === 'armed' ? 0 : virtio.VIRTQ_AVAIL_F_NO_INTERRUPT];
    // An event index that is left behind asks for nothing.
    return state === 'armed' ? [this.#lastUsed] : this.wish();
  }
}
