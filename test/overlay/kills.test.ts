/** Processes that are killed while they serve an overlay: what was answered is there, what was not is there or is not. */
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OverlayDisk } from '../../host/models/overlay/overlay-disk.js';
import { scene, until, within } from '../models/fixture.js';
import { BLOCK_BYTES, BLOCKS, pattern } from './mortal-disk.js';

const PROGRAM = fileURLToPath(new URL('mortal-disk-main.js', import.meta.url));
const KILLS = 6;
/** Milliseconds that a process lives at most once it has begun to write. */
const LIFE_MS = 400;
const SECTOR = 512;

/** Runs the program until it has written something, and a little longer: what it said. */
async function runAndKill(...words: string[]): Promise<string[]> {
  const child = spawn(process.execPath, [PROGRAM, ...words], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.on('data', (text) => {
    said += text;
  });
  const closed = once(child, 'close');
  try {
    await until(() => said.includes('ended') || child.exitCode !== null, 'writes');
    await delay(randomInt(LIFE_MS));
  } finally {
    child.kill('SIGKILL');
    await closed;
  }
  // The last line may be cut off: what it says has not been done, or nobody was told.
  return said.split('\n').slice(0, -1);
}

test(`${KILLS} kills at random moments of writing, discarding and zeroing`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'ringbell-overlay-'));
  const [file, base] = [join(folder, 'overlay'), join(folder, 'base.img')];
  try {
    writeFileSync(base, Buffer.concat(Array.from({ length: BLOCKS }, (_, block) => pattern(block, -1))));
    // Of each block the numbers of the writes that it may show.
    const possible = Array.from({ length: BLOCKS }, () => [-1]);
    let number = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      for (const line of await runAndKill(file, base, `${number}`)) {
        const [event, blockText, numberText] = line.split(' ');
        const [block, write] = [Number(blockText), Number(numberText)];
        number = Math.max(number, write);
        if (event === 'begun') possible[block]!.push(write);
        else possible[block] = [write];
      }
      const model = await OverlayDisk.open({ file, base, readOnly: true });
      try {
        await scene(model, {}, async ({ disk }) => {
          const contents = await within(disk.read(0, BLOCKS * BLOCK_BYTES), 'reading all');
          for (const [block, numbers] of possible.entries())
            for (let at = 0; at < BLOCK_BYTES; at += SECTOR) {
              const found = contents.subarray(block * BLOCK_BYTES + at, block * BLOCK_BYTES + at + SECTOR);
              const isOne = numbers.some(
                (each) => Buffer.compare(found, pattern(block, each).subarray(at, at + SECTOR)) === 0,
              );
              assert.ok(isOne, `block ${block} at ${at} after kill ${kill}: none of the writes ${numbers}`);
            }
        });
      } finally {
        await model.close();
      }
    }
    assert.ok(possible.some(([write]) => write! > 0));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
