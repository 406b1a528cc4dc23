// Block device: the data path of a disk, on what devicePop left in the chain and segment tables. What is in memory is
// served here from end to end; each other request becomes an entry of an I/O table, which the addon carries out between
// blkPrepare and blkComplete.
//
// A request is a header of 16 readable bytes, data, and a status byte that is the last writable one ("Block Device",
// Device Operation); how it is cut into descriptors is the driver's affair ("Message Framing").

import { copy } from '../copy';
import {
  BLK_BURST_BYTES,
  BLK_REQUEST_BYTES,
  CHAIN_COUNTS,
  CHAIN_SIZE,
  COUNT_MASK,
  DISK_CAPACITY,
  DISK_F_DISCARD,
  DISK_F_FLUSH,
  DISK_F_RO,
  DISK_F_WRITE_ZEROES,
  DISK_FILE_OPS,
  DISK_FLAGS,
  DISK_ID,
  DISK_LINEAR,
  DISK_LOST,
  DISK_MAX_RANGE_SECTORS,
  FILE_DUE,
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
  NOTIFY_DUE,
  SEGMENT_BYTES,
  SEGMENT_SIZE,
  VERDICT_MEMORY_LOST,
  VERDICT_REQUEST,
  VQ_BURST,
  VQ_BYTES_READ,
  VQ_BYTES_WRITTEN,
  VQ_CHAINS,
  VQ_FEATURES,
  VQ_GATE_CLOSED,
  VQ_IO_ERRORS,
  VQ_SEGMENTS,
  VQ_SNAPSHOT,
} from '../layout';
import { add } from '../notify';
import { breakQueue } from '../split/chain';
import { devicePop, devicePush, deviceReturn } from '../split/device';
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

/** Serves one burst of a disk in memory: chains, with NOTIFY_DUE; FILE_DUE where it stopped at a request for the file. */
export function blkServe(vq: usize, disk: usize): u32 {
  const count = devicePop(vq, load<u32>(vq, VQ_BURST));
  if (count == 0) return 0;
  const io: usize = load<u32>(vq, VQ_SNAPSHOT);
  const base: usize = load<u32>(disk, DISK_LINEAR);
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  const fileOps = load<u32>(disk, DISK_FILE_OPS);
  let served: u32 = 0;
  let bytes: u64 = 0;
  let fileDue: u32 = 0;
  for (; served < count; served++, chain += CHAIN_SIZE) {
    // The control plane waits for one request, however long, not for a burst of them.
    if (atomic.load<u32>(vq, VQ_GATE_CLOSED) || memoryLost(disk)) {
      deviceReturn(vq, count - served);
      break;
    }
    const chainCounts = load<u32>(chain, CHAIN_COUNTS);
    const end = segment + (chainCounts >> 16) * SEGMENT_SIZE;
    // One entry of an I/O table, in private scratch memory, stands for the request here as it does for the addon.
    if (!decode(vq, disk, segment, chainCounts, io)) {
      breakQueue(vq, VERDICT_REQUEST, load<u32>(chain));
      break;
    }
    if ((fileOps >> load<u32>(io, IO_OP)) & 1) fileDue = FILE_DUE;
    bytes += load<u64>(io, IO_BYTES);
    if (fileDue != 0 || (bytes > <u64>BLK_BURST_BYTES && served != 0)) {
      deviceReturn(vq, count - served);
      break;
    }
    execute(io, base);
    store<u32>(chain, complete(vq, io, end), CHAIN_COUNTS);
    segment = end;
  }
  return publish(vq, disk, served) | fileDue;
}

