/**
 * Power that fails at any moment: of what was written to the overlay file and not synced, any pages may be there, in any
 * combination. What was flushed must be, and each sector is as it was flushed or as it was written since.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OverlayDisk } from '../../host/models/overlay/overlay-disk.js';
import { OverlayFile } from '../../host/models/overlay/overlay-file.js';
import { decodeHeader, encodeHeader, HEADER_SIZE } from '../../host/models/overlay/overlay-format.js';
import { generator } from '../engine/random.js';

const SECTOR = 512;
const PAGE = 4096;
const CLUSTER = 8192;
const BYTES = 8 * CLUSTER + 1536;
const SECTORS = BYTES / SECTOR;
const STEPS = 60;
const CRASHES = 40;

/** What was done to the file; a hole is zeroes. */
type Event = { position: number; bytes: Buffer } | 'sync begins' | 'sync ends';

/** Notes what is done to every overlay file from now on; `stop` gives the methods back. */
function record(): { events: Event[]; stop: () => void } {
  const events: Event[] = [];
  const { write, punch, datasync } = OverlayFile.prototype;
  OverlayFile.prototype.write = async function (from, position) {
    events.push({ position, bytes: Buffer.from(from) });
    await write.call(this, from, position);
  };
  OverlayFile.prototype.punch = async function (position, length) {
    events.push({ position, bytes: Buffer.alloc(length) });
    await punch.call(this, position, length);
  };
  OverlayFile.prototype.datasync = async function () {
    events.push('sync begins');
    await datasync.call(this);
    events.push('sync ends');
  };
  return { events, stop: () => Object.assign(OverlayFile.prototype, { write, punch, datasync }) };
}

/**
 * The file as a power loss after the first `count` events can leave it: all that was written before a sync that has ended
 * began, and of the rest what `isKept` says, page by page.
 */
function remains(before: Buffer, events: readonly Event[], count: number, isKept: () => boolean): Buffer {
  const file = Buffer.from(before);
  let durable = 0;
  for (const [index, event] of events.slice(0, count).entries())
    if (event === 'sync ends') durable = events.lastIndexOf('sync begins', index);
  for (const [index, event] of events.slice(0, count).entries()) {
    if (typeof event === 'string') continue;
    const { position, bytes } = event;
    for (let at = position; at < position + bytes.length; ) {
      const end = Math.min((Math.floor(at / PAGE) + 1) * PAGE, position + bytes.length);
      if (index < durable || isKept()) bytes.copy(file, at, at - position, end - position);
      at = end;
    }
  }
  return file;
}

/** The file with a header that another boot has left. */
function afterBoot(file: Buffer): Buffer {
  const header = decodeHeader(file.subarray(0, HEADER_SIZE), 'the file');
  const bytes = Buffer.from(file);
  encodeHeader({ ...header, bootId: new Uint8Array(16) }).copy(bytes);
  return bytes;
}

