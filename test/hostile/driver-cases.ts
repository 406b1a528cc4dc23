import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { DriverBench, REQUESTS, WRITABLE } from './driver-bench.js';
import { both, type HostileCase, type Side, same } from './hostile-case.js';

const USED = 'The Virtqueue Used Ring';
const breaks = (code: string) => `breaks: ERR_RING_${code}`;
const onDrivers = (outcome: string) => both('driver', outcome);
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
    name: 'interrupts although nothing was used',
    rule: 'Used Buffer Notification Suppression',
    play: after(({ ring }) => {
      for (let i = 0; i < 100; i++) ring.engine.blkReap(ring.dq, ring.completions, 64, 0, 0);
    }),
    outcomes: onDrivers('nothing completes'),
  },
];
