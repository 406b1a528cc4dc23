/**
 * A program that serves an overlay on the bus and writes to it through a driver until it is killed. Its arguments are the
 * overlay, the base, and the number of its first write. It writes a line before and after each request.
 */
import { randomInt } from 'node:crypto';
import { writeSync } from 'node:fs';
import { Bus } from '../../host/bus/index.js';
import { openBlock } from '../../host/drivers/blk.js';
import { OverlayDisk } from '../../host/models/overlay/overlay-disk.js';
import { serve } from '../../host/serve.js';
import { BLOCK_BYTES, BLOCKS, pattern, WORKERS } from './mortal-disk.js';

const [file, base, first] = process.argv.slice(2);
const model = await OverlayDisk.open({ file: file!, base: base! });
const bus = new Bus();
await serve(model, { name: 'overlay', bus, queues: 2 });
const disk = await openBlock('overlay', { bus });
let number = Number(first);

/** Writes to every WORKERS-th block: nobody else touches those. */
async function work(worker: number): Promise<void> {
  for (;;) {
    const block = worker + WORKERS * randomInt(BLOCKS / WORKERS);
    const what = randomInt(12);
    // Number 0 stands for zeroes.
    const write = what < 10 ? ++number : 0;
    writeSync(1, `begun ${block} ${write}\n`);
    if (what < 10) await disk.write(block * BLOCK_BYTES, pattern(block, write));
    else if (what < 11) await disk.discard(block * BLOCK_BYTES, BLOCK_BYTES);
    else await disk.writeZeroes(block * BLOCK_BYTES, BLOCK_BYTES);
    writeSync(1, `ended ${block} ${write}\n`);
    if (randomInt(20) === 0) await disk.flush();
  }
}

await Promise.all(Array.from({ length: WORKERS }, (_, worker) => work(worker)));
