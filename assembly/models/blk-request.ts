// One request of a block device, between the segments of its chain and an entry of an I/O table: decoded from the one into
// the other, carried out on memory, answered with a status byte.
//
// A request is a header of 16 readable bytes, data, and a status byte that is the last writable one ("Block Device",
// Device Operation); how it is cut into descriptors is the driver's affair ("Message Framing").

import { copy } from '../copy';
import { dirtyMark, dirtyTracked } from '../dirty';
import {
  BLK_REQUEST_BYTES,
  DISK_CAPACITY,
  DISK_F_DISCARD,
  DISK_F_FLUSH,
  DISK_F_RO,
  DISK_F_WRITE_ZEROES,
  DISK_FILE_OPS,
  DISK_FLAGS,
  DISK_ID,
  DISK_LINEAR,
  DISK_MAX_RANGE_SECTORS,
  IO_BYTES,
  IO_COUNT,
  IO_OFFSET,
  IO_OP,
  IO_OP_DISCARD,
  IO_OP_NONE,
  IO_OP_PUNCH,
  IO_OP_READ,
  IO_OP_SYNC,
  IO_OP_WRITE,
  IO_OP_WRITE_THROUGH,
  IO_OP_ZERO,
  IO_RESULT,
  IO_SEGMENTS,
  IO_SIZE,
  IO_STATUS,
  IO_STATUS_OPEN,
  SEGMENT_BYTES,
  SEGMENT_SIZE,
  VQ_BYTES_READ,
  VQ_BYTES_WRITTEN,
  VQ_FEATURES,
  VQ_IO_ERRORS,
  VQ_IOTLB,
} from '../layout';
import { add } from '../notify';
import {
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_HEADER_SECTOR,
  VIRTIO_BLK_HEADER_SIZE,
  VIRTIO_BLK_HEADER_TYPE,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_RANGE_FLAGS,
  VIRTIO_BLK_RANGE_NUM_SECTORS,
  VIRTIO_BLK_RANGE_SECTOR,
  VIRTIO_BLK_RANGE_SIZE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
} from '../virtio';

// @ts-ignore: decorator
@inline
function transfers(io: usize): bool {
  const op = load<u32>(io, IO_OP);
  return op == IO_OP_READ || op == IO_OP_WRITE || op == IO_OP_WRITE_THROUGH;
}

/** Counts the bytes that an entry has moved: the used length that they give. */
export function account(vq: usize, io: usize): u64 {
  const op = load<u32>(io, IO_OP);
  const bytes = load<u64>(io, IO_BYTES);
  if (op == IO_OP_READ) {
    add(vq + VQ_BYTES_READ, bytes);
    return bytes;
  }
  if (transfers(io)) add(vq + VQ_BYTES_WRITTEN, bytes);
  return 0;
}

/**
 * Turns the segments of one chain into the I/O entry at `io`, whose segments are the chain's own, less header and status
 * byte. What needs no I/O has its status in IO_STATUS. False for a chain that has no header or no status byte.
 */
export function decode(vq: usize, disk: usize, segment: usize, chainCounts: u32, io: usize): bool {
  const readable = chainCounts & 0xffff;
  const end = segment + (chainCounts >> 16) * SEGMENT_SIZE;
  const writable = segment + readable * SEGMENT_SIZE;
  if (writable == end) return false;
  let data = segment;
  let type: u32;
  let sector: u64;
  if (readable && load<u32>(segment, SEGMENT_BYTES) == VIRTIO_BLK_HEADER_SIZE) {
    const header: usize = load<u32>(segment);
    type = load<u32>(header, VIRTIO_BLK_HEADER_TYPE);
    sector = load<u64>(header, VIRTIO_BLK_HEADER_SECTOR);
    data += SEGMENT_SIZE;
  } else {
    // The header shares a segment with data, or is spread over several: brought together behind the I/O entry.
    const header = io + IO_SIZE;
    data = takeBytes(segment, writable, header, VIRTIO_BLK_HEADER_SIZE);
    if (data == 0) return false;
    type = load<u32>(header, VIRTIO_BLK_HEADER_TYPE);
    sector = load<u64>(header, VIRTIO_BLK_HEADER_SECTOR);
  }
  const status = end - SEGMENT_SIZE;
  store<u32>(status, load<u32>(status, SEGMENT_BYTES) - 1, SEGMENT_BYTES);

  store<u32>(io, IO_STATUS_OPEN, IO_STATUS);
  store<u64>(io, sector * VIRTIO_BLK_SECTOR_SIZE, IO_OFFSET);
  store<u32>(io, <u32>writable, IO_SEGMENTS);
  store<u64>(io, 0, IO_RESULT);
  if (type == VIRTIO_BLK_T_IN) {
    return decodeTransfer(disk, io, IO_OP_READ, writable, end, sector);
  }
  if (type == VIRTIO_BLK_T_OUT) {
    if (load<u32>(disk, DISK_FLAGS) & DISK_F_RO) return answer(io, VIRTIO_BLK_S_IOERR);
    return decodeTransfer(disk, io, writesThrough(vq, disk) ? IO_OP_WRITE_THROUGH : IO_OP_WRITE, data, writable, sector);
  }
  if (type == VIRTIO_BLK_T_FLUSH && load<u32>(disk, DISK_FLAGS) & DISK_F_FLUSH) {
    return operation(io, IO_OP_SYNC, 0);
  }
  if (type == VIRTIO_BLK_T_GET_ID) {
    store<u64>(io, giveBytes(writable, end, disk + DISK_ID, VIRTIO_BLK_ID_BYTES), IO_RESULT);
    return answer(io, VIRTIO_BLK_S_OK);
  }
  const flags = load<u32>(disk, DISK_FLAGS);
  if (
    (type == VIRTIO_BLK_T_DISCARD && flags & DISK_F_DISCARD) ||
    (type == VIRTIO_BLK_T_WRITE_ZEROES && flags & DISK_F_WRITE_ZEROES)
  ) {
    return decodeRange(disk, io, type, data, writable);
  }
  return answer(io, VIRTIO_BLK_S_UNSUPP);
}

