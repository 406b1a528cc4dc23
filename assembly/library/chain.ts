import { copyInline, INLINE_LIMIT } from '../copy';
import { CHAIN_COUNTS, SEGMENT_BYTES, SEGMENT_SIZE } from '../layout';
import * as engine from './engine';
import { Queue } from './queue';

// What the loop tells of the chain in hand. Globals of an instance, and so of a thread: one chain is in hand at a time.
// Those that a model never asks about leave no trace in its code.
let segments: usize = 0;
let owner: usize = 0;
let refused: bool = false;

/** Says whose chain comes next, and where its segments are. For the loop. */
// @ts-ignore: decorator
@inline
export function enterChain(segment: usize, queue: Queue): void {
  segments = segment;
  owner = changetype<usize>(queue);
  refused = false;
}

/** Whether the chain in hand was refused. For the loop. */
// @ts-ignore: decorator
@inline
export function isRefused(): bool {
  return refused;
}

/**
 * A chain of buffers, while its handler runs: bytes that the device may read, then bytes that it may write, each a list of
 * segments ("Message Framing": how a request is cut into buffers means nothing, so that most models use the offsets of bytes,
 * and only those in a hurry the segments). Addresses have been translated and judged, and stay valid until the handler returns. What
 * they lead to is the driver's memory, which may change at any time: read once, judge, use what was read.
 *
 * A request that is too short for what is asked of it is refused, which breaks the device (ERR_RING_REQUEST).
 */
@unmanaged
export class Chain {
  /** Segments that the device may read; segments 0 to readable − 1. */
  @inline
  get readable(): u32 {
    return <u32>load<u16>(changetype<usize>(this), CHAIN_COUNTS);
  }

  /** Segments that the device may write; they follow the readable ones. */
  @inline
  get writable(): u32 {
    const counts = load<u32>(changetype<usize>(this), CHAIN_COUNTS);
    return (counts >> 16) - (counts & 0xffff);
  }

  /** Linear address of segment `index`. Traps if there is none. */
  @inline
  address(index: u32): usize {
    return load<u32>(this.segment(index));
  }

  /** Bytes of segment `index`: 1 or more. */
  @inline
  length(index: u32): u32 {
    return load<u32>(this.segment(index), SEGMENT_BYTES);
  }

  /** Bytes that the device may read. */
  get readableBytes(): u32 {
    return bytesOf(segments, this.firstWritable);
  }

  /** Bytes that the device may write. */
  get writableBytes(): u32 {
    return bytesOf(this.firstWritable, this.end);
  }

  /** A number at byte `offset` of what the device may read, little-endian. Refuses a chain that is too short: 0. */
  read<T>(offset: u32): T {
    const place = find(segments, this.firstWritable, offset);
    if (place != 0 && rest >= sizeof<T>()) return load<T>(place);
    let bits: u64 = 0;
    for (let i: u32 = 0; i < <u32>sizeof<T>(); i++) {
      const byte = find(segments, this.firstWritable, offset + i);
      if (byte == 0) {
        this.refuse();
        return <T>0;
      }
      bits |= <u64>load<u8>(byte) << (i << 3);
    }
    return fromBits<T>(bits);
  }

  /** Stores a number at byte `offset` of what the device may write, little-endian. Refuses a chain that is too short. */
  write<T>(offset: u32, value: T): void {
    const place = find(this.firstWritable, this.end, offset);
    if (place != 0 && rest >= sizeof<T>()) {
      store<T>(place, value);
      return;
    }
    let bits = toBits<T>(value);
    for (let i: u32 = 0; i < <u32>sizeof<T>(); i++, bits >>= 8) {
      const byte = find(this.firstWritable, this.end, offset + i);
      if (byte == 0) {
        this.refuse();
        return;
      }
      store<u8>(byte, <u8>bits);
    }
  }

  /**
   * Copies up to `bytes` bytes from `offset` of what the device may read to the model's memory at `to`: how many there were.
   * Traps if `to` is not the model's.
   */
  copyIn(offset: u32, to: usize, bytes: u32): u32 {
    return move(find(segments, this.firstWritable, offset), this.firstWritable, to, bytes, false);
  }

  /** Copies up to `bytes` bytes from the model's memory at `from` to `offset` of what the device may write: how many fitted. */
  copyOut(offset: u32, from: usize, bytes: u32): u32 {
    return move(find(this.firstWritable, this.end, offset), this.end, from, bytes, true);
  }

