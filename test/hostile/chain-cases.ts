import { IOTLB_ACCESS_READ, IOTLB_ACCESS_WRITE, PAGE_SIZE } from '../../assembly/layout.js';
import {
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../../assembly/virtio.js';
import { DRIVER_BYTES, DRIVER_LINEAR, type RingOptions } from '../engine/fixture.js';
import { ADJACENT, DeviceBench, ELSEWHERE, type Element, mapAdjacent } from './device-bench.js';
import { both, type HostileCase, type Side, same } from './hostile-case.js';

const TABLE = 'The Virtqueue Descriptor Table';
const TABLES = 'Indirect Descriptors';
const FRAMING = 'Message Framing';
const END = 2n ** 64n;
/** Entries of the queue of every case. */
const SIZE = 8;
const WRITE = VIRTQ_DESC_F_WRITE;
const INDIRECT = { indirect: true };

/**
 * A case that is one chain: what the device makes of it. What is not served is played once more behind a sound chain, which
 * must be: by then a region is the current one, so that the fast path looks first.
 */
function chain(elements: (bench: DeviceBench) => Element[], options: RingOptions = {}) {
  return (side: Side): string => {
    const alone = DeviceBench.make(side, { size: SIZE, ...options });
    alone.offer(...elements(alone));
    const outcome = alone.outcome();
    const behind = DeviceBench.make(side, { size: SIZE, ...options });
    const list = elements(behind);
    if (outcome.startsWith('served') || list.length === SIZE) return outcome;
    behind.offerSound();
    behind.offer(...list);
    // What the burst has no more room for is judged in the next one.
    const first = behind.outcome();
    const second = first === 'served' ? behind.outcome() : first;
    if (behind.served !== 1) return `${behind.served} served`;
    return same([outcome, second]);
  };
}

/** What several chains come to, which must agree. */
function chains(lists: ((bench: DeviceBench) => Element[])[], options: RingOptions = {}) {
  return (side: Side): string => same(lists.map((elements) => chain(elements, options)(side)));
}

/** As many descriptors of 16 bytes as asked for. */
function list(count: number): Element[] {
  return Array.from({ length: count }, () => ({}));
}

const breaks = (code: string) => `breaks: ERR_RING_${code}`;
const onDevices = (outcome: string) => both('device', outcome);

/** Chains: what a driver can say in descriptors. */
export const chainCases: readonly HostileCase[] = [
  {
    name: 'names a next outside the table, by one or by far',
    rule: TABLE,
    play: chains([SIZE, 65535].map((next) => () => [{ next }, {}])),
    outcomes: { 'split device': breaks('NEXT') },
  },
  {
    name: 'names a next outside the indirect table',
    rule: TABLES,
    play: chain((bench) => [bench.table([{ next: 2 }, { flags: WRITE }])], INDIRECT),
    outcomes: { 'split device': breaks('NEXT') },
  },
  {
    name: 'names a next that is not the following descriptor although VIRTIO_F_IN_ORDER was negotiated',
    rule: `${TABLE}; policy: it is followed wherever it points`,
    play: chain(() => [{ next: 2 }, {}, {}], { inOrder: true }),
    outcomes: { 'split device': 'served, 2 segments' },
  },
  {
    name: 'lets a descriptor follow itself',
    rule: TABLE,
    play: chain(() => [{ next: 0 }]),
    outcomes: { 'split device': breaks('CHAIN_TOO_LONG') },
  },
  {
    name: 'makes a loop of two behind a tail',
    rule: TABLE,
    play: chain(() => [{}, {}, { next: 1 }]),
    outcomes: { 'split device': breaks('CHAIN_TOO_LONG') },
  },
  {
    name: 'sets NEXT on every descriptor of the ring',
    rule: 'Next Flag: Descriptor Chaining',
    play: chain(() => [...list(SIZE - 1), { next: 0 }]),
    outcomes: onDevices(breaks('CHAIN_TOO_LONG')),
  },
  {
    name: 'chains exactly as many descriptors as the queue has',
    rule: TABLE,
    play: chains([() => list(SIZE), (bench) => [bench.table(list(SIZE))]], INDIRECT),
    outcomes: onDevices(`served, ${SIZE} segments`),
  },
  {
    name: 'gives an indirect table longer than the queue',
    rule: TABLES,
    play: chain((bench) => [bench.table(list(SIZE + 1))], INDIRECT),
    outcomes: onDevices(breaks('CHAIN_TOO_LONG')),
  },
  {
    name: 'gives descriptors and a table that are together longer than the queue',
    rule: TABLES,
    play: chain((bench) => [{}, bench.table(list(SIZE))], INDIRECT),
    outcomes: { 'split device': breaks('CHAIN_TOO_LONG'), 'packed device': breaks('INDIRECT_NEXT') },
  },
  {
    name: 'makes lengths that add up to 2^32 or more',
    rule: TABLE,
    // The structure is judged before any address is translated: these need not be mapped.
    play: chains([2, 3, 5].map((count) => () => [{ bytes: 2 ** 32 - 16 * (count - 1) }, ...list(count - 1)])),
    outcomes: onDevices(breaks('TOTAL_LENGTH')),
  },
  {
    name: 'makes a readable descriptor of no bytes',
    rule: 'policy',
    play: chain(() => [{ bytes: 0 }, { flags: WRITE }]),
    outcomes: onDevices(breaks('ZERO_LENGTH')),
  },
  {
    name: 'ends a chain with a writable descriptor of no bytes',
    rule: 'policy',
    play: chain(() => [{}, { bytes: 0, flags: WRITE }]),
    outcomes: onDevices(breaks('ZERO_LENGTH')),
  },
  {
    name: 'gives an address that nothing maps',
    rule: 'policy: the transport is asked for it, then the queue breaks with ERR_RING_UNMAPPED',
    play: chain(() => [{ iova: 0x5000n }]),
    outcomes: onDevices('waits for a mapping'),
  },
  {
    name: 'lets a buffer cross the end of the last region, or run into a hole',
    rule: 'policy: as above',
    play: chains([
      ({ ring }) => [{ iova: ring.iova(DRIVER_LINEAR + DRIVER_BYTES - 8) }],
      (bench) => {
        bench.ring.map(ADJACENT, ELSEWHERE[0], PAGE_SIZE);
        return [{ iova: ADJACENT + BigInt(PAGE_SIZE) - 8n }];
      },
    ]),
    outcomes: onDevices('waits for a mapping'),
  },
  {
    name: 'lets a buffer cross two adjacent regions',
    rule: 'policy: what is mapped can be used',
    play: chain((bench) => {
      mapAdjacent(bench);
      return [{ iova: ADJACENT + BigInt(PAGE_SIZE) - 8n }];
    }),
    outcomes: onDevices('served, 2 segments'),
  },
  {
    name: 'gives a buffer whose end passes 2^64',
    rule: TABLE,
    play: chains([() => [{ iova: END - 8n }], () => [{}, {}, {}, { iova: END - 8n }]]),
    outcomes: onDevices(breaks('ADDRESS_OVERFLOW')),
  },
  {
    name: 'gives an address 2^32, or 2^63, behind a mapped one',
    rule: 'an IOVA has 64 bits',
    play: chains(
      [2n ** 32n, 2n ** 63n].map((far) => (bench) => [{ iova: BigInt.asUintN(64, bench.buffer() + far) }]),
    ),
    outcomes: onDevices('waits for a mapping'),
  },
  {
    name: 'asks to write where the mapping is read-only',
    rule: 'vDPA: access rights of the IOTLB',
    play: chains(
      [0, 1, 2, 3].map((before) => (bench) => {
        bench.ring.map(ADJACENT, ELSEWHERE[0], PAGE_SIZE, IOTLB_ACCESS_READ);
        return [...list(before), { iova: ADJACENT, flags: WRITE }];
      }),
    ),
    outcomes: onDevices(breaks('PERMISSION')),
  },
  {
    name: 'asks to read where the mapping is write-only',
    rule: 'vDPA: access rights of the IOTLB',
    play: chain((bench) => {
      bench.ring.map(ADJACENT, ELSEWHERE[0], PAGE_SIZE, IOTLB_ACCESS_WRITE);
      return [{ iova: ADJACENT }];
    }),
    outcomes: onDevices(breaks('PERMISSION')),
  },
  {
    name: 'puts a readable descriptor after a writable one',
    rule: FRAMING,
    play: chains([0, 1, 2].map((before) => () => [...list(before), { flags: WRITE }, {}])),
    outcomes: onDevices(breaks('ORDER')),
  },
  {
    name: 'does so inside an indirect table',
    rule: FRAMING,
    play: chain((bench) => [bench.table([{ flags: WRITE }, {}])], INDIRECT),
    outcomes: onDevices(breaks('ORDER')),
  },
  {
    name: 'uses INDIRECT without having negotiated it',
    rule: TABLES,
    play: chain((bench) => [bench.table([{}])]),
    outcomes: onDevices(breaks('INDIRECT_NOT_NEGOTIATED')),
  },
  {
    name: 'combines INDIRECT with NEXT',
    rule: TABLES,
    play: chain((bench) => [bench.table([{}]), {}], INDIRECT),
    outcomes: onDevices(breaks('INDIRECT_NEXT')),
  },
  {
    name: 'nests indirect tables',
    rule: TABLES,
    play: chain((bench) => [bench.table([{ flags: VIRTQ_DESC_F_INDIRECT }])], INDIRECT),
    outcomes: onDevices(breaks('INDIRECT_NESTED')),
  },
  {
    name: 'sets WRITE on the descriptor of a table',
    rule: TABLES,
    play: chain((bench) => {
      const table = bench.table([{}, {}]);
      return [{ ...table, flags: table.flags! | WRITE }];
    }, INDIRECT),
    outcomes: onDevices('served, 2 segments'),
  },
  {
    name: 'puts descriptors before the one that refers to a table',
    rule: `${TABLES}; on a packed ring a driver must not`,
    play: chain((bench) => [{}, bench.table([{}, {}])], INDIRECT),
    outcomes: { 'split device': 'served, 3 segments', 'packed device': breaks('INDIRECT_NEXT') },
  },
  {
    name: 'sets NEXT inside an indirect table',
    rule: 'on a packed ring only WRITE has a meaning there',
    play: chain(
      (bench) => [bench.table([{ flags: VIRTQ_DESC_F_NEXT }, { flags: VIRTQ_DESC_F_NEXT }])],
      INDIRECT,
    ),
    outcomes: { 'packed device': 'served, 2 segments' },
  },
  {
    name: 'gives a table of no bytes, or of no multiple of a descriptor',
    rule: TABLES,
    play: chains(
      [0, 8, 17].map((bytes) => (bench) => [{ ...bench.table([{}, {}]), bytes }]),
      INDIRECT,
    ),
    outcomes: onDevices(breaks('INDIRECT_LENGTH')),
  },
  {
    name: 'gives a table of more than 65,536 descriptors, up to 2^32 − 16 bytes',
    rule: TABLES,
    play: chains(
      [65537 * VIRTQ_DESC_SIZE, 0xffff_fff0].map((bytes) => () => [{ bytes, flags: VIRTQ_DESC_F_INDIRECT }]),
      INDIRECT,
    ),
    outcomes: onDevices(breaks('CHAIN_TOO_LONG')),
  },
  {
    name: 'gives a table whose end passes 2^64',
    rule: TABLES,
    play: chain(() => [{ iova: END - 16n, bytes: 32, flags: VIRTQ_DESC_F_INDIRECT }], INDIRECT),
    outcomes: onDevices(breaks('ADDRESS_OVERFLOW')),
  },
  {
    name: 'places a table at an odd address',
    rule: TABLES,
    play: chain((bench) => [bench.table([{}, {}], bench.ring.buffers + 0x2003)], INDIRECT),
    outcomes: onDevices('served, 2 segments'),
  },
  {
    name: 'places a table across two regions',
    rule: 'policy: what is mapped can be used',
    play: chain((bench) => {
      mapAdjacent(bench);
      const [low, high] = ELSEWHERE;
      const table = bench.table([{}, {}, {}], low + PAGE_SIZE - 24);
      // What was written behind the boundary belongs to the region that follows in the driver's addresses.
      bench.ring.u8.copyWithin(high, low + PAGE_SIZE, low + PAGE_SIZE + 24);
      return [{ ...table, iova: ADJACENT + BigInt(PAGE_SIZE) - 24n }];
    }, INDIRECT),
    outcomes: onDevices('served, 3 segments'),
  },
  {
    name: 'lets a table lie over the ring itself',
    rule: 'policy: bounded, inside its own memory',
    play: chain(
      ({ ring }) => [{ iova: ring.iova(ring.desc), bytes: SIZE * 16, flags: VIRTQ_DESC_F_INDIRECT }],
      INDIRECT,
    ),
    outcomes: onDevices(breaks('INDIRECT_NESTED')),
  },
  {
    name: 'lets a chain cross more regions than there is room for segments',
    rule: 'policy: 1,024 segments, or twice the queue',
    play: chain(
      (bench) => {
        for (let i = 0; i < 6; i++)
          bench.ring.map(BigInt(i * PAGE_SIZE), ELSEWHERE[0] + i * 2 * PAGE_SIZE, PAGE_SIZE);
        return [{ iova: 0n, bytes: 6 * PAGE_SIZE }];
      },
      { segments: 4 },
    ),
    outcomes: onDevices(breaks('TOO_MANY_SEGMENTS')),
  },
];