/**
 * Whether a write must be on stable storage when it completes: the driver did not accept FLUSH, so it will never ask for it
 * ("Device Operation" of the block device).
 */
// @ts-ignore: decorator
@inline
function writesThrough(vq: usize, disk: usize): bool {
  const stored = load<u32>(disk, DISK_LINEAR) == 0 || (load<u32>(disk, DISK_FILE_OPS) >> IO_OP_SYNC) & 1;
  return stored && load<u32>(disk, DISK_FLAGS) & DISK_F_FLUSH && !(load<u64>(vq, VQ_FEATURES) & ((<u64>1) << VIRTIO_BLK_F_FLUSH));
}

/** A READ or WRITE of segments [from, to): whole sectors inside the disk, BLK_REQUEST_BYTES at most, or IOERR. */
function decodeTransfer(disk: usize, io: usize, op: u32, from: usize, to: usize, sector: u64): bool {
  let bytes: u64 = 0;
  for (let s = from; s < to; s += SEGMENT_SIZE) bytes += <u64>load<u32>(s, SEGMENT_BYTES);
  const capacity = load<u64>(disk, DISK_CAPACITY);
  const sectors = bytes / VIRTIO_BLK_SECTOR_SIZE;
  if (
    bytes % VIRTIO_BLK_SECTOR_SIZE ||
    bytes > <u64>BLK_REQUEST_BYTES ||
    sector > capacity ||
    sectors > capacity - sector
  ) {
    return answer(io, VIRTIO_BLK_S_IOERR);
  }
  store<u32>(io, <u32>(to - from) / SEGMENT_SIZE, IO_COUNT);
  store<u32>(io, <u32>from, IO_SEGMENTS);
  return operation(io, op, bytes);
}

/** A DISCARD or WRITE_ZEROES: one range, judged by "Device Operation" of the block device. */
function decodeRange(disk: usize, io: usize, type: u32, from: usize, to: usize): bool {
  const range = io + IO_SIZE;
  const rest = takeBytes(from, to, range, VIRTIO_BLK_RANGE_SIZE);
  if (rest == 0) return answer(io, VIRTIO_BLK_S_IOERR);
  for (let s = rest; s < to; s += SEGMENT_SIZE) if (load<u32>(s, SEGMENT_BYTES)) return answer(io, VIRTIO_BLK_S_UNSUPP);
  const sector = load<u64>(range, VIRTIO_BLK_RANGE_SECTOR);
  const sectors = load<u32>(range, VIRTIO_BLK_RANGE_NUM_SECTORS);
  const flags = load<u32>(range, VIRTIO_BLK_RANGE_FLAGS);
  const unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
  // Unknown flags, and unmap on a DISCARD, are answered UNSUPP (device requirements).
  if (flags & ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP || (unmap && type == VIRTIO_BLK_T_DISCARD)) {
    return answer(io, VIRTIO_BLK_S_UNSUPP);
  }
  const capacity = load<u64>(disk, DISK_CAPACITY);
  if (
    load<u32>(disk, DISK_FLAGS) & DISK_F_RO ||
    sectors > load<u32>(disk, DISK_MAX_RANGE_SECTORS) ||
    sector > capacity ||
    <u64>sectors > capacity - sector
  ) {
    return answer(io, VIRTIO_BLK_S_IOERR);
  }
  if (sectors == 0) return answer(io, VIRTIO_BLK_S_OK);
  store<u64>(io, sector * VIRTIO_BLK_SECTOR_SIZE, IO_OFFSET);
  let op: u32 = IO_OP_ZERO;
  if (type == VIRTIO_BLK_T_DISCARD) op = IO_OP_DISCARD;
  // "The device MAY deallocate": not on a disk that does not discard either, because it keeps its storage.
  else if (unmap && load<u32>(disk, DISK_FLAGS) & DISK_F_DISCARD) op = IO_OP_PUNCH;
  return operation(io, op, <u64>sectors * VIRTIO_BLK_SECTOR_SIZE);
}

