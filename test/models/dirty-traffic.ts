import { randomInt } from 'node:crypto';
import * as assert from 'uvu/assert';
import { PAGE_SIZE } from '../../assembly/layout.js';
import type { DirtyLog } from '../../host/served/dirty-log.js';
import {
  VIRTIO_BLK_HEADER_SIZE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_RANGE_SIZE,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTQ_DESC_F_WRITE,
} from '../../host/uapi/virtio.js';
import { until } from './fixture.js';
import { DATA, type Descriptor, HEADER, IOVA, MEMORY_BYTES, type RawDriver } from './raw-driver.js';

/** Page of the used ring, in the driver's memory. */
export const USED_PAGE = 2;
/** The first page that the driver itself never writes. */
const DATA_PAGE = DATA / PAGE_SIZE;
/** Bytes; the most that a read or write moves. */
const TRANSFER_BYTES = 128 * 1024;
/** Parts that a transfer is cut into at most. */
const PARTS = 8;
const TYPES = [
  ...Array(4).fill(VIRTIO_BLK_T_IN),
  ...Array(2).fill(VIRTIO_BLK_T_OUT),
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_WRITE_ZEROES,
];

/** Pages of [offset, offset + bytes) of the driver's memory. */
function pagesOf(offset: number, bytes: number): number[] {
  const first = Math.floor(offset / PAGE_SIZE);
  return Array.from(
    { length: Math.floor((offset + bytes - 1) / PAGE_SIZE) - first + 1 },
    (_, i) => first + i,
  );
}

/** The pages of the driver's memory that a device says it has written; all must lie there. */
export async function fetchPages(log: DirtyLog, asid = 0): Promise<number[]> {
  return (await log.fetch()).flatMap((range) => {
    assert.is(range.asid, asid);
    const first = Number(range.iova - IOVA) / PAGE_SIZE;
    assert.ok(first >= 0 && first + range.pages <= MEMORY_BYTES / PAGE_SIZE, `page ${first}`);
    return Array.from({ length: range.pages }, (_, i) => first + i);
  });
}

/** Carries out a random request for a disk of `capacity` bytes: the pages that its answer writes, but for the used ring's. */
export async function request(driver: RawDriver, capacity: number): Promise<number[]> {
  const type: number = TYPES[randomInt(TYPES.length)];
  const pages = new Set<number>();
  const writable = (offset: number, len: number, written: number): Descriptor => {
    if (written > 0) for (const page of pagesOf(offset, written)) pages.add(page);
    return { addr: IOVA + BigInt(offset), len, flags: VIRTQ_DESC_F_WRITE };
  };
  const place = (bytes: number) => DATA + randomInt(MEMORY_BYTES - DATA - bytes + 1);
  const sectors = 1 + randomInt(TRANSFER_BYTES / VIRTIO_BLK_SECTOR_SIZE);
  const sector = BigInt(randomInt(capacity / VIRTIO_BLK_SECTOR_SIZE - sectors + 1));
  driver.data.setUint32(HEADER, type, true);
  driver.data.setBigUint64(HEADER + 8, sector, true);
  const parts: Descriptor[] = [{ addr: IOVA + BigInt(HEADER), len: VIRTIO_BLK_HEADER_SIZE }];
  if (type === VIRTIO_BLK_T_IN || type === VIRTIO_BLK_T_OUT) {
    const count = 1 + randomInt(PARTS);
    let left = sectors * VIRTIO_BLK_SECTOR_SIZE;
    for (let part = 1; part <= count && left > 0; part++) {
      const len = part === count ? left : 1 + randomInt(left);
      left -= len;
      const offset = place(len);
      parts.push(
        type === VIRTIO_BLK_T_IN ? writable(offset, len, len) : { addr: IOVA + BigInt(offset), len },
      );
    }
  } else if (type === VIRTIO_BLK_T_GET_ID) {
    parts.push(writable(place(PAGE_SIZE), PAGE_SIZE, VIRTIO_BLK_ID_BYTES));
  } else if (type !== VIRTIO_BLK_T_FLUSH) {
    const range = HEADER + VIRTIO_BLK_HEADER_SIZE;
    driver.data.setBigUint64(range, sector, true);
    driver.data.setUint32(range + 8, sectors, true);
    driver.data.setUint32(range + 12, 0, true);
    parts.push({ addr: IOVA + BigInt(range), len: VIRTIO_BLK_RANGE_SIZE });
  }
  const status = place(1);
  parts.push(writable(status, 1, 1));
  driver.describe(parts);
  const { used } = driver;
  driver.offer(0);
  await until(() => driver.used !== used, 'a used buffer');
  assert.is(driver.data.getUint8(status), VIRTIO_BLK_S_OK, `type ${type}`);
  return [...pages];
}

/**
 * Random requests in rounds: what is dirty after each are the pages of what its answers have written, and no byte has
 * changed anywhere else.
 */
export async function compare(
  driver: RawDriver,
  log: DirtyLog,
  capacity: number,
  rounds: number,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const before = driver.memory.bytes.slice();
    const written = new Set<number>();
    for (let requests = 1 + randomInt(6); requests > 0; requests--)
      for (const page of await request(driver, capacity)) written.add(page);
    // The used ring's marks follow its index, which is what the driver waits for: they may come with the next fetch.
    const dirty = (await fetchPages(log)).filter((page) => page !== USED_PAGE);
    assert.equal(
      dirty,
      [...written].sort((a, b) => a - b),
      `round ${round}`,
    );
    for (let page = DATA_PAGE; page < MEMORY_BYTES / PAGE_SIZE; page++) {
      const range = [page * PAGE_SIZE, (page + 1) * PAGE_SIZE] as const;
      if (Buffer.compare(before.subarray(...range), driver.memory.bytes.subarray(...range)) !== 0)
        assert.ok(dirty.includes(page), `round ${round}: page ${page} has changed`);
    }
  }
}

/**
 * Moves the driver's memory as a live migration does, while requests go on: all of it, then round after round what is dirty,
 * at last what was dirty when the requests had ended. The copy is then the memory, where the device writes.
 */
export async function migrate(
  driver: RawDriver,
  fetch: () => Promise<number[]>,
  capacity: number,
  requests: number,
): Promise<void> {
  const copy = driver.memory.bytes.slice();
  let running = true;
  const traffic = (async () => {
    for (let done = 0; done < requests; done++) await request(driver, capacity);
  })().finally(() => {
    running = false;
  });
  // It is awaited at the end; what has gone wrong until then must not end the process.
  traffic.catch(() => {});
  const move = async () => {
    for (const page of await fetch()) {
      const [start, end] = [page * PAGE_SIZE, (page + 1) * PAGE_SIZE];
      copy.set(driver.memory.bytes.subarray(start, end), start);
    }
  };
  while (running) {
    await move();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await traffic;
  await move();
  assert.is(Buffer.compare(copy.subarray(DATA), driver.memory.bytes.subarray(DATA)), 0);
}