/** Serves bursts until an interrupt or the file is due, `spins` looks in a row found nothing, or `bursts` were served. */
export function blkPoll(vq: usize, disk: usize, spins: u32, bursts: u32): u32 {
  let total: u32 = 0;
  let idle: u32 = 0;
  // The gate is read on each round: the control plane waits for one burst, never for the budget.
  while (bursts > 0 && idle <= spins && atomic.load<u32>(vq, VQ_GATE_CLOSED) == 0) {
    const result = blkServe(vq, disk);
    if (result == 0) {
      idle++;
      continue;
    }
    idle = 0;
    bursts--;
    total = min(total + (result & COUNT_MASK), COUNT_MASK);
    if (result & (NOTIFY_DUE | FILE_DUE)) return total | (result & (NOTIFY_DUE | FILE_DUE));
  }
  return total;
}

/** Pops a burst of at most `max` requests and BLK_BURST_BYTES into an I/O table at `io`: how many entries. */
export function blkPrepare(vq: usize, disk: usize, io: usize, max: u32): u32 {
  const count = devicePop(vq, max);
  const base: usize = load<u32>(disk, DISK_LINEAR);
  const fileOps = load<u32>(disk, DISK_FILE_OPS);
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  let bytes: u64 = 0;
  for (let i: u32 = 0; i < count; i++, chain += CHAIN_SIZE, io += IO_SIZE) {
    const chainCounts = load<u32>(chain, CHAIN_COUNTS);
    if (!decode(vq, disk, segment, chainCounts, io)) {
      breakQueue(vq, VERDICT_REQUEST, load<u32>(chain));
      return i;
    }
    bytes += load<u64>(io, IO_BYTES);
    if (bytes > <u64>BLK_BURST_BYTES && i != 0) {
      deviceReturn(vq, count - i);
      return i;
    }
    const isOpen = load<u32>(io, IO_STATUS) == IO_STATUS_OPEN;
    if (base != 0 && isOpen && !((fileOps >> load<u32>(io, IO_OP)) & 1)) {
      execute(io, base);
      store<u64>(io, account(vq, io), IO_RESULT);
      answer(io, VIRTIO_BLK_S_OK);
    }
    segment += (chainCounts >> 16) * SEGMENT_SIZE;
  }
  return count;
}

/** Answers the `count` requests of the I/O table at `io` and publishes them: `count`, with NOTIFY_DUE. */
export function blkComplete(vq: usize, disk: usize, io: usize, count: u32): u32 {
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  for (let i: u32 = 0; i < count; i++, chain += CHAIN_SIZE, io += IO_SIZE) {
    segment += (load<u32>(chain, CHAIN_COUNTS) >> 16) * SEGMENT_SIZE;
    store<u32>(chain, complete(vq, io, segment), CHAIN_COUNTS);
  }
  return publish(vq, disk, count);
}

/** Publishes `count` requests, unless memory was lost: what was read from it, or written to it, is not what it was. */
function publish(vq: usize, disk: usize, count: u32): u32 {
  if (memoryLost(disk)) {
    breakQueue(vq, VERDICT_MEMORY_LOST, 0);
    return 0;
  }
  return devicePush(vq, count);
}

/** Whether a page of the aperture has lost its file. */
// @ts-ignore: decorator
@inline
function memoryLost(disk: usize): bool {
  const lost: usize = load<u32>(disk, DISK_LOST);
  return lost != 0 && atomic.load<u32>(lost) != 0;
}

// @ts-ignore: decorator
@inline
function transfers(io: usize): bool {
  const op = load<u32>(io, IO_OP);
  return op == IO_OP_READ || op == IO_OP_WRITE || op == IO_OP_WRITE_THROUGH;
}

/** Counts the bytes that an entry has moved: the used length that they give. */
function account(vq: usize, io: usize): u64 {
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
function decode(vq: usize, disk: usize, segment: usize, chainCounts: u32, io: usize): bool {
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
function execute(io: usize, base: usize): void {
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
function complete(vq: usize, io: usize, end: usize): u32 {
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
  store<u8>(<usize>load<u32>(last) + load<u32>(last, SEGMENT_BYTES), <u8>status);
  return written + 1;
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
function answer(io: usize, status: u32): bool {
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