/** Carries out an entry on a memory-backed disk. Its bounds have been judged. */
export function execute(io: usize, base: usize): void {
  const op = load<u32>(io, IO_OP);
  if (op == IO_OP_NONE) return;
  let at = base + <usize>load<u64>(io, IO_OFFSET);
  if (op == IO_OP_READ || op == IO_OP_WRITE) {
    let segment: usize = load<u32>(io, IO_SEGMENTS);
    const end = segment + load<u32>(io, IO_COUNT) * SEGMENT_SIZE;
    for (; segment < end; segment += SEGMENT_SIZE) {
      const linear: usize = load<u32>(segment);
      const bytes: usize = load<u32>(segment, SEGMENT_BYTES);
      if (op == IO_OP_READ) copy(linear, at, bytes);
      else copy(at, linear, bytes);
      at += bytes;
    }
    store<u64>(io, load<u64>(io, IO_BYTES), IO_RESULT);
  } else if (op != IO_OP_SYNC) {
    memory.fill(at, 0, <usize>load<u64>(io, IO_BYTES));
  }
}

/** Writes the status byte of the chain whose segments end at `end`: the used length. */
export function complete(vq: usize, io: usize, end: usize): u32 {
  const op = load<u32>(io, IO_OP);
  const result = load<i64>(io, IO_RESULT);
  const bytes = load<u64>(io, IO_BYTES);
  let status = load<u32>(io, IO_STATUS);
  let written: u32 = status == VIRTIO_BLK_S_OK ? <u32>result : 0;
  if (status == IO_STATUS_OPEN) {
    status = result < 0 || (transfers(io) && result != bytes) ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
    if (status != VIRTIO_BLK_S_OK) add(vq + VQ_IO_ERRORS, 1);
    else written = <u32>account(vq, io);
  }
  const last = end - SEGMENT_SIZE;
  const byte = load<u32>(last) + load<u32>(last, SEGMENT_BYTES);
  store<u8>(byte, <u8>status);
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  if (dirtyTracked(iotlb)) {
    // A read that failed may have come some way.
    markData(iotlb, io, op == IO_OP_READ ? bytes : <u64>written);
    dirtyMark(iotlb, byte, 1);
  }
  return written + 1;
}

/** Marks the first `bytes` bytes of the segments of an I/O entry that has written to them. */
function markData(iotlb: usize, io: usize, bytes: u64): void {
  for (let segment: usize = load<u32>(io, IO_SEGMENTS); bytes; segment += SEGMENT_SIZE) {
    const piece = <u32>min(bytes, <u64>load<u32>(segment, SEGMENT_BYTES));
    dirtyMark(iotlb, load<u32>(segment), piece);
    bytes -= <u64>piece;
  }
}

/** Notes an operation that is to be carried out. */
// @ts-ignore: decorator
@inline
function operation(io: usize, op: u32, bytes: u64): bool {
  store<u32>(io, op, IO_OP);
  store<u64>(io, bytes, IO_BYTES);
  return true;
}

/** Notes a status that needs no operation. */
export function answer(io: usize, status: u32): bool {
  store<u32>(io, status, IO_STATUS);
  return operation(io, IO_OP_NONE, 0);
}

/** Moves the first `bytes` bytes of segments [from, to) to private memory, shortening them: the first segment left; 0 if there are too few. */
function takeBytes(from: usize, to: usize, into: usize, bytes: u32): usize {
  for (; from < to; from += SEGMENT_SIZE) {
    const linear = load<u32>(from);
    const length = load<u32>(from, SEGMENT_BYTES);
    const piece = min(length, bytes);
    copy(into, linear, piece);
    into += piece;
    bytes -= piece;
    store<u32>(from, linear + piece);
    store<u32>(from, length - piece, SEGMENT_BYTES);
    if (bytes == 0) return piece == length ? from + SEGMENT_SIZE : from;
  }
  return 0;
}

/** Copies up to `bytes` private bytes into segments [to, end): how many fitted. */
function giveBytes(to: usize, end: usize, from: usize, bytes: u32): u32 {
  let given: u32 = 0;
  for (; to < end && given < bytes; to += SEGMENT_SIZE) {
    const piece = min(load<u32>(to, SEGMENT_BYTES), bytes - given);
    copy(load<u32>(to), from + given, piece);
    given += piece;
  }
  return given;
}
