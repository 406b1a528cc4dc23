import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { SECTOR_BYTES } from './image.js';

/** Bytes of one request when a whole disk is read, and how many are in flight. */
const READ_BYTES = 2 ** 18;
const READS_IN_FLIGHT = 8;
/** Bytes of the requests that are written and read back: a sector, a page, several segments, several slots. */
const WRITE_BYTES = [SECTOR_BYTES, 4096, 65536, 2 ** 20];
/** Rounds of WRITE_BYTES over the disk. */
const WRITE_ROUNDS = 16;

/** What verification needs of a disk. */
export interface VerifiedDisk {
  readonly capacity: number;
  read(offset: number, into: Uint8Array, options?: { signal?: AbortSignal }): Promise<Uint8Array>;
  write(offset: number, from: Uint8Array, options?: { signal?: AbortSignal }): Promise<unknown>;
  flush(): Promise<unknown>;
}

/** The bytes that came through the rings, against those of the file. */
export interface ReadVerification {
  bytes: number;
  /** SHA-256 of what came through the rings, and of the file. */
  sha256: string;
  fileSha256: string;
  equal: boolean;
  /** Offset in bytes of the first request whose bytes differ. */
  firstDifference: number | null;
}

/** What was written, against what came back through the rings and what is in the file. */
export interface WriteVerification {
  requests: number;
  bytes: number;
  equal: boolean;
  /** Offset in bytes of the first request that came back different. */
  firstDifference: number | null;
}

/** Follows a long step: `fraction` of it is done. */
export type Follow = (fraction: number) => void;

/** Reads the whole disk through the rings, many requests in flight, and compares it with the file behind it. */
export async function verifyReads(
  disk: VerifiedDisk,
  path: string,
  signal: AbortSignal,
  follow: Follow,
): Promise<ReadVerification> {
  const ringHash = createHash('sha256');
  const fileHash = createHash('sha256');
  const file = await open(path, 'r');
  const fileBytes = Buffer.alloc(READ_BYTES);
  const bytes = disk.capacity;
  // A buffer is free again when its request has been compared, and requests are compared in order.
  const buffers = Array.from({ length: READS_IN_FLIGHT }, () => new Uint8Array(READ_BYTES));
  const inFlight: Promise<Uint8Array>[] = [];
  let asked = 0;
  let compared = 0;
  let firstDifference: number | null = null;
  const ask = () => {
    const buffer = buffers[(asked / READ_BYTES) % READS_IN_FLIGHT]!;
    const request = disk.read(asked, buffer.subarray(0, Math.min(READ_BYTES, bytes - asked)), { signal });
    // Where an earlier request fails, nobody awaits the later ones any more.
    request.catch(() => {});
    inFlight.push(request);
    asked += READ_BYTES;
  };
  try {
    while (compared < bytes) {
      signal.throwIfAborted();
      while (asked < bytes && inFlight.length < READS_IN_FLIGHT) ask();
      const ring = await inFlight.shift()!;
      const expected = fileBytes.subarray(
        0,
        await readFully(file, fileBytes.subarray(0, ring.length), compared),
      );
      ringHash.update(ring);
      fileHash.update(expected);
      if (firstDifference === null && Buffer.compare(ring, expected) !== 0) firstDifference = compared;
      compared += ring.length;
      follow(compared / bytes);
    }
  } finally {
    await Promise.allSettled(inFlight);
    await file.close();
  }
  const sha256 = ringHash.digest('hex');
  const fileSha256 = fileHash.digest('hex');
  return { bytes, sha256, fileSha256, equal: sha256 === fileSha256, firstDifference };
}

/** Writes requests of several sizes all over the disk, flushes, and reads them back through the rings and from the file. */
export async function verifyWrites(
  disk: VerifiedDisk,
  path: string,
  signal: AbortSignal,
  follow: Follow,
): Promise<WriteVerification> {
  const places = writePlaces(disk.capacity);
  const steps = 2 * places.length;
  let done = 0;
  for (const { offset, bytes, seed } of places) {
    await disk.write(offset, pattern(bytes, seed), { signal });
    follow(++done / steps);
  }
  await disk.flush();
  const file = await open(path, 'r');
  try {
    let firstDifference: number | null = null;
    for (const { offset, bytes, seed } of places) {
      const expected = pattern(bytes, seed);
      const ring = await disk.read(offset, new Uint8Array(bytes), { signal });
      const stored = Buffer.alloc(bytes);
      await readFully(file, stored, offset);
      if (Buffer.compare(ring, expected) !== 0 || Buffer.compare(stored, expected) !== 0)
        firstDifference ??= offset;
      follow(++done / steps);
    }
    return {
      requests: places.length,
      bytes: places.reduce((sum, place) => sum + place.bytes, 0),
      equal: firstDifference === null,
      firstDifference,
    };
  } finally {
    await file.close();
  }
}

/** Where to write: places that do not overlap, spread evenly, the last one ending where the disk does. */
function writePlaces(capacity: number): { offset: number; bytes: number; seed: number }[] {
  const count = WRITE_ROUNDS * WRITE_BYTES.length;
  const stride = Math.floor(capacity / count / SECTOR_BYTES) * SECTOR_BYTES;
  if (stride === 0) return [{ offset: 0, bytes: capacity, seed: 1 }];
  return Array.from({ length: count }, (_, i) => {
    const bytes = Math.min(WRITE_BYTES[i % WRITE_BYTES.length]!, stride);
    return { offset: i === count - 1 ? capacity - bytes : i * stride, bytes, seed: i + 1 };
  });
}

/** Pseudo-random bytes (xorshift32) that differ from seed to seed. */
function pattern(bytes: number, seed: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  let state = (seed * 0x9e3779b1) >>> 0;
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, bytes);
}

/** Fills `into` from the file, or as much of it as the file has: bytes read. */
async function readFully(file: FileHandle, into: Uint8Array, position: number): Promise<number> {
  let filled = 0;
  while (filled < into.length) {
    const { bytesRead } = await file.read(into, filled, into.length - filled, position + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}
