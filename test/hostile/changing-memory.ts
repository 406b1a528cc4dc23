import * as layout from '../../assembly/layout.js';
import * as virtio from '../../assembly/virtio.js';
import { PACKED_VRING_BASE_RESET, SPLIT_VRING_BASE_RESET } from '../../host/uapi/vring-base.js';
import { DRIVER_BYTES, DRIVER_LINEAR } from '../engine/fixture.js';
import { DeviceBench, type Element } from './device-bench.js';
import { DriverBench, REQUESTS, WRITABLE } from './driver-bench.js';
import { type Field, whileFlipped } from './flipper.js';
import { both, type HostileCase, type Side } from './hostile-case.js';

const RULE = 'policy: each field is read once';
const OUTCOME = 'what was judged is what is used';
const SIZE = 8;
const WRITE = virtio.VIRTQ_DESC_F_WRITE;
const AVAIL = virtio.VIRTQ_DESC_F_AVAIL;
const USED = virtio.VIRTQ_DESC_F_USED;

/** What a field of a descriptor changes between: sound, and not. `at` is the descriptor's linear address. */
type DescriptorField = (side: Side, at: number, bench: DeviceBench) => Field;

const DESCRIPTOR_FIELDS: readonly DescriptorField[] = [
  (_, at, bench) => ({ at, bytes: 8, values: [bench.buffer(), 2n ** 64n - 4n] }),
  (_, at) => ({ at: at + 8, bytes: 4, values: [16, 0xffff_ffff] }),
  (side, at) => {
    const owner = side === 'packed device' ? AVAIL : 0;
    const offset = side === 'packed device' ? virtio.PVIRTQ_DESC_FLAGS : 12;
    return { at: at + offset, bytes: 2, values: [WRITE | owner, virtio.VIRTQ_DESC_F_INDIRECT | owner] };
  },
];

/** Where the chain goes on; a packed ring has no such field. */
const NEXT_FIELD: DescriptorField = (_, at) => ({ at: at - 16 + 14, bytes: 2, values: [1, 65535] });

/** Takes what there is once: whether it is a chain, wholly in the driver's memory. */
function take(side: Side, bench: DeviceBench): boolean {
  const { ring } = bench;
  ring.engine.deviceStart(
    ring.vq,
    side === 'packed device' ? PACKED_VRING_BASE_RESET : SPLIT_VRING_BASE_RESET,
  );
  if (ring.pop(1) === 0) return false;
  const { readable, writable } = ring.chain(0);
  for (const [linear, bytes] of [...readable, ...writable]) {
    const inside = linear >= DRIVER_LINEAR && linear + bytes <= DRIVER_LINEAR + DRIVER_BYTES && bytes > 0;
    if (!inside) throw new Error(`a segment of ${bytes} bytes at ${linear}`);
  }
  return true;
}

/** The second descriptor of a chain changes, in the ring or in a table. */
async function changeDescriptors(side: Side, inTable: boolean): Promise<string> {
  for (const field of side === 'split device' ? [...DESCRIPTOR_FIELDS, NEXT_FIELD] : DESCRIPTOR_FIELDS) {
    const bench = DeviceBench.make(side, { size: SIZE, indirect: inTable });
    const { ring } = bench;
    const elements: Element[] = [{}, { flags: WRITE }];
    bench.offer(...(inTable ? [bench.table(elements)] : elements));
    const table = inTable ? ring.buffers + 0x2000 : ring.desc;
    await whileFlipped(ring, field(side, table + 16, bench), () => take(side, bench));
  }
  return OUTCOME;
}