  /** Copies up to `bytes` bytes from `from` of what the device may read to `to` of what it may write: how many it was. */
  transfer(from: u32, to: u32, bytes: u32): u32 {
    const middle = this.firstWritable;
    let source = find(segments, middle, from);
    let sourceRest = rest;
    let sourceSegment = found;
    let target = find(middle, this.end, to);
    let targetRest = rest;
    let targetSegment = found;
    let left = bytes;
    while (left != 0 && source != 0 && target != 0) {
      const piece = min(min(sourceRest, targetRest), left);
      copy(target, source, piece);
      left -= piece;
      source += piece;
      target += piece;
      sourceRest -= piece;
      targetRest -= piece;
      if (sourceRest == 0) {
        source = find(sourceSegment + SEGMENT_SIZE, middle, 0);
        sourceRest = rest;
        sourceSegment = found;
      }
      if (targetRest == 0) {
        target = find(targetSegment + SEGMENT_SIZE, this.end, 0);
        targetRest = rest;
        targetSegment = found;
      }
    }
    return bytes - left;
  }

  /** Fills up to `bytes` bytes from `offset` of what the device may write with `value`: how many there were. */
  fill(offset: u32, value: u8, bytes: u32): u32 {
    let place = find(this.firstWritable, this.end, offset);
    let left = bytes;
    while (place != 0 && left != 0) {
      const piece = min(rest, left);
      fill(place, value, piece);
      left -= piece;
      place = find(found + SEGMENT_SIZE, this.end, 0);
    }
    return bytes - left;
  }

  /** Says that this is no request of the device's type: it gets no answer, and the device breaks (ERR_RING_REQUEST). 0. */
  @inline
  refuse(): u32 {
    refused = true;
    return 0;
  }

  @inline
  private segment(index: u32): usize {
    if (index >= load<u32>(changetype<usize>(this), CHAIN_COUNTS) >> 16) unreachable();
    return segments + index * SEGMENT_SIZE;
  }

  /** Where the writable segments begin in the table, and where they end. */
  @inline
  private get firstWritable(): usize {
    return segments + this.readable * SEGMENT_SIZE;
  }

  @inline
  private get end(): usize {
    return segments + (load<u32>(changetype<usize>(this), CHAIN_COUNTS) >> 16) * SEGMENT_SIZE;
  }
}

/** What `find` has found: its segment, and the bytes that are left there. */
let found: usize = 0;
let rest: u32 = 0;

/** Linear address of byte `offset` of segments [from, to); 0 if they are shorter. */
function find(from: usize, to: usize, offset: u32): usize {
  for (; from < to; from += SEGMENT_SIZE) {
    const length = load<u32>(from, SEGMENT_BYTES);
    if (offset < length) {
      found = from;
      rest = length - offset;
      return load<u32>(from) + offset;
    }
    offset -= length;
  }
  return 0;
}

function bytesOf(from: usize, to: usize): u32 {
  let bytes: u32 = 0;
  for (; from < to; from += SEGMENT_SIZE) bytes += load<u32>(from, SEGMENT_BYTES);
  return bytes;
}

/** Copies between what `find` has just found, in segments that end at `end`, and the model's memory at `own`: bytes. */
function move(place: usize, end: usize, own: usize, bytes: u32, out: bool): u32 {
  if (!changetype<Queue>(owner).owns(own, bytes)) unreachable();
  let left = bytes;
  while (place != 0 && left != 0) {
    const piece = min(rest, left);
    if (out) copy(place, own, piece);
    else copy(own, place, piece);
    own += piece;
    left -= piece;
    place = find(found + SEGMENT_SIZE, end, 0);
  }
  return bytes - left;
}

/** Copies between ranges that are there: what is too long to be done in line is the engine's. */
function copy(to: usize, from: usize, bytes: u32): void {
  if (bytes > <u32>INLINE_LIMIT) engine.copy(to, from, bytes);
  else copyInline(to, from, bytes);
}

/** Not memory.fill, which a module may not have: a fault of it would end the process. */
function fill(to: usize, value: u8, bytes: u32): void {
  const end = to + bytes;
  const vector = i8x16.splat(value);
  for (; to + 16 <= end; to += 16) v128.store(to, vector);
  for (; to < end; to++) store<u8>(to, value);
}

// @ts-ignore: decorator
@inline
function fromBits<T>(bits: u64): T {
  if (isFloat<T>()) {
    if (sizeof<T>() == 4) return <T>reinterpret<f32>(<u32>bits);
    return <T>reinterpret<f64>(bits);
  }
  return <T>bits;
}

// @ts-ignore: decorator
@inline
function toBits<T>(value: T): u64 {
  if (isFloat<T>()) {
    if (sizeof<T>() == 4) return <u64>reinterpret<u32>(<f32>value);
    return reinterpret<u64>(<f64>value);
  }
  return <u64>value;
}
