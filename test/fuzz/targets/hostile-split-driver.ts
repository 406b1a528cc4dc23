import {
  VIRTQ_AVAIL_FLAGS,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_IDX,
} from '../../../assembly/virtio.js';
import type { Ring } from '../../engine/fixture.js';
import { SplitDevice, type SplitQueue } from '../../virtqueue/split-device.js';
import type { Choices } from '../choices.js';
import type { HostileDriver } from './hostile-driver.js';
import { hostileBuffer, hostileTable } from './hostile-memory.js';

/** Flags as drivers set them, but for INDIRECT. */
const FLAGS = [
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_NEXT | VIRTQ_DESC_F_WRITE,
  0,
];

/** A hostile driver of a split ring. */
export class HostileSplitDriver implements HostileDriver {
  readonly model: SplitDevice;
  readonly #ring: Ring;
  readonly #choices: Choices;
  /** Of eight descriptors, how many refer to indirect tables. */
  readonly #tables: number;

  /** Starts the engine somewhere on the ring, and the model with it. */
  constructor(ring: Ring, queue: SplitQueue, choices: Choices, tables: number) {
    this.#ring = ring;
    this.#choices = choices;
    this.#tables = tables;
    const lastAvail = choices.pick([0, 65535, 65530, choices.below(65536)]);
    ring.data.setUint16(ring.avail + VIRTQ_AVAIL_IDX, lastAvail, true);
    ring.data.setUint16(ring.used + VIRTQ_USED_IDX, choices.pick([0, 65535, lastAvail]), true);
    ring.engine.deviceStart(ring.vq, lastAvail);
    for (let i = 0; i < ring.size; i++) this.#scribble(i);
    this.model = new SplitDevice(queue, lastAvail);
  }

  offer(count: number): void {
    const { data, avail, size } = this.#ring;
    const choices = this.#choices;
    let index = data.getUint16(avail + VIRTQ_AVAIL_IDX, true);
    for (let i = 0; i < count; i++) {
      let head = choices.below(size);
      if (choices.once(40)) head = choices.pick([size, 65535]);
      data.setUint16(avail + VIRTQ_AVAIL_RING + (index % size) * 2, head, true);
      index = (index + 1) & 0xffff;
    }
    data.setUint16(avail + VIRTQ_AVAIL_IDX, index, true);
  }

  disturb(): void {
    const { data, avail, used, size } = this.#ring;
    const choices = this.#choices;
    switch (choices.below(4)) {
      case 0:
        data.setUint16(avail + VIRTQ_AVAIL_FLAGS, choices.pick([0, 1, 2, 0xffff]), true);
        break;
      case 1: {
        const index = data.getUint16(used + VIRTQ_USED_IDX, true);
        const event = choices.pick([index, index + 1, index - 1, choices.below(65536)]);
        data.setUint16(avail + VIRTQ_AVAIL_RING + size * 2, event, true);
        break;
      }
      case 2:
        this.#scribble(choices.below(size));
        break;
      case 3: {
        const index = data.getUint16(avail + VIRTQ_AVAIL_IDX, true);
        const jump = choices.pick([size, 1, size + 1, 65535, 65536 - size, choices.below(65536)]);
        data.setUint16(avail + VIRTQ_AVAIL_IDX, index + jump, true);
        break;
      }
    }
  }

  /** Writes descriptor `index` of a table, with one field in a few made bad. */
  #scribble(index: number, tables = this.#tables, table = this.#ring.desc, entries = this.#ring.size): void {
    const ring = this.#ring;
    const choices = this.#choices;
    let next = (index + 1) % entries;
    if (choices.once(10)) next = choices.pick([0, index, ring.size, 65535, choices.below(entries)]);
    if (tables && choices.below(8) < tables) {
      const { iova, bytes } = hostileTable(ring, choices, (inner, i, count, mayNest) =>
        this.#scribble(i, mayNest ? 1 : 0, inner, count),
      );
      const flags = choices.once(10) ? VIRTQ_DESC_F_INDIRECT | choices.below(4) : VIRTQ_DESC_F_INDIRECT;
      ring.descriptor(index, iova, bytes, flags, next, table);
      return;
    }
    const { iova, bytes } = hostileBuffer(choices);
    let flags = choices.pick(FLAGS);
    if (choices.once(24)) flags = choices.below(16);
    ring.descriptor(index, iova, bytes, flags, next, table);
  }
}
