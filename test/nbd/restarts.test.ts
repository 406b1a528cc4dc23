/** Servers that are killed and started again under load: no request fails, and every byte is where it belongs. */
import { randomBytes, randomInt } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { BlockDisk } from '../../host/drivers/block-disk.js';
import { until, within } from '../models/fixture.js';
import { nbdScene } from './fixture.js';
import { RealServer, testWith } from './real-server.js';

const BLOCK = 4096;
const BLOCKS = 512;
const WORKERS = 32;
const KILLS = 8;
/** Milliseconds that a server lives at most, and is gone at most. */
const LIFE_MS = 120;
const ABSENCE_MS = 60;

/** Reads and writes blocks at random until it is told to stop; each read is compared with what was written last. */
class Load {
  readonly contents: Buffer;
  /** Operations that have ended. */
  done = 0;
  stop = false;
  readonly #disk: BlockDisk;

  constructor(disk: BlockDisk, contents: Buffer) {
    this.#disk = disk;
    this.contents = contents;
  }

  /** Works on every WORKERS-th block: nobody else touches those. */
  async work(worker: number): Promise<void> {
    for (; !this.stop; this.done++) {
      const at = (worker + WORKERS * randomInt(BLOCKS / WORKERS)) * BLOCK;
      const expected = this.contents.subarray(at, at + BLOCK);
      const what = randomInt(10);
      if (what < 5) {
        const bytes = randomBytes(BLOCK);
        await this.#disk.write(at, bytes);
        bytes.copy(this.contents, at);
      } else if (what < 6) {
        await this.#disk.writeZeroes(at, BLOCK);
        expected.fill(0);
      } else if (what < 7) await this.#disk.flush();
      else assert.is(Buffer.compare(await this.#disk.read(at, BLOCK), expected), 0, `the block at ${at}`);
    }
  }
}

for (const [program, connections, command] of [
  ['nbdkit', 4, ['nbdkit', '-f', '-U', 'SOCKET', 'file', 'FOLDER/disk.img']],
  [
    'nbdkit',
    1,
    ['nbdkit', '-f', '-U', 'SOCKET', '--no-sr', '--filter=delay', 'file', 'FOLDER/disk.img', 'wdelay=5ms'],
  ],
  ['qemu-nbd', 4, ['qemu-nbd', '-t', '-k', 'SOCKET', '-f', 'raw', '-e', '8', 'FOLDER/disk.img']],
] as const)
  testWith(
    program,
    `${command.join(' ')}: ${KILLS} kills under load, ${connections} connection(s)`,
    async () => {
      const server = new RealServer([...command]);
      try {
        const file = join(server.folder, 'disk.img');
        const contents = randomBytes(BLOCKS * BLOCK);
        writeFileSync(file, contents);
        await server.start();
        await nbdScene(server.uri(), { connections }, async ({ disk, model, errors, reasons }) => {
          const load = new Load(disk, contents);
          const workers = Promise.all(Array.from({ length: WORKERS }, (_, worker) => load.work(worker)));
          workers.catch(() => {});
          for (let kill = 0; kill < KILLS; kill++) {
            const { done } = load;
            await until(() => load.done > done + WORKERS, 'traffic');
            await delay(randomInt(LIFE_MS));
            await server.kill();
            await delay(randomInt(ABSENCE_MS));
            await server.start();
          }
          const { done } = load;
          await until(() => load.done > done + WORKERS, 'traffic after the last kill');
          load.stop = true;
          await within(workers, 'the workers');
          await within(disk.flush(), 'flush');
          assert.is(Buffer.compare(await within(disk.read(0, contents.length), 'reading all'), contents), 0);
          assert.is(Buffer.compare(readFileSync(file), contents), 0);
          assert.is(model.reconnects, KILLS);
          assert.equal(errors, []);
          assert.ok(reasons.length >= KILLS && reasons.every((code) => code === 'ERR_NBD_CONNECT'));
        });
      } finally {
        await server.close();
      }
    },
  );

test.run();
