/**
 * Reads and writes a disk past the page cache, from memory whose every other byte is NEIGHBOUR: `direct-io.js PATH TIMES`. What
 * it writes is WRITTEN, at random offsets within a page and of random sizes, so that the kernel gives its device pages of which
 * a part belongs to the request. From a process of its own, which waits while another serves the disk.
 */
import { closeSync, constants, openSync } from 'node:fs';
import {
  IO_BYTES,
  IO_COUNT,
  IO_OFFSET,
  IO_OP,
  IO_OP_READ,
  IO_OP_WRITE,
  IO_RESULT,
  IO_SEGMENTS,
  IO_SIZE,
  SEGMENT_BYTES,
  SEGMENT_LINEAR,
  SEGMENT_SIZE,
} from '../../assembly/layout.js';
import { Aperture } from '../../host/aperture/aperture.js';
import { loadAddon } from '../../host/native/addon.js';
import { NEIGHBOUR, WRITTEN } from './direct-io-bytes.js';

/** Bytes. */
const SECTOR = 512;
const MEMORY = 2 ** 16;
const SECTORS_MAX = 40;

const [path, times] = process.argv.slice(2) as [string, string];
const disk = openSync(path, constants.O_RDWR | constants.O_DIRECT);
const aperture = Aperture.create({ bytes: 2 ** 20, privateBytes: 2 ** 16 });
const fd = loadAddon().memfd('direct-io', MEMORY, true);
const window = aperture.map({ fd, offset: 0n }, MEMORY, 'rw');
closeSync(fd);
const memory = aperture.viewOwn(window).fill(NEIGHBOUR);
const entry = aperture.allocate(IO_SIZE);
const segment = aperture.allocate(SEGMENT_SIZE);
const fileIo = aperture.prepareFileIo(disk, entry);
aperture.u32[(entry + IO_COUNT) / 4] = 1;
aperture.u32[(entry + IO_SEGMENTS) / 4] = segment;

const random = (limit: number) => Math.floor(Math.random() * limit);

function transfer(operation: number): void {
  const bytes = (1 + random(SECTORS_MAX)) * SECTOR;
  // Direct I/O takes any multiple of a sector.
  const at = random((MEMORY - bytes) / SECTOR) * SECTOR;
  if (operation === IO_OP_WRITE) memory.fill(WRITTEN, at, at + bytes);
  aperture.u32[(entry + IO_OP) / 4] = operation;
  aperture.u64[(entry + IO_OFFSET) / 8] = BigInt(random(1024) * SECTOR);
  aperture.u64[(entry + IO_BYTES) / 8] = BigInt(bytes);
  aperture.u32[(segment + SEGMENT_LINEAR) / 4] = window.linear + at;
  aperture.u32[(segment + SEGMENT_BYTES) / 4] = bytes;
  fileIo(1);
  const moved = aperture.u64[(entry + IO_RESULT) / 8];
  if (moved !== BigInt(bytes)) throw new Error(`${moved} of ${bytes} bytes`);
  memory.fill(NEIGHBOUR, at, at + bytes);
}

for (let index = 0; index < Number(times); index++) transfer(index % 2 ? IO_OP_READ : IO_OP_WRITE);
closeSync(disk);
