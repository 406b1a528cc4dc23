import { inspect } from 'node:util';
import { PAGE_SIZE } from '../../assembly/layout.js';
import { RingbellError } from '../errors.js';
import { type NotificationArea, refusalOf } from './notification-area.js';

/** Bytes of a doorbell: the 16-bit index of its queue. */
const DOORBELL_SIZE = 2;
/** Default bus address of a BAR: one that suits a BAR of any size. */
const BAR_ADDRESS = 1n << 44n;

/**
 * How a parent lays the doorbells of its queues out in its register BAR, and what it states about them. All in bytes, and
 * the parent's own business: what can be made of it, the bus driver decides.
 */
export interface DoorbellLayout {
  /** From the doorbell of one queue to that of the next, virtio's notify_off_multiplier; 0: all queues share one. */
  stride: number;
  /** What a doorbell has to itself: no register of another use is in there, nor another doorbell. */
  size: number;
  /** From the start of the BAR to the doorbell of queue 0; 0 if left out. */
  offset?: number;
  /** The BAR: a power of two; if left out, one that has room for all doorbells, a page at least. */
  barSize?: number;
  /** Bus address of the BAR, a multiple of its size. */
  barAddress?: bigint;
  /** Indices of queues without a doorbell: the parent runs them in software, as it may do with a control queue. */
  software?: readonly number[];
}

/**
 * The three layouts that devices have: 'page-per-vq', a page of 4 KiB for each queue; '2-byte', registers of 16 bits side by
 * side; 'shared', one page of 4 KiB for all queues.
 */
export type DoorbellLayoutName = 'page-per-vq' | '2-byte' | 'shared';

const LAYOUTS: Readonly<Record<DoorbellLayoutName, DoorbellLayout>> = {
  'page-per-vq': { stride: PAGE_SIZE, size: PAGE_SIZE },
  '2-byte': { stride: DOORBELL_SIZE, size: DOORBELL_SIZE },
  shared: { stride: 0, size: PAGE_SIZE },
};

/** The layout that is given, by its name or as it is. Throws ERR_ARGUMENT for one that contradicts itself. */
export function doorbellLayout(layout: DoorbellLayoutName | DoorbellLayout): DoorbellLayout {
  if (typeof layout === 'object' && layout !== null) {
    judge(layout);
    return layout;
  }
  if (!Object.hasOwn(LAYOUTS, layout))
    throw new RingbellError(
      'ERR_ARGUMENT',
      `doorbell must be ${Object.keys(LAYOUTS)
        .map((name) => `'${name}'`)
        .join(', ')} or a layout, not ${inspect(layout)}`,
    );
  return LAYOUTS[layout];
}

/** A layout with nothing left out, for a device of so many queues. */
export type PlacedDoorbells = Required<DoorbellLayout>;

/** Lays the doorbells of `queues` queues out. Throws ERR_ARGUMENT where the BAR has no room for what the parent states, or cannot lie there. */
export function placeDoorbells(layout: DoorbellLayout, queues: number): PlacedDoorbells {
  const { stride, size, offset = 0, barAddress = BAR_ADDRESS, software = [] } = layout;
  const end = offset + (queues - 1) * stride + size;
  const barSize = layout.barSize ?? 2 ** Math.ceil(Math.log2(Math.max(end, PAGE_SIZE)));
  // A parent that states more than it has (a page of the host, whatever the host's pages are) gives away what lies behind
  // its BAR, and nobody after it could tell.
  if (end > barSize)
    throw new RingbellError(
      'ERR_ARGUMENT',
      `doorbell: that of queue ${queues - 1} ends at ${end}, its BAR at ${barSize}`,
    );
  if (barAddress % BigInt(barSize))
    throw new RingbellError(
      'ERR_ARGUMENT',
      `doorbell: barAddress must be a multiple of the BAR's ${barSize} bytes, not ${barAddress}`,
    );
  return { stride, size, offset, barSize, barAddress, software };
}

/** Where the doorbell of queue `index` lies. */
export function areaOf(
  { barAddress, offset, stride, size, software }: PlacedDoorbells,
  index: number,
): NotificationArea {
  if (software.includes(index)) return { addr: 0n, size: 0 };
  return { addr: barAddress + BigInt(offset + index * stride), size };
}

/**
 * Whether each of `queues` queues has a doorbell that a driver can map, on a host with pages of `pageSize` bytes: what it takes
 * for VIRTIO_F_NOTIFICATION_DATA to be offered. Kicks by eventfd carry no data, and doorbells of two bytes have no room for
 * it; those are never a page. Throws ERR_ARGUMENT, as placeDoorbells.
 */
export function mapsEvery(
  layout: DoorbellLayoutName | DoorbellLayout,
  queues: number,
  pageSize: number,
): boolean {
  const placed = placeDoorbells(doorbellLayout(layout), queues);
  return Array.from({ length: queues }, (_, index) => areaOf(placed, index)).every(
    (area) => !refusalOf(area, pageSize),
  );
}

function judge({
  stride,
  size,
  offset = 0,
  barSize = 1,
  barAddress = 0n,
  software = [],
}: DoorbellLayout): void {
  const refuse = (why: string) => {
    throw new RingbellError('ERR_ARGUMENT', `doorbell: ${why}`);
  };
  const isCount = (value: number) => Number.isSafeInteger(value) && value >= 0;
  if (!isCount(size) || size < DOORBELL_SIZE)
    refuse(`size must be ${DOORBELL_SIZE} bytes or more, not ${size}`);
  if (!isCount(stride) || (stride > 0 && stride < size))
    refuse(`stride must be 0, or at least the size of ${size} bytes, not ${stride}`);
  if (!isCount(offset) || offset % DOORBELL_SIZE)
    refuse(`offset must be an even number of bytes, not ${offset}`);
  if (!isCount(barSize) || !Number.isInteger(Math.log2(barSize)))
    refuse(`barSize must be a power of two, not ${barSize}`);
  if (typeof barAddress !== 'bigint' || barAddress < 0n)
    refuse(`barAddress must be a bigint from 0, not ${barAddress}`);
  if (!Array.isArray(software) || !software.every(isCount))
    refuse('software must be a list of queue indices');
}
