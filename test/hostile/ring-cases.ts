import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import type { Ring } from '../engine/fixture.js';
import { PackedRing } from '../engine/packed-ring.js';
import { DeviceBench } from './device-bench.js';
import { both, type HostileCase, type Side, same } from './hostile-case.js';

const AVAILABLE = 'The Virtqueue Available Ring';
const OWNERS = 'Driver and Device Ring Wrap Counters';
const SIZE = 8;
const breaks = (code: string) => `breaks: ERR_RING_${code}`;

/** A split queue whose avail.idx is `index`, after a start at `from`. */
function atIndex(from: number, index: number): string {
  const bench = DeviceBench.make('split device', { size: SIZE });
  const { ring } = bench;
  for (let i = 0; i < SIZE; i++) ring.descriptor(i, bench.buffer(), 16);
  for (let i = 0; i < SIZE; i++)
    ring.data.setUint16(ring.avail + virtio.VIRTQ_AVAIL_RING + i * virtio.VIRTQ_AVAIL_ENTRY_SIZE, i, true);
  ring.engine.deviceStart(ring.vq, from);
  ring.data.setUint16(ring.avail + virtio.VIRTQ_AVAIL_IDX, index, true);
  return bench.outcome();
}

/** Sets the flags of descriptor 0 of a packed ring to `flags`: what the device makes of it. */
function withFlags(flags: number): string {
  const bench = DeviceBench.make('packed device', { size: SIZE });
  bench.ring.descriptor(0, bench.buffer(), 16, 0, flags);
  return bench.outcome();
}

/** next_off and next_wrap as no sound driver says them, in the high half of a doorbell store. */
const NOTIFICATION_DATA = [0, 1, SIZE - 1, SIZE, 0x7fff, 0x8000, 0x8000 | SIZE, 0xffff];

/** Rings a doorbell with data that is wrong, over a ring with `chains` chains: what the device makes of the two. */
function withNotificationData(side: Side, chains: number): string {
  return same(
    NOTIFICATION_DATA.map((data) => {
      const bench = DeviceBench.make(side, { size: SIZE });
      const { ring } = bench;
      const page = ring.allocate(layout.PAGE_SIZE);
      const list = ring.allocate(Uint32Array.BYTES_PER_ELEMENT);
      ring.set(list, { 0: ring.vq });
      ring.set(ring.vq, {
        [layout.VQ_FLAGS]: ring.u32(ring.vq + layout.VQ_FLAGS) | layout.VQ_F_NOTIFICATION_DATA,
        [layout.VQ_DOORBELL]: page,
        [layout.VQ_DOORBELL_RINGS]: ring.vq + layout.VQ_DOORBELL_COUNT,
      });
      for (let chain = 0; chain < chains; chain++) bench.offer({});
      ring.set(page, { 0: data * 65536 });
      if (ring.engine.doorbellWatch(list, 1, 0) !== 1) return 'not seen';
      return bench.outcome();
    }),
  );
}

/** A request that is taken and not given back: its block. */
function hold(ring: Ring): number {
  const block = ring.allocate(layout.REQUEST_DESCRIPTORS + (ring.size + 1) * virtio.VIRTQ_DESC_SIZE);
  ring.engine.requestTake(ring.vq, block);
  return block;
}

/** Places of the three areas, of which two or more are one; where two things overlap, both are written and read. */
const OVERLAPS: ((ring: Ring) => Record<number, number>)[] = [
  ({ desc }) => ({ [layout.VQ_DRIVER]: desc }),
  ({ desc }) => ({ [layout.VQ_DEVICE]: desc }),
  ({ avail }) => ({ [layout.VQ_DEVICE]: avail }),
  ({ desc }) => ({ [layout.VQ_DRIVER]: desc, [layout.VQ_DEVICE]: desc }),
  ({ buffers }) => ({ [layout.VQ_DEVICE]: buffers }),
];

/** Serves requests on areas that overlap, on an aperture where everything else is a trap: how that ends. */
function overlapping(side: Side): string {
  for (const areas of OVERLAPS) {
    const bench = DeviceBench.make(side, { size: SIZE, fence: true });
    const { ring } = bench;
    for (let i = 0; i < SIZE / 2; i++)
      bench.offer({ bytes: virtio.VIRTIO_BLK_HEADER_SIZE }, { flags: virtio.VIRTQ_DESC_F_WRITE, bytes: 513 });
    ring.set(ring.vq, areas(ring));
    for (let burst = 0; burst < 100; burst++) {
      const served = ring.engine.blkServe(ring.vq, ring.disk) & layout.COUNT_MASK;
      if (served > SIZE) return `${served} chains in a burst`;
    }
  }
  return 'stays inside its memory, in bounded work';
}

