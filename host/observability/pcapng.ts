/**
 * Blocks of a pcapng file (draft-ietf-opsawg-pcapng), as capture tools read them: a section header, a description of each
 * interface, frames, and at the end what was counted. All in little-endian, which the section header says.
 */

const BLOCK_SECTION_HEADER = 0x0a0d0d0a;
const BLOCK_INTERFACE_DESCRIPTION = 1;
const BLOCK_INTERFACE_STATISTICS = 5;
const BLOCK_ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const VERSION_MAJOR = 1;
const VERSION_MINOR = 0;
const LINKTYPE_ETHERNET = 1;

// Options, by block.
const OPT_ENDOFOPT = 0;
const SHB_OS = 3;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_DESCRIPTION = 3;
const IF_MACADDR = 6;
const IF_TSRESOL = 9;
const EPB_FLAGS = 2;
const EPB_DROPCOUNT = 4;
const EPB_QUEUE = 6;
const ISB_ENDTIME = 3;
const ISB_IFRECV = 4;
const ISB_IFDROP = 5;

/** Time stamps are in units of 10^−9 seconds. */
const TSRESOL_NANOSECONDS = 9;
/** Bytes before and behind the body of a block: its type and length, and its length again. */
const BLOCK_HEADER = 8;
const BLOCK_TRAILER = 4;
/** Bytes of an enhanced packet's body before the frame. */
const PACKET_HEADER = 20;
/** Bytes of the options that every frame has, the end of options included: flags and queue. */
const PACKET_OPTIONS = 20;
/** Bytes of the option that says how many frames were lost before one. */
const DROPCOUNT_OPTION = 12;

/** Which way a frame went, seen from the interface: the value of the direction bits of epb_flags. */
export const INBOUND = 1;
export const OUTBOUND = 2;
export type Direction = typeof INBOUND | typeof OUTBOUND;

/** An interface of a capture: a pair of queues. */
export interface CaptureInterface {
  readonly name: string;
  readonly description: string;
  /** Address in the form '52:54:00:12:34:56'. */
  readonly mac: string | undefined;
}

/** Nanoseconds since 1970, in two halves as the blocks have them. */
export interface TimeStamp {
  high: number;
  low: number;
}

/** One frame of a capture, besides its bytes. */
export interface FrameRecord {
  /** Place of its interface in the section. */
  readonly interfaceId: number;
  readonly direction: Direction;
  /** Index of the virtqueue. */
  readonly queue: number;
  readonly time: Readonly<TimeStamp>;
  /** Frames of this interface that were lost since the one before. */
  readonly dropped: number;
}

/** The block that a file begins with. */
export function sectionHeader(application: string, system: string): Buffer {
  const fixed = Buffer.alloc(16);
  fixed.writeUInt32LE(BYTE_ORDER_MAGIC, 0);
  fixed.writeUInt16LE(VERSION_MAJOR, 4);
  fixed.writeUInt16LE(VERSION_MINOR, 6);
  // The length of the section, which nobody knows yet.
  fixed.fill(0xff, 8);
  return block(BLOCK_SECTION_HEADER, fixed, [
    [SHB_OS, Buffer.from(system)],
    [SHB_USERAPPL, Buffer.from(application)],
  ]);
}

/** Describes the next interface of the section; whole frames are captured of it. */
export function interfaceDescription({ name, description, mac }: CaptureInterface): Buffer {
  const fixed = Buffer.alloc(8);
  fixed.writeUInt16LE(LINKTYPE_ETHERNET, 0);
  return block(BLOCK_INTERFACE_DESCRIPTION, fixed, [
    [IF_NAME, Buffer.from(name)],
    [IF_DESCRIPTION, Buffer.from(description)],
    ...(mac === undefined ? [] : [option(IF_MACADDR, Buffer.from(mac.replaceAll(':', ''), 'hex'))]),
    [IF_TSRESOL, Buffer.from([TSRESOL_NANOSECONDS])],
  ]);
}

