import { createHash } from 'node:crypto';
import type { BlockDisk } from '../../../host/index.js';

/** Bytes of a request of ours, which is split by what the device takes. */
export const CHUNK = 2 ** 18;
/** Requests that are on their way at a time. */
const DEPTH = 8;

/** Bytes that tell each sector of each pass from every other. */
export function pattern(offset: number, bytes: number, pass: number): Buffer {
  const data = Buffer.alloc(bytes, pass);
  for (let at = 0; at < bytes; at += 512) data.writeDoubleLE(offset + at + 1, at);
  return data;
}

/** Goes through a disk from `start`, some requests at a time, in order of their starting. */
export async function sweep(
  bytes: number,
  start: number,
  request: (offset: number, length: number) => Promise<unknown>,
): Promise<void> {
  let next = start;
  const worker = async () => {
    while (next < start + bytes) {
      const offset = next;
      next += CHUNK;
      await request(offset, Math.min(CHUNK, start + bytes - offset));
    }
  };
  await Promise.all(Array.from({ length: DEPTH }, worker));
}

/** SHA-256 of a whole disk. */
export async function hashOf(disk: BlockDisk): Promise<string> {
  const hash = createHash('sha256');
  const bytes = disk.capacity;
  // In order: a hash has one.
  for (let at = 0; at < bytes; at += DEPTH * CHUNK) {
    const part = Buffer.alloc(Math.min(DEPTH * CHUNK, bytes - at));
    await sweep(part.length, at, async (offset, length) => {
      part.set(await disk.read(offset, length), offset - at);
    });
    hash.update(part);
  }
  return hash.digest('hex');
}
