import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { VERDICT_CODES } from '../../host/errors.js';
import { Ring } from '../engine/fixture.js';
import { same } from './chain-cases.js';
import { both, type HostileCase, type Side } from './hostile-case.js';

const USED = 'The Virtqueue Used Ring';
const breaks = (code: string) => `breaks: ERR_RING_${code}`;
const onDrivers = (outcome: string) => both('driver', outcome);
const REQUESTS = 3;
/** Bytes that a device may write to each request: a sector and a status byte. */
const WRITABLE = 513;

/** Three reads in flight, answered by hand as a device might. */
class DriverBench {
  readonly ring: Ring;
  readonly #packed: boolean;
  readonly #statuses: number[];
  #used = 0;

  constructor(side: Side, options: { eventIdx?: boolean } = {}) {
    this.#packed = side === 'packed driver';
    const ring = new Ring({ size: 16, indirect: true, packed: this.#packed, ...options });
    this.ring = ring;
    for (let i = 0; i < REQUESTS; i++)
      ring.submission(i, {
        type: virtio.VIRTIO_BLK_T_IN,
        sector: i,
        linear: ring.buffers + i * 512,
        bytes: 512,
      });
    ring.engine.blkSubmit(ring.dq, ring.submissions, REQUESTS);
    const memory = ring.u32(ring.dq + layout.DQ_SLOT_MEMORY);
    this.#statuses = Array.from(
      { length: REQUESTS },
      (_, i) => memory + i * layout.SLOT_SIZE + layout.SLOT_STATUS,
    );
    for (const at of this.#statuses) ring.u8[at] = virtio.VIRTIO_BLK_S_OK;
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

/** What becomes of three reads after `act`. */
function after(act: (bench: DriverBench) => void): (side: Side) => string {
  return (side) => {
    const bench = new DriverBench(side);
    act(bench);
    return bench.outcome();
  };
}

/** Used rings: what a device can say to a driver. */
export const driverCases: readonly HostileCase[] = [
  {
    name: 'uses buffers in another order',
    rule: USED,
    play: after((bench) => [2, 0, 1].forEach((id) => void bench.use(id))),
    outcomes: onDrivers('3 complete'),
  },
  {
    name: 'moves used.idx beyond what is in flight, or back',
    rule: USED,
    play: (side) =>
      same(
        [REQUESTS + 1, 65535].map((index) =>
          after(({ ring }) => ring.data.setUint16(ring.used + virtio.VIRTQ_USED_IDX, index, true))(side),
        ),
      ),
    outcomes: { 'split driver': breaks('USED_INDEX') },
  },
  {
    name: 'uses an id that there is not',
    rule: USED,
    play: (side) => same([16, 65535].map((id) => after((bench) => bench.use(id))(side))),
    outcomes: onDrivers(breaks('USED_ID')),
  },
  {
    name: 'uses an id that is not in flight',
    rule: USED,
    play: after((bench) => bench.use(REQUESTS)),
    outcomes: onDrivers(breaks('USED_ID')),
  },
  {
    name: 'uses a buffer twice',
    rule: USED,
    play: after((bench) => {
      bench.use(1);
      bench.use(1);
    }),
    outcomes: onDrivers(breaks('USED_ID')),
  },
  {
    name: 'says that it wrote more than there is room for',
    rule: USED,
    play: (side) =>
      same([WRITABLE + 1, 0xffff_ffff].map((bytes) => after((bench) => bench.use(0, bytes))(side))),
    outcomes: onDrivers(breaks('USED_LENGTH')),
  },
  {
    name: 'says OK to a read that it has not written to its end',
    rule: 'policy: the rest holds whatever was there before',
    play: after((bench) => bench.use(0, 100)),
    outcomes: onDrivers('1 of 1 fail'),
  },
  {
    name: 'never writes the status byte',
    rule: 'Device Operation of the block device',
    play: after((bench) => {
      bench.forgetStatus(0);
      bench.use(0);
    }),
    outcomes: onDrivers('1 of 1 fail'),
  },
  {
    name: 'leaves WRITE out of a used descriptor although it has written',
    rule: 'Write Flag; policy: the length counts, devices of QEMU and of Linux do so',
    play: after((bench) => bench.use(0, WRITABLE, 0)),
    outcomes: { 'packed driver': '1 complete' },
  },
  {
    name: 'marks a descriptor used out of turn',
    rule: 'Driver and Device Ring Wrap Counters',
    play: after(({ ring }) => {
      const flags = ring.desc + virtio.VIRTQ_DESC_SIZE + virtio.PVIRTQ_DESC_FLAGS;
      ring.data.setUint16(flags, virtio.VIRTQ_DESC_F_AVAIL | virtio.VIRTQ_DESC_F_USED, true);
    }),
    outcomes: { 'packed driver': 'nothing completes' },
  },
  {
    name: 'marks a descriptor used as of the next lap',
    rule: 'Driver and Device Ring Wrap Counters',
    play: after(({ ring }) => ring.data.setUint16(ring.desc + virtio.PVIRTQ_DESC_FLAGS, 0, true)),
    outcomes: { 'packed driver': 'nothing completes' },
  },
  {
    name: 'scribbles over indirect tables and the available ring',
    rule: 'policy: nothing there is read back',
    play: after((bench) => {
      const { ring } = bench;
      const memory = ring.u32(ring.dq + layout.DQ_SLOT_MEMORY);
      for (let i = 0; i < REQUESTS; i++) {
        const slot = memory + i * layout.SLOT_SIZE;
        ring.u8.fill(0xee, slot + layout.SLOT_INDIRECT, slot + layout.SLOT_SIZE);
      }
      ring.u8.fill(0xee, ring.avail, ring.used);
      for (let id = 0; id < REQUESTS; id++) bench.use(id);
    }),
    outcomes: onDrivers('3 complete'),
  },
  {
    name: 'asks for kicks in a way that there is not',
    rule: 'Available Buffer Notification Suppression; policy: a kick too many',
    play: (side) => {
      const bench = new DriverBench(side, { eventIdx: side === 'packed driver' });
      const { ring } = bench;
      ring.data.setUint32(ring.used, side === 'packed driver' ? 3 << 16 : 0xfffe, true);
      bench.use(0);
      ring.data.setUint16(ring.used, side === 'packed driver' ? 0 : 0xfffe, true);
      const result = ring.engine.blkSubmit(ring.dq, ring.submissions, 1);
      return result & layout.NOTIFY_DUE ? 'a kick' : 'no kick';
    },
    outcomes: onDrivers('a kick'),
  },
  {
    name: 'interrupts although nothing was used',
    rule: 'Used Buffer Notification Suppression',
    play: after(({ ring }) => {
      for (let i = 0; i < 100; i++) ring.engine.blkReap(ring.dq, ring.completions, 64, 0, 0);
    }),
    outcomes: onDrivers('nothing completes'),
  },
];