/** Rings: indices, ownership, suppression. */
export const ringCases: readonly HostileCase[] = [
  {
    name: 'moves avail.idx ahead by more than the queue size',
    rule: AVAILABLE,
    play: () => atIndex(0, SIZE + 1),
    outcomes: { 'split device': breaks('AVAIL_INDEX') },
  },
  {
    name: 'moves avail.idx back',
    rule: AVAILABLE,
    play: () => same([atIndex(5, 4), atIndex(0, 65535)]),
    outcomes: { 'split device': breaks('AVAIL_INDEX') },
  },
  {
    name: 'moves avail.idx ahead by exactly the queue size, and past 65535',
    rule: AVAILABLE,
    play: () => same([atIndex(0, SIZE), atIndex(65532, 4)]),
    outcomes: { 'split device': `${SIZE} chains served` },
  },
  {
    name: 'names a head outside the table',
    rule: AVAILABLE,
    play: () =>
      same(
        [SIZE, 65535].map((head) => {
          const bench = DeviceBench.make('split device', { size: SIZE });
          bench.offerSound();
          bench.ring.offer(head);
          const outcome = bench.outcome();
          return bench.served === 1 ? outcome : `${bench.served} served`;
        }),
      ),
    outcomes: { 'split device': breaks('HEAD') },
  },
  {
    name: 'makes a head available again while a request holds it',
    rule: 'policy; buffer ids of a packed ring are echoed, whatever they are',
    play: (side) => {
      const bench = DeviceBench.make(side, { size: SIZE });
      const { ring } = bench;
      bench.offer({});
      hold(ring);
      if (side === 'split device') ring.offer(0);
      else bench.offer({});
      hold(ring);
      const inFlight = ring.u32(ring.vq + layout.VQ_IN_FLIGHT);
      return ring.verdict() ? bench.outcome() : `${inFlight} in flight`;
    },
    outcomes: { 'split device': breaks('HEAD_IN_FLIGHT'), 'packed device': '2 in flight' },
  },
  {
    name: 'offers more descriptors than the device has given back',
    rule: `${AVAILABLE}; ${OWNERS}`,
    play: (side) => {
      const bench = DeviceBench.make(side, { size: SIZE });
      const whole = Array.from({ length: SIZE }, () => ({}));
      if (side === 'split device') {
        for (const element of whole) bench.offer(element);
        for (const _ of whole) hold(bench.ring);
        bench.ring.offer(0);
        hold(bench.ring);
      } else {
        bench.offer({});
        hold(bench.ring);
        bench.offer(...whole);
      }
      return bench.outcome();
    },
    outcomes: { 'split device': breaks('HEAD_IN_FLIGHT'), 'packed device': breaks('AVAIL_INDEX') },
  },
  {
    name: 'leaves a descriptor with AVAIL and USED alike, or as on the lap before',
    rule: OWNERS,
    play: () =>
      same(
        [0, virtio.VIRTQ_DESC_F_AVAIL | virtio.VIRTQ_DESC_F_USED, virtio.VIRTQ_DESC_F_USED].map(withFlags),
      ),
    outcomes: { 'packed device': 'nothing is taken' },
  },
  {
    name: 'makes the head of a list available before its other descriptors',
    rule: 'Next Flag: Descriptor Chaining; they follow by their place',
    play: () => {
      const bench = DeviceBench.make('packed device', { size: SIZE });
      bench.ring.descriptor(1, bench.buffer(), 16, 0, 0);
      bench.ring.descriptor(0, bench.buffer(), 16, 0, virtio.VIRTQ_DESC_F_AVAIL | virtio.VIRTQ_DESC_F_NEXT);
      return bench.outcome();
    },
    outcomes: { 'packed device': 'served, 2 segments' },
  },
  {
    name: 'lets a list go on at the start of the ring',
    rule: 'Next Flag: Descriptor Chaining',
    play: () => {
      const bench = DeviceBench.make('packed device', { size: SIZE });
      for (let i = 0; i < SIZE - 1; i++) {
        bench.offer({});
        bench.outcome();
      }
      bench.offer({}, {}, {});
      return bench.outcome();
    },
    outcomes: { 'packed device': 'served, 3 segments' },
  },
  {
    name: 'gives its list ids that differ, or one of 65535',
    rule: 'Next Flag: Descriptor Chaining; the last one counts',
    play: () => {
      const ring = new PackedRing({ size: SIZE });
      const iova = ring.iova(ring.buffers);
      ring.list({ iova, bytes: 16, flags: virtio.VIRTQ_DESC_F_NEXT, id: 3 }, { iova, bytes: 16, id: 65535 });
      ring.pop();
      ring.push(0);
      return `used as ${ring.use(2)?.id}`;
    },
    outcomes: { 'packed device': 'used as 65535' },
  },
  {
    name: 'starts the queue with more in flight than it holds',
    rule: 'policy: saved state is believed as little as a ring; where a split ring says used buffers end, they end',
    play: (side) => {
      const bench = DeviceBench.make(side, { size: SIZE });
      const { ring } = bench;
      if (side === 'split device') {
        ring.data.setUint16(ring.avail + virtio.VIRTQ_AVAIL_IDX, 2000, true);
        ring.data.setUint16(ring.used + virtio.VIRTQ_USED_IDX, 1000, true);
        ring.engine.deviceStart(ring.vq, 2000);
        bench.offer({});
        const outcome = bench.outcome();
        return `${outcome}, used ${ring.u16(ring.used + virtio.VIRTQ_USED_IDX) - 1000}`;
      }
      ring.engine.deviceStart(ring.vq, 3 | ((2 | 0x8000) << 16));
      return bench.outcome();
    },
    outcomes: { 'split device': 'served, used 1', 'packed device': breaks('AVAIL_INDEX') },
  },
  {
    name: 'kicks although there is nothing',
    rule: 'Available Buffer Notification Suppression',
    play: (side) => {
      const bench = DeviceBench.make(side, { size: SIZE });
      for (let i = 0; i < 100; i++) bench.ring.pop();
      return bench.outcome();
    },
    outcomes: both('device', 'nothing is taken'),
  },
  {
    name: 'lets its rings lie over each other, or over a buffer',
    rule: 'policy: some result',
    play: overlapping,
    outcomes: both('device', 'stays inside its memory, in bounded work'),
  },
  {
    name: 'gives less room than a device model has to write',
    rule: 'The Virtqueue Descriptor Table; The Virtqueue Used Ring',
    play: (side) => {
      const bench = DeviceBench.make(side, { size: SIZE });
      const { ring } = bench;
      bench.offer({}, { iova: bench.buffer(16), bytes: 4, flags: virtio.VIRTQ_DESC_F_WRITE });
      const source = ring.allocate(64);
      ring.u8.fill(1, source, source + 64);
      const written = ring.engine.requestWrite(ring.vq, hold(ring), 0, source, 64);
      const ones = [...ring.u8.subarray(ring.buffers, ring.buffers + 64).entries()].filter(
        ([, byte]) => byte,
      );
      const places = ones.map(([place]) => place).join(', ');
      return `${written} bytes are written, at ${places}`;
    },
    outcomes: both('device', '4 bytes are written, at 16, 17, 18, 19'),
  },
  {
    name: 'gives buffers for reading only to a device model that writes',
    rule: 'The Virtqueue Descriptor Table',
    play: (side) => {
      const bench = DeviceBench.make(side, { size: SIZE });
      const { ring } = bench;
      bench.offer({}, {});
      const source = ring.allocate(64);
      ring.u8.fill(1, source, source + 64);
      const written = ring.engine.requestWrite(ring.vq, hold(ring), 0, source, 64);
      const changed = ring.u8.subarray(ring.buffers, ring.buffers + 64).some((byte) => byte !== 0);
      return `${written} bytes are written${changed ? ', and more' : ''}`;
    },
    outcomes: both('device', '0 bytes are written'),
  },
  {
    name: 'gives less room than a device model says that it has written, or has one that gives a buffer back twice',
    rule: 'The Virtqueue Used Ring',
    play: (side) => {
      const bench = DeviceBench.make(side, { size: SIZE });
      const { ring } = bench;
      bench.offer({}, { bytes: 4, flags: virtio.VIRTQ_DESC_F_WRITE });
      const block = hold(ring);
      for (let i = 0; i < 2; i++) ring.engine.requestFinish(ring.vq, block, 0xffff_ffff);
      ring.engine.requestPublish(ring.vq, 1);
      const used =
        ring instanceof PackedRing
          ? [ring.use(2), ring.use(2)].filter((buffer) => buffer !== undefined)
          : ring.usedEntries();
      return `used with ${used.map(({ bytes }) => bytes).join(' and ')} bytes`;
    },
    outcomes: both('device', 'used with 4 bytes'),
  },
  {
    name: 'finds out whether its descriptors, or what it asked for, are ever written by the device',
    rule: `${AVAILABLE}; of a packed ring, where a used descriptor goes`,
    play: (side) => {
      const bench = DeviceBench.make(side, { size: SIZE });
      const { ring } = bench;
      bench.offer({ bytes: 32 }, { flags: virtio.VIRTQ_DESC_F_WRITE, bytes: 32 });
      const end = side === 'split device' ? ring.used : ring.used + 4;
      const before = ring.u8.slice(ring.desc, end);
      ring.engine.devicePush(ring.vq, ring.pop());
      const changed = [...ring.u8.slice(ring.desc, end)].filter((byte, i) => byte !== before[i]).length;
      return changed ? 'written where used' : 'never';
    },
    outcomes: { 'split device': 'never', 'packed device': 'written where used' },
  },
  {
    name: 'rings with a next_off and next_wrap that are no place of the ring, where nothing is available (VIRTIO_F_NOTIFICATION_DATA)',
    rule: 'Driver Notifications; policy: a hint, and the ring says what there is',
    play: (side) => withNotificationData(side, 0),
    outcomes: both('device', 'nothing is taken'),
  },
  {
    name: 'rings with a next_off and next_wrap that hide what is available',
    rule: 'Driver Notifications; policy: a hint, and the ring says what there is',
    play: (side) => withNotificationData(side, 2),
    outcomes: both('device', '2 chains served'),
  },
];
