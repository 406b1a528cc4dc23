import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { Ring } from '../engine/fixture.js';
import { PackedRing } from '../engine/packed-ring.js';
import { DeviceBench } from './device-bench.js';
import { type HostileCase, type Side, same } from './hostile-case.js';

const RULE = 'Used and Available Buffer Notification Suppression';
const SIZE = 8;
/** The wrap counter of a place on a packed ring. */
const WRAP = 0x8000;
const NOTIFIED = 'a notification';
const SPARED = 'no notification';

/** What a peer asks for: its flags, and its event. */
interface Wish {
  flags: number;
  event?: number;
}

const isPacked = (side: Side) => side.startsWith('packed');

/** Where the side under test is when it publishes: at the start, and where indices or places wrap. */
function positions(side: Side): number[] {
  return isPacked(side) ? [WRAP, (SIZE - 1) | WRAP, SIZE - 1] : [0, 65535];
}

/** The position that is one buffer of one descriptor further. */
function after(side: Side, position: number): number {
  if (!isPacked(side)) return (position + 1) & 0xffff;
  return (position & 0x7fff) === SIZE - 1 ? (position & WRAP) ^ WRAP : position + 1;
}

/** Writes a wish to the area at `area`, whose split form has `entryBytes` a ring entry. */
function ask(ring: Ring, area: number, entryBytes: number, { flags, event = 0 }: Wish): void {
  ring.data.setUint16(ring.packed ? area + 2 : area, flags, true);
  ring.data.setUint16(ring.packed ? area : area + 4 + SIZE * entryBytes, event, true);
}

/** Publishes one buffer from `position` on under a wish of the other side: whether that is notified. */
function notifies(side: Side, eventIdx: boolean, position: number, wish: Wish): string {
  return side.endsWith('device')
    ? interrupts(side, eventIdx, position, wish)
    : kicks(side, eventIdx, position, wish);
}

function interrupts(side: Side, eventIdx: boolean, position: number, wish: Wish): string {
  const bench = DeviceBench.make(side, { size: SIZE, eventIdx });
  const { ring } = bench;
  if (ring instanceof PackedRing) {
    ring.available = { index: position & 0x7fff, wrap: position & WRAP ? 1 : 0 };
    ring.engine.deviceStart(ring.vq, position | (position << 16));
  } else {
    for (const index of [ring.avail + virtio.VIRTQ_AVAIL_IDX, ring.used + virtio.VIRTQ_USED_IDX])
      ring.data.setUint16(index, position, true);
    ring.engine.deviceStart(ring.vq, position);
  }
  ask(ring, ring.avail, virtio.VIRTQ_AVAIL_ENTRY_SIZE, wish);
  bench.offer({});
  return ring.engine.devicePush(ring.vq, ring.pop()) & layout.NOTIFY_DUE ? NOTIFIED : SPARED;
}

function kicks(side: Side, eventIdx: boolean, position: number, wish: Wish): string {
  const ring = new Ring({ size: SIZE, indirect: true, packed: isPacked(side), eventIdx });
  ring.set(ring.dq, {
    [layout.DQ_AVAIL]: position,
    [layout.DQ_LAST_USED]: position,
    [layout.DQ_SIGNALLED_AVAIL]: position,
  });
  ask(ring, ring.used, virtio.VIRTQ_USED_ENTRY_SIZE, wish);
  ring.submission(0, { type: virtio.VIRTIO_BLK_T_FLUSH });
  return ring.engine.blkSubmit(ring.dq, ring.submissions, 1) & layout.NOTIFY_DUE ? NOTIFIED : SPARED;
}

/** What an event comes to that lies where `place` says, wherever the side is. */
function event(place: (side: Side, position: number) => number): (side: Side) => string {
  return (side) => {
    const flags = isPacked(side) ? virtio.RING_EVENT_FLAGS_DESC : 0;
    return same(positions(side).map((at) => notifies(side, true, at, { flags, event: place(side, at) })));
  };
}

/** What several wishes come to, wherever the side is. */
function wishes(eventIdx: boolean, ...all: Wish[]): (side: Side) => string {
  return (side) =>
    same(positions(side).flatMap((at) => all.map((wish) => notifies(side, eventIdx, at, wish))));
}

const onSplit = (outcome: string) => ({ 'split device': outcome, 'split driver': outcome });
const onPacked = (outcome: string) => ({ 'packed device': outcome, 'packed driver': outcome });

/** Notification suppression, as the other side asks for it. */
export const suppressionCases: readonly HostileCase[] = [
  {
    name: 'sets bits of its flags that mean nothing',
    rule: RULE,
    play: wishes(false, { flags: 2 }, { flags: 0xfffe }),
    outcomes: onSplit(NOTIFIED),
  },
  {
    name: 'sets its flags although the event index was negotiated',
    rule: RULE,
    play: (side) => same(positions(side).map((at) => notifies(side, true, at, { flags: 1, event: at }))),
    outcomes: onSplit(NOTIFIED),
  },
  {
    name: 'names a descriptor as its event although the event index was not negotiated',
    rule: 'Event Suppression Structure Format; policy: a notification too many',
    play: wishes(false, { flags: virtio.RING_EVENT_FLAGS_DESC, event: 3 }),
    outcomes: onPacked(NOTIFIED),
  },
  {
    name: 'asks for the very next buffer',
    rule: RULE,
    play: event((_, position) => position),
    outcomes: { ...onSplit(NOTIFIED), ...onPacked(NOTIFIED) },
  },
  {
    name: 'asks for the buffer behind the next, or the one before it',
    rule: RULE,
    play: (side) =>
      same([
        event(after)(side),
        event((_, position) => (isPacked(side) ? position ^ WRAP : (position - 1) & 0xffff))(side),
      ]),
    outcomes: { ...onSplit(SPARED), ...onPacked(SPARED) },
  },
  {
    name: 'asks for a buffer far away',
    rule: RULE,
    play: event((side, position) =>
      isPacked(side) ? (((position & 0x7fff) + 4) % SIZE) | WRAP : position ^ 0x8000,
    ),
    outcomes: { ...onSplit(SPARED), ...onPacked(SPARED) },
  },
  {
    name: 'asks for events at a descriptor that there is not, or in the reserved way',
    rule: 'Event Suppression Structure Format; policy: a notification too many',
    play: wishes(
      true,
      { flags: virtio.RING_EVENT_FLAGS_DESC, event: SIZE },
      { flags: virtio.RING_EVENT_FLAGS_DESC, event: 0x7fff | WRAP },
      { flags: 3 },
    ),
    outcomes: onPacked(NOTIFIED),
  },
];