/** Bytes of the block of a frame of `bytes` bytes. */
export function enhancedPacketBytes(bytes: number, dropped: number): number {
  const options = PACKET_OPTIONS + (dropped > 0 ? DROPCOUNT_OPTION : 0);
  return BLOCK_HEADER + PACKET_HEADER + padded(bytes) + options + BLOCK_TRAILER;
}

/** Writes the block of a frame to `target`, which is enhancedPacketBytes long. */
export function writeEnhancedPacket(target: Buffer, frame: Uint8Array, record: FrameRecord): void {
  const { byteLength } = frame;
  target.writeUInt32LE(BLOCK_ENHANCED_PACKET, 0);
  target.writeUInt32LE(target.byteLength, 4);
  target.writeUInt32LE(record.interfaceId, 8);
  target.writeUInt32LE(record.time.high, 12);
  target.writeUInt32LE(record.time.low, 16);
  target.writeUInt32LE(byteLength, 20);
  target.writeUInt32LE(byteLength, 24);
  const start = BLOCK_HEADER + PACKET_HEADER;
  target.set(frame, start);
  let at = start + padded(byteLength);
  target.fill(0, start + byteLength, at);
  at = writeOptionHeader(target, at, EPB_FLAGS, 4);
  at = target.writeUInt32LE(record.direction, at);
  if (record.dropped > 0) {
    at = writeOptionHeader(target, at, EPB_DROPCOUNT, 8);
    at = target.writeBigUInt64LE(BigInt(record.dropped), at);
  }
  at = writeOptionHeader(target, at, EPB_QUEUE, 4);
  at = target.writeUInt32LE(record.queue, at);
  at = writeOptionHeader(target, at, OPT_ENDOFOPT, 0);
  target.writeUInt32LE(target.byteLength, at);
}

/** What was counted of an interface up to `time`: frames that came by, and those of them that are not in the file. */
export function interfaceStatistics(
  interfaceId: number,
  time: Readonly<TimeStamp>,
  received: number,
  dropped: number,
): Buffer {
  const stamp = Buffer.alloc(8);
  stamp.writeUInt32LE(time.high, 0);
  stamp.writeUInt32LE(time.low, 4);
  const fixed = Buffer.alloc(12);
  fixed.writeUInt32LE(interfaceId, 0);
  stamp.copy(fixed, 4);
  return block(BLOCK_INTERFACE_STATISTICS, fixed, [
    [ISB_ENDTIME, stamp],
    [ISB_IFRECV, u64(received)],
    [ISB_IFDROP, u64(dropped)],
  ]);
}

type Option = readonly [code: number, value: Buffer];

function option(code: number, value: Buffer): Option {
  return [code, value];
}

function block(type: number, fixed: Buffer, options: readonly Option[]): Buffer {
  const length =
    BLOCK_HEADER +
    fixed.byteLength +
    options.reduce((sum, [, value]) => sum + 4 + padded(value.byteLength), 4) +
    BLOCK_TRAILER;
  const target = Buffer.alloc(length);
  target.writeUInt32LE(type, 0);
  target.writeUInt32LE(length, 4);
  target.set(fixed, BLOCK_HEADER);
  let at = BLOCK_HEADER + fixed.byteLength;
  for (const [code, value] of options) {
    at = writeOptionHeader(target, at, code, value.byteLength);
    target.set(value, at);
    at += padded(value.byteLength);
  }
  at = writeOptionHeader(target, at, OPT_ENDOFOPT, 0);
  target.writeUInt32LE(length, at);
  return target;
}

function writeOptionHeader(target: Buffer, at: number, code: number, bytes: number): number {
  target.writeUInt16LE(code, at);
  return target.writeUInt16LE(bytes, at + 2);
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

/** Everything in a block begins at a multiple of 4 bytes. */
function padded(bytes: number): number {
  return (bytes + 3) & ~3;
}
