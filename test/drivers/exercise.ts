import { randomBytes } from 'node:crypto';
import * as assert from 'uvu/assert';
import type { BlockDisk } from '../../host/drivers/block-disk.js';

/** Random overlapping-free operations on a disk full of zeroes, against a copy of it in ordinary memory. */
export async function exercise(disk: BlockDisk, rounds: number): Promise<void> {
  const { capacity } = disk;
  const model = new Uint8Array(capacity);
  let state = 42;
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const regions = 16;
  const regionBytes = capacity / regions;
  const arena = disk.alloc(regionBytes);
  const content = randomBytes(2 * regionBytes);
  for (let round = 0; round < rounds; round++) {
    const work: Promise<void>[] = [];
    for (let region = 0; region < regions; region++) {
      const sectors = 1 + random(random(4) === 0 ? Math.min(300, regionBytes / 512) : 16);
      const offset = region * regionBytes + random(regionBytes / 512 - sectors) * 512;
      const length = sectors * 512;
      if (random(2)) {
        const start = random(regionBytes);
        const bytes = content.subarray(start, start + length);
        model.set(bytes, offset);
        work.push(disk.write(offset, bytes));
      } else {
        const target = region === 0 ? arena.subarray(0, length) : new Uint8Array(length);
        work.push(
          disk.read(offset, target).then((bytes) => {
            assert.is(Buffer.compare(bytes, model.subarray(offset, offset + length)), 0, `read at ${offset}`);
          }),
        );
      }
    }
    await Promise.all(work);
  }
  assert.is(Buffer.compare(await disk.read(0, capacity), model), 0);
}
