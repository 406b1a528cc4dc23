/** An overlay as a disk: what is written, zeroed and discarded is there, the base is as it was. */
import { createHash, randomBytes, randomInt } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OverlayDisk, type OverlayDiskOptions } from '../../host/models/overlay/overlay-disk.js';
import { rejects, type Scene, scene, within } from '../models/fixture.js';

const KIB = 1024;
const MIB = 2 ** 20;

/** Files of a test, which go with it. */
class Files {
  readonly folder = mkdtempSync(join(tmpdir(), 'ringbell-overlay-'));
  readonly file = join(this.folder, 'overlay');
  readonly base = join(this.folder, 'base.img');

  constructor(baseBytes: number) {
    writeFileSync(this.base, randomBytes(baseBytes));
  }

  open(options: Partial<OverlayDiskOptions> = {}): Promise<OverlayDisk> {
    return OverlayDisk.open({ file: this.file, base: this.base, ...options });
  }

  /** Opens it, serves it, drives it, closes it. */
  async scene(
    options: Partial<OverlayDiskOptions>,
    body: (scene: Scene & { model: OverlayDisk }) => Promise<void>,
  ): Promise<void> {
    const model = await this.open(options);
    try {
      await scene(model, { queues: 2 }, (each) => body({ ...each, model }));
    } finally {
      await model.close();
    }
  }

  /** Bytes of storage that the overlay file takes. */
  get storage(): number {
    return statSync(this.file).blocks * 512;
  }
}

async function withFiles(baseBytes: number, body: (files: Files) => Promise<void>): Promise<void> {
  const files = new Files(baseBytes);
  try {
    await body(files);
  } finally {
    rmSync(files.folder, { recursive: true, force: true });
  }
}

const digest = (path: string) => createHash('sha256').update(readFileSync(path)).digest('hex');
const same = (a: Uint8Array, b: Uint8Array, what: string) => assert.is(Buffer.compare(a, b), 0, what);

for (const [clusterSize, baseBytes] of [
  [4 * KIB, MIB],
  [64 * KIB, MIB + 512],
  [2 * MIB, 3 * MIB],
] as const)
  test(`at random, in clusters of ${clusterSize / KIB} KiB, and again after it was opened anew`, async () => {
    await withFiles(baseBytes, async (files) => {
      const contents = readFileSync(files.base);
      const before = digest(files.base);
      for (let round = 0; round < 3; round++)
        await files.scene({ clusterSize }, async ({ disk, errors }) => {
          same(await within(disk.read(0, baseBytes), 'read'), contents, `round ${round}`);
          const sectors = baseBytes / 512;
          for (let step = 0; step < 60; step++) {
            const start = randomInt(sectors);
            const end = Math.min(start + 1 + randomInt(randomInt(2) ? 8 : 600), sectors);
            const [offset, length] = [start * 512, (end - start) * 512];
            const what = randomInt(6);
            if (what < 3) {
              const bytes = randomBytes(length);
              bytes.copy(contents, offset);
              await within(disk.write(offset, bytes), 'write');
            } else if (what < 5) {
              contents.fill(0, offset, offset + length);
              if (what === 3) await within(disk.discard(offset, length), 'discard');
              else
                await within(disk.writeZeroes(offset, length, { unmap: randomInt(2) === 0 }), 'writeZeroes');
            } else await within(disk.flush(), 'flush');
            const from = Math.max(start - 300, 0) * 512;
            const part = contents.subarray(from, Math.min(offset + length + 300 * 512, baseBytes));
            same(await within(disk.read(from, part.length), 'read'), part, `step ${step} of round ${round}`);
          }
          assert.equal(errors, []);
        });
      assert.is(digest(files.base), before);
    });
  });

test('writes to one cluster from all sides at once lose nothing', async () => {
  await withFiles(MIB, async (files) => {
    const contents = readFileSync(files.base);
    await files.scene({}, async ({ disk }) => {
      for (let round = 0; round < 4; round++) {
        const calls: Promise<void>[] = [];
        for (let sector = round % 2; sector < 256; sector += 2) {
          const bytes = randomBytes(512);
          const offset = (round >> 1) * 128 * KIB + sector * 512;
          bytes.copy(contents, offset);
          calls.push(disk.write(offset, bytes));
        }
        await within(Promise.all(calls), 'writes');
        same(await within(disk.read(0, MIB), 'read'), contents, `round ${round}`);
      }
    });
  });
});

test('what was not changed takes no storage, what is discarded gives it back', async () => {
  await withFiles(16 * MIB, async (files) => {
    await files.scene({}, async ({ disk }) => {
      const empty = files.storage;
      assert.ok(empty < 256 * KIB, `${empty} bytes`);
      await within(disk.write(MIB, randomBytes(4 * MIB)), 'write');
      await within(disk.flush(), 'flush');
      const full = files.storage;
      assert.ok(full >= empty + 4 * MIB, `${full} bytes`);
      await within(disk.discard(0, 16 * MIB), 'discard');
      await within(disk.flush(), 'flush');
      assert.ok(files.storage <= empty + 64 * KIB, `${files.storage} bytes`);
      assert.ok((await within(disk.read(0, 16 * MIB), 'read')).every((byte) => byte === 0));
    });
  });
});