/** Changes what says that there is a chain: index and head of a split ring, the head's flags on a packed one. */
async function changeOffers(side: Side): Promise<string> {
  const fields: ((bench: DeviceBench) => Field)[] =
    side === 'packed device'
      ? [
          ({ ring }) => ({
            at: ring.desc + virtio.PVIRTQ_DESC_FLAGS,
            bytes: 2,
            values: [AVAIL, AVAIL | USED],
          }),
        ]
      : [
          ({ ring }) => ({ at: ring.avail + virtio.VIRTQ_AVAIL_IDX, bytes: 2, values: [1, 0] }),
          ({ ring }) => ({ at: ring.avail + virtio.VIRTQ_AVAIL_IDX, bytes: 2, values: [1, SIZE + 1] }),
          ({ ring }) => ({ at: ring.avail + virtio.VIRTQ_AVAIL_RING, bytes: 2, values: [0, 65535] }),
        ];
  for (const field of fields) {
    const bench = DeviceBench.make(side, { size: SIZE });
    bench.offer({});
    await whileFlipped(bench.ring, field(bench), () => take(side, bench));
  }
  return OUTCOME;
}

/** Changes what a device says of a buffer that it has used, while the driver reaps it. */
async function changeUsed(side: Side): Promise<string> {
  const packed = side === 'packed driver';
  const fields: ((bench: DriverBench) => Field)[] = packed
    ? [
        ({ ring }) => ({ at: ring.desc + virtio.PVIRTQ_DESC_ID, bytes: 2, values: [0, 65535] }),
        ({ ring }) => ({ at: ring.desc + virtio.PVIRTQ_DESC_LEN, bytes: 4, values: [WRITABLE, 0xffff_ffff] }),
        ({ ring }) => ({ at: ring.desc + virtio.PVIRTQ_DESC_FLAGS, bytes: 2, values: [AVAIL | USED, AVAIL] }),
      ]
    : [
        ({ ring }) => ({ at: ring.used + virtio.VIRTQ_USED_RING, bytes: 4, values: [0, 65535] }),
        ({ ring }) => ({
          at: ring.used + virtio.VIRTQ_USED_RING + 4,
          bytes: 4,
          values: [WRITABLE, 0xffff_ffff],
        }),
        ({ ring }) => ({ at: ring.used + virtio.VIRTQ_USED_IDX, bytes: 2, values: [1, 0] }),
        ({ ring }) => ({ at: ring.used + virtio.VIRTQ_USED_IDX, bytes: 2, values: [1, REQUESTS + 1] }),
      ];
  for (const field of fields) {
    const bench = new DriverBench(side);
    const { ring } = bench;
    await whileFlipped(ring, field(bench), () => {
      ring.engine.driverStart(ring.dq);
      bench.submit();
      bench.use(0);
      if (ring.engine.blkReap(ring.dq, ring.completions, 1, 0, 0) === 0) return false;
      const [{ tag, status, bytes }] = ring.completed(1) as [{ tag: number; status: number; bytes: number }];
      if (tag !== 0 || status !== virtio.VIRTIO_BLK_S_OK || bytes !== WRITABLE)
        throw new Error(`request ${tag}, status ${status}, ${bytes} bytes`);
      if (ring.u32(ring.dq + layout.DQ_VERDICT)) throw new Error('completes, and breaks');
      return true;
    });
  }
  return OUTCOME;
}

/** Memory that another thread changes while the engine reads it. */
export const changingMemoryCases: readonly HostileCase[] = [
  {
    name: 'rewrites address, length, flags and next of a descriptor while it is read',
    rule: RULE,
    play: (side) => changeDescriptors(side, false),
    outcomes: both('device', OUTCOME),
  },
  {
    name: 'rewrites an indirect table while it is read',
    rule: RULE,
    play: (side) => changeDescriptors(side, true),
    outcomes: both('device', OUTCOME),
  },
  {
    name: 'moves its index to and fro, or the head behind it, or takes a descriptor back, while a device looks',
    rule: RULE,
    play: changeOffers,
    outcomes: both('device', OUTCOME),
  },
  {
    name: 'rewrites id, length and index or flags of a used buffer while it is reaped',
    rule: RULE,
    play: changeUsed,
    outcomes: both('driver', OUTCOME),
  },
];