for (const seed of [1, 2, 3, 4])
  test(`what was flushed survives, and nothing is older than that (seed ${seed})`, async () => {
    const below = generator(seed);
    const folder = mkdtempSync(join(tmpdir(), 'ringbell-power-'));
    const [file, base] = [join(folder, 'overlay'), join(folder, 'base.img')];
    try {
      const image = randomBytes(BYTES);
      writeFileSync(base, image);
      const disk = await OverlayDisk.open({ file, base, clusterSize: CLUSTER });
      const before = readFileSync(file);
      const { events, stop } = record();
      // Of each sector: what it was at the last flush, and all that it was since; by the number of events at the time.
      const history = Array.from({ length: SECTORS }, (_, sector) => [
        { since: -1, bytes: image.subarray(sector * SECTOR, (sector + 1) * SECTOR) },
      ]);
      const flushes: { begun: number; ended: number }[] = [{ begun: 0, ended: 0 }];
      for (let step = 0; step < STEPS; step++) {
        const start = below(SECTORS);
        const end = Math.min(start + 1 + below(below(2) ? 4 : 40), SECTORS);
        const [offset, length] = [start * SECTOR, (end - start) * SECTOR];
        const what = below(5);
        const bytes = what < 2 ? randomBytes(length) : Buffer.alloc(length);
        if (what < 4)
          for (let sector = start; sector < end; sector++)
            history[sector]!.push({
              since: events.length,
              bytes: bytes.subarray((sector - start) * SECTOR, (sector - start + 1) * SECTOR),
            });
        if (what < 2) await disk.write(offset, bytes);
        else if (what < 4) await disk.writeZeroes(offset, length, what === 2);
        else {
          const begun = events.length;
          await disk.flush();
          flushes.push({ begun, ended: events.length });
        }
      }
      let contents = Buffer.alloc(BYTES);
      await disk.read(0, contents);
      assert.is(
        Buffer.compare(contents, Buffer.concat(history.map((all) => all.at(-1)!.bytes))),
        0,
        'the disk',
      );
      await disk.close();
      stop();
      for (let crash = 0; crash < CRASHES; crash++) {
        const count = below(events.length + 1);
        // From all of it to nothing of it, besides what must be there.
        const rate = below(5);
        writeFileSync(file, afterBoot(remains(before, events, count, () => below(4) < rate)));
        const again = await OverlayDisk.open({ file, base });
        contents = Buffer.alloc(BYTES);
        await again.read(0, contents);
        await again.close();
        const flushed = flushes.findLast(({ ended }) => ended <= count)!.begun;
        for (const [sector, all] of history.entries()) {
          const last = all.findLastIndex(({ since }) => since < flushed);
          const allowed = all.filter(({ since }, index) => index >= last && since < count);
          const found = contents.subarray(sector * SECTOR, (sector + 1) * SECTOR);
          assert.ok(
            allowed.some(({ bytes }) => bytes.equals(found)),
            `sector ${sector} after ${count} of ${events.length} events: it was flushed after ${flushed}`,
          );
        }
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

test('what was not flushed is kept when the process ends, and taken back when the machine does', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-power-'));
  const [file, base] = [join(folder, 'overlay'), join(folder, 'base.img')];
  try {
    writeFileSync(base, Buffer.alloc(BYTES, 1));
    const disk = await OverlayDisk.open({ file, base, clusterSize: CLUSTER });
    await disk.write(0, new Uint8Array(SECTOR).fill(2));
    await disk.flush();
    await disk.write(CLUSTER, new Uint8Array(SECTOR).fill(3));
    await disk.discard(2 * CLUSTER, CLUSTER);
    const left = readFileSync(file);
    await disk.close();
    const found = async (bytes: Buffer, readOnly: boolean) => {
      writeFileSync(file, bytes);
      const again = await OverlayDisk.open({ file, base, readOnly });
      const contents = new Uint8Array(BYTES);
      await again.read(0, contents);
      await again.close();
      return [0, SECTOR, CLUSTER, CLUSTER + SECTOR, 2 * CLUSTER].map((at) => contents[at]);
    };
    assert.equal(await found(left, false), [2, 1, 3, 1, 0]);
    for (const readOnly of [true, false])
      assert.equal(await found(afterBoot(left), readOnly), [2, 1, 1, 1, 1]);
    // Once taken back, it stays so in the boot that follows.
    assert.equal(await found(readFileSync(file), false), [2, 1, 1, 1, 1]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a sync that fails fails its flush and all that come after it', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-power-'));
  const [file, base] = [join(folder, 'overlay'), join(folder, 'base.img')];
  const { datasync } = OverlayFile.prototype;
  try {
    writeFileSync(base, Buffer.alloc(BYTES, 1));
    const disk = await OverlayDisk.open({ file, base });
    await disk.write(0, new Uint8Array(SECTOR));
    OverlayFile.prototype.datasync = () => Promise.reject(new Error('the drive has gone'));
    const messages: string[] = [];
    const fails = (call: Promise<void>) => call.catch((error: Error) => void messages.push(error.message));
    await fails(disk.flush());
    OverlayFile.prototype.datasync = datasync;
    await fails(disk.flush());
    await fails(disk.close());
    assert.equal(messages, Array(3).fill('the drive has gone'));
  } finally {
    OverlayFile.prototype.datasync = datasync;
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