test('a disk can be larger than its base: there are zeroes behind it', async () => {
  await withFiles(MIB + 512, async (files) => {
    await files.scene({ size: 4 * MIB }, async ({ disk }) => {
      assert.is(disk.capacity, 4 * MIB);
      const expected = Buffer.concat([readFileSync(files.base), Buffer.alloc(3 * MIB - 512)]);
      const bytes = randomBytes(1024);
      bytes.copy(expected, MIB + 1024);
      await within(disk.write(MIB + 1024, bytes), 'write');
      same(await within(disk.read(0, 4 * MIB), 'read'), expected, 'all');
    });
    // Its size is a matter of the file from then on.
    await files.scene({}, async ({ disk }) => assert.is(disk.capacity, 4 * MIB));
  });
});

test('a read-only overlay shows what was written, and takes nothing', async () => {
  await withFiles(MIB, async (files) => {
    await files.scene({}, async ({ disk }) => within(disk.write(512, Buffer.alloc(512, 7)), 'write'));
    const before = digest(files.file);
    await files.scene({ readOnly: true }, async ({ disk }) => {
      assert.ok(disk.readOnly);
      assert.ok((await within(disk.read(512, 512), 'read')).every((byte) => byte === 7));
      same(
        await within(disk.read(1024, 512), 'read'),
        readFileSync(files.base).subarray(1024, 1536),
        'the base',
      );
      await rejects(disk.write(0, new Uint8Array(512)), 'ERR_READ_ONLY');
    });
    assert.is(digest(files.file), before);
  });
});

test('a base that is another one is refused, a copy of it is not', async () => {
  await withFiles(MIB, async (files) => {
    await (await files.open()).close();
    const other = join(files.folder, 'other.img');
    const contents = readFileSync(files.base);
    writeFileSync(other, contents);
    await (await files.open({ base: other })).close();
    writeFileSync(other, contents.subarray(0, MIB - 512));
    await rejects(files.open({ base: other }), 'ERR_OVERLAY_BASE', /it had 1048576 bytes, not 1048064$/);
    for (const at of [0, 1080, MIB - 1]) {
      const changed = Buffer.from(contents);
      changed[at]! ^= 1;
      writeFileSync(other, changed);
      await rejects(files.open({ base: other }), 'ERR_OVERLAY_BASE', /its contents are others$/);
    }
  });
});

test('a file that is no overlay, or is damaged in any byte of its header, is refused and left alone', async () => {
  await withFiles(MIB, async (files) => {
    const refused = async (bytes: Buffer, message: RegExp) => {
      writeFileSync(files.file, bytes);
      await rejects(files.open(), 'ERR_OVERLAY_FILE', message);
      assert.is(Buffer.compare(readFileSync(files.file), bytes), 0);
    };
    await refused(Buffer.alloc(0), /is not an overlay file/);
    await refused(randomBytes(MIB), /is not an overlay file/);
    rmSync(files.file);
    await (await files.open()).close();
    const sound = readFileSync(files.file);
    for (let at = 0; at < 92; at++) {
      const damaged = Buffer.from(sound);
      damaged[at]! ^= 0x80;
      await refused(damaged, at < 16 ? /is not an overlay file/ : at < 20 ? /has version/ : /checksum/);
    }
    for (const [at, byte] of [
      [4096, 0x03],
      [4096, 0x30],
      [4097, 0xff],
    ] as const) {
      const damaged = Buffer.from(sound);
      damaged[at] = byte;
      await refused(damaged, /its map has 0x[0-9a-f]+ for cluster [01]$/);
    }
    truncateSync(files.file, sound.length - 1);
    await refused(readFileSync(files.file).subarray(0, sound.length - 1), /it has been cut off/);
  });
});

test('options that cannot be meant are refused, and no file is made', async () => {
  await withFiles(MIB, async (files) => {
    for (const [options, message] of [
      [{ clusterSize: 1000 }, /cluster size of 1000/],
      [{ clusterSize: 2048 }, /cluster size of 2048/],
      [{ clusterSize: 4 * MIB }, /cluster size of 4194304/],
      [{ size: 2 ** 50, clusterSize: 4096 }, /needs larger ones/],
      [{ size: MIB - 512 }, /a disk of 1048064 bytes over a base of 1048576/],
      [{ size: MIB + 1 }, /size must be a multiple/],
      [{ blockSize: 100 }, /blockSize/],
      [{ base: join(files.folder, 'none') }, /ENOENT/],
      [{ base: files.folder }, /neither a file nor a block device/],
      [{ file: '' }, /file must be a path/],
      [{ readOnly: true }, /cannot open the overlay: ENOENT/],
      [{ cluster: 4096 }, /no option 'cluster'/],
    ] as const)
      await rejects(files.open(options as object), 'ERR_ARGUMENT', message);
    assert.is(statSync(files.file, { throwIfNoEntry: false }), undefined);
  });
});

test('a closed overlay refuses calls, and closing twice is closing once', async () => {
  await withFiles(MIB, async (files) => {
    const disk = await files.open();
    const write = disk.write(0, new Uint8Array(512));
    await Promise.all([disk.close(), disk.close(), write]);
    await rejects(disk.read(0, new Uint8Array(512)), 'ERR_CLOSED');
  });
});

test.run();
