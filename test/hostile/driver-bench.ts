import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { VERDICT_CODES } from '../../host/errors.js';
import { Ring } from '../engine/fixture.js';
import type { Side } from './hostile-case.js';

/** Requests in flight. */
export const REQUESTS = 3;
/** Bytes that a device may write to each request: a sector and a status byte. */
export const WRITABLE = 513;

/** Three reads in flight, answered by hand as a device might. */
export class DriverBench {
  readonly ring: Ring;
  readonly #packed: boolean;
  readonly #statuses: number[];
  #used = 0;

  constructor(side: Side) {
    this.#packed = side === 'packed driver';
    const ring = new Ring({ size: 16, indirect: true, packed: this.#packed });
    this.ring = ring;
    for (let i = 0; i < REQUESTS; i++)
      ring.submission(i, {
        type: virtio.VIRTIO_BLK_T_IN,
        sector: i,
        linear: ring.buffers + i * 512,
        bytes: 512,
      });
    const memory = ring.u32(ring.dq + layout.DQ_SLOT_MEMORY);
    this.#statuses = Array.from(
      { length: REQUESTS },
      (_, i) => memory + i * layout.SLOT_SIZE + layout.SLOT_STATUS,
    );
    this.submit();
  }

  /** Submits the reads to a queue that was just started; their status bytes say OK. */
  submit(): void {
    const { engine, dq, submissions, u8 } = this.ring;
    engine.blkSubmit(dq, submissions, REQUESTS);
    for (const at of this.#statuses) u8[at] = virtio.VIRTIO_BLK_S_OK;
    this.#used = 0;
  }

  /** Leaves the status byte of a request as it was submitted. */
  forgetStatus(id: number): void {
    this.ring.u8[this.#statuses[id]!] = 0xff;
  }

  /** Says that a buffer was used; on a packed ring with these flags beside those that say so. */
  use(id: number, bytes = WRITABLE, flags: number = virtio.VIRTQ_DESC_F_WRITE): void {
    const { data, desc, used, size } = this.ring;
    if (this.#packed) {
      const at = desc + this.#used++ * virtio.VIRTQ_DESC_SIZE;
      data.setUint32(at + virtio.PVIRTQ_DESC_LEN, bytes, true);
      data.setUint16(at + virtio.PVIRTQ_DESC_ID, id, true);
      data.setUint16(
        at + virtio.PVIRTQ_DESC_FLAGS,
        virtio.VIRTQ_DESC_F_AVAIL | virtio.VIRTQ_DESC_F_USED | flags,
        true,
      );
      return;
    }
    const at = used + virtio.VIRTQ_USED_RING + (this.#used++ % size) * virtio.VIRTQ_USED_ENTRY_SIZE;
    data.setUint32(at, id, true);
    data.setUint32(at + 4, bytes, true);
    data.setUint16(used + virtio.VIRTQ_USED_IDX, this.#used, true);
  }

  /** Reaps: what became of the requests. */
  outcome(): string {
    const { ring } = this;
    const count = ring.engine.blkReap(ring.dq, ring.completions, 64, 0, 0);
    const verdict = ring.u32(ring.dq + layout.DQ_VERDICT);
    if (verdict) {
      if (ring.engine.blkSubmit(ring.dq, ring.submissions, 1)) return 'submits after a verdict';
      return `breaks: ${VERDICT_CODES[verdict]}`;
    }
    if (count === 0) return 'nothing completes';
    const failed = ring.completed(count).filter(({ status }) => status !== virtio.VIRTIO_BLK_S_OK).length;
    return failed ? `${failed} of ${count} fail` : `${count} complete`;
  }
}
