/**
 * Drives a disk from a process of its own: `disk-driver.js PATH WHAT [OPTIONS]`, the last the options of openBlock in JSON.
 * Not from the process that serves the disk: the kernel holds that process's address space while it asks the device about a
 * mapping (vhost_vdpa_va_map), and the device cannot answer while it needs the address space itself.
 *
 * - `rewrite`: reads the whole disk, writes it anew, reads it again; prints the SHA-256 of all three.
 * - `come-and-go`: opens it ten times, and closes it every other time with requests on their way; prints the SHA-256 of it.
 * - `watch`: prints its capacity in bytes, then the new one when that changes.
 */
import { createHash, randomBytes } from 'node:crypto';
import { type BlockDisk, openBlock } from '../../host/index.js';

/** Bytes of a read or write. */
const CHUNK = 2 ** 18;

const [path, what, options = '{}'] = process.argv.slice(2) as [string, string, string?];
const open = () => openBlock(path, JSON.parse(options));
const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

/** Has `transfer` move each piece of the whole disk, all at once. */
async function eachChunk(
  disk: BlockDisk,
  bytes: Buffer,
  transfer: (offset: number, chunk: Buffer) => Promise<unknown>,
): Promise<Buffer> {
  const transfers: Promise<unknown>[] = [];
  for (let offset = 0; offset < disk.capacity; offset += CHUNK)
    transfers.push(transfer(offset, bytes.subarray(offset, offset + CHUNK)));
  await Promise.all(transfers);
  return bytes;
}

const readAll = (disk: BlockDisk) =>
  eachChunk(disk, Buffer.alloc(disk.capacity), (offset, into) => disk.read(offset, into));

async function rewrite(): Promise<void> {
  const disk = await open();
  console.log(sha256(await readAll(disk)));
  const bytes = randomBytes(disk.capacity);
  console.log(sha256(await eachChunk(disk, bytes, (offset, from) => disk.write(offset, from))));
  await disk.flush();
  console.log(sha256(await readAll(disk)));
  await disk.close();
}

async function comeAndGo(): Promise<void> {
  for (let round = 0; round < 10; round++) {
    const disk = await open();
    const reads = Array.from({ length: 16 }, (_, index) => disk.read(index * CHUNK, Buffer.alloc(CHUNK)));
    const settled = Promise.allSettled(reads);
    if (round % 2) await settled;
    await disk.close();
    await settled;
  }
  const disk = await open();
  console.log(sha256(await readAll(disk)));
  await disk.close();
}

async function watch(): Promise<void> {
  const disk = (await open()).ref();
  console.log(disk.capacity);
  await new Promise<void>((resolve) => disk.once('config', () => resolve()));
  console.log(disk.capacity);
  await disk.close();
}

await { rewrite, 'come-and-go': comeAndGo, watch }[what]!();
