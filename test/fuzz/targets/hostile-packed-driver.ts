import {
  PVIRTQ_DESC_FLAGS,
  RING_EVENT_FLAGS_DESC,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../../../assembly/virtio.js';
import type { Ring } from '../../engine/fixture.js';
import { PackedDevice, type PackedQueue } from '../../virtqueue/packed-device.js';
import { PackedPlace } from '../../virtqueue/packed-place.js';
import type { Choices } from '../choices.js';
import type { HostileDriver } from './hostile-driver.js';
import { hostileBuffer, hostileTable } from './hostile-memory.js';

/** A hostile driver of a packed ring. */
export class HostilePackedDriver implements HostileDriver {
  readonly model: PackedDevice;
  readonly #ring: Ring;
  readonly #choices: Choices;
  /** Of eight chains, how many are indirect tables. */
  readonly #tables: number;
  /** Where the next chain goes, and where the device is that far. */
  readonly #next: PackedPlace;
  readonly #used: PackedPlace;

  /** Starts the engine somewhere on the ring, and the model with it. */
  constructor(ring: Ring, queue: PackedQueue, choices: Choices, tables: number) {
    this.#ring = ring;
    this.#choices = choices;
    this.#tables = tables;
    const { size } = ring;
    const place = new PackedPlace(size, choices.pick([0, size - 1, choices.below(size)]), !choices.once(2));
    this.#next = place.copy();
    this.#used = place.copy();
    // What lies there from the lap before is used.
    for (let i = 0; i < size; i++) {
      const wrap = i < place.index === place.wrap;
      const flags = wrap ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0;
      ring.data.setUint16(ring.desc + i * VIRTQ_DESC_SIZE + PVIRTQ_DESC_FLAGS, flags, true);
    }
    ring.engine.deviceStart(ring.vq, place.value | (place.value << 16));
    this.model = new PackedDevice(queue, place.copy(), this.#used);
  }

  offer(count: number): void {
    const { size } = this.#ring;
    const choices = this.#choices;
    // Chains of one descriptor come in runs, too: the engine takes them four at a time.
    const longest = choices.once(3) ? 1 : 3;
    for (let i = 0; i < count; i++) {
      const length = 1 + choices.below(choices.once(8) ? size + 1 : longest);
      const outstanding = this.#used.to(this.#next);
      if (outstanding + length > size && !choices.once(24)) return;
      if (this.#tables && choices.below(8) < this.#tables) this.#offerTable();
      else {
        let writes = choices.once(3);
        for (let left = length; left > 0; left--) {
          this.#offerBuffer(left > 1, writes);
          writes ||= choices.once(3);
        }
      }
    }
  }

  disturb(): void {
    const { data, avail, size, desc } = this.#ring;
    const choices = this.#choices;
    switch (choices.below(4)) {
      case 0:
        data.setUint16(avail + 2, choices.pick([0, 1, 2, 3, 0xffff, 0x8002]), true);
        break;
      case 1: {
        const { value } = this.#used;
        const event = choices.pick([value, value ^ 0x8000, value + 1, size, choices.below(65536)]);
        data.setUint16(avail, event, true);
        data.setUint16(avail + 2, RING_EVENT_FLAGS_DESC, true);
        break;
      }
      case 2: {
        // One descriptor's flags, whoever owns it: available early, late, never.
        const at = desc + choices.below(size) * VIRTQ_DESC_SIZE + PVIRTQ_DESC_FLAGS;
        const owner = choices.pick([
          0,
          VIRTQ_DESC_F_AVAIL,
          VIRTQ_DESC_F_USED,
          VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED,
        ]);
        data.setUint16(at, owner | choices.below(8), true);
        break;
      }
      case 3: {
        const { iova, bytes } = hostileBuffer(choices);
        const at = desc + choices.below(size) * VIRTQ_DESC_SIZE;
        data.setBigUint64(at, iova, true);
        data.setUint32(at + 8, bytes, true);
        break;
      }
    }
  }

  /** One descriptor of a chain, in the next place. */
  #offerBuffer(more: boolean, writes: boolean): void {
    const choices = this.#choices;
    const { iova, bytes } = hostileBuffer(choices);
    let flags = (more ? VIRTQ_DESC_F_NEXT : 0) | (writes ? VIRTQ_DESC_F_WRITE : 0);
    if (choices.once(16)) flags ^= VIRTQ_DESC_F_WRITE;
    if (choices.once(24)) flags = choices.below(8);
    this.#put(iova, bytes, flags);
  }

  /** A descriptor that refers to an indirect table, and the table. */
  #offerTable(): void {
    const choices = this.#choices;
    const ring = this.#ring;
    const { iova, bytes } = hostileTable(ring, choices, (table, i, _entries, mayNest) => {
      const buffer = hostileBuffer(choices);
      let flags = choices.pick([VIRTQ_DESC_F_WRITE, 0, VIRTQ_DESC_F_WRITE | VIRTQ_DESC_F_NEXT]);
      if (mayNest && choices.once(4)) flags |= VIRTQ_DESC_F_INDIRECT;
      ring.descriptor(i, buffer.iova, buffer.bytes, choices.below(65536), flags, table);
    });
    this.#put(iova, bytes, VIRTQ_DESC_F_INDIRECT | (choices.once(10) ? choices.below(4) : 0));
  }

  #put(iova: bigint, bytes: number, flags: number): void {
    const choices = this.#choices;
    let owner = this.#next.wrap ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
    if (choices.once(32)) owner = choices.pick([0, VIRTQ_DESC_F_AVAIL, VIRTQ_DESC_F_USED]);
    const id = choices.pick([this.#next.index, choices.below(65536)]);
    // Of a packed descriptor the last two fields are the buffer id and the flags.
    this.#ring.descriptor(this.#next.index, iova, bytes, id, flags | owner);
    this.#next.advance(1);
  }
}
