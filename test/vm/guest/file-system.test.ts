/** File systems of the kernel on disks of ours: what is written comes back, and the checkers find nothing. */
import { createHash, randomFillSync } from 'node:crypto';
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { BlockDevice, type ServeOptions } from '../../../host/index.js';
import { withDisk } from '../disk-fixture.js';
import { modprobe, scratch, shell } from '../fixture.js';

/** A file system and the tools that make and check it. */
interface FileSystem {
  name: string;
  /** Bytes of the disk. */
  bytes: number;
  make: string;
  check: string;
}

const EXT4 = { name: 'ext4', bytes: 96 * 2 ** 20, make: 'mkfs.ext4 -q', check: 'fsck.ext4 -fn' };
// No smaller one is made.
const XFS = { name: 'xfs', bytes: 300 * 2 ** 20, make: 'mkfs.xfs -q', check: 'xfs_repair -n' };

/** Files of all sizes from none to some megabytes, in folders of many depths: a hundred and a link. */
function plant(folder: string): void {
  const bytes = randomFillSync(Buffer.alloc(3_000_003));
  for (let index = 0; index < 100; index++) {
    const file = join(
      folder,
      ...[index % 7, index % 5, index % 3].slice(index % 4).map(String),
      `file-${index}`,
    );
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, bytes.subarray(index, index + ((index * index * 13) % 70_000)));
  }
  writeFileSync(join(folder, 'large'), bytes);
  writeFileSync(join(folder, 'empty'), '');
  symlinkSync('large', join(folder, 'link'));
}

/** Path and SHA-256 of each file, target of each link. */
function contents(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      const what = entry.isSymbolicLink()
        ? readlinkSync(path)
        : createHash('sha256').update(readFileSync(path)).digest('hex');
      return `${path.slice(folder.length)} ${what}`;
    })
    .sort();
}

for (const [fileSystem, options] of [
  [EXT4, {}],
  [EXT4, { umem: false, apiVersion: 0 }],
  [EXT4, { packed: true }],
  [XFS, {}],
] as [FileSystem, Partial<ServeOptions>][])
  test(`a tree of files on ${fileSystem.name}, served with ${JSON.stringify(options)}`, async () => {
    modprobe(fileSystem.name);
    const model = new BlockDevice({ file: join(scratch(), 'disk.img'), create: fileSystem.bytes });
    await withDisk(model, { driver: 'virtio_vdpa', ...options }, async ({ device, path, errors }) => {
      const tree = scratch();
      plant(tree);
      const mount = join(scratch(), 'mount');
      mkdirSync(mount);
      shell(`${fileSystem.make} ${path}; mount ${path} ${mount}`);
      cpSync(tree, mount, { recursive: true, verbatimSymlinks: true });
      shell(`umount ${mount}`);
      // Out of the page cache, so that it is the device that answers.
      shell(`echo 3 > /proc/sys/vm/drop_caches; mount ${path} ${mount}`);
      assert.equal(contents(mount), contents(tree));
      shell(`umount ${mount}`);
      shell(`${fileSystem.check} ${path}`);
      assert.is(device.bounceBuffer, options.umem === false ? 'fd' : 'umem');
      assert.equal(errors, []);
    });
  });

test.run();
