// Descriptor chains, whatever the format of the ring: what a format's own chain.ts has copied into private memory and judged
// becomes segments here, and what breaks a queue is noted. Nothing here looks at a ring.

import { copy } from './copy';
import { flightBroken } from './flight';
import { iotlbFind } from './iotlb';
import {
  IOTLB_ACCESS_READ,
  IOTLB_ACCESS_WRITE,
  IOTLB_ENTRY_BYTES,
  IOTLB_ENTRY_DENY,
  IOTLB_ENTRY_IOVA,
  IOTLB_ENTRY_LINEAR,
  IOTLB_GENERATION,
  SEGMENT_SIZE,
  VERDICT_PERMISSION,
  VERDICT_TOO_MANY_SEGMENTS,
  VERDICT_TRAP,
  VERDICT_UNMAPPED,
  VQ_FAULT_ACCESS,
  VQ_FAULT_IOVA,
  VQ_FLIGHT,
  VQ_HOSTILE_CHAINS,
  VQ_IOTLB,
  VQ_MISS,
  VQ_REGION_BYTES,
  VQ_REGION_DENY,
  VQ_REGION_GENERATION,
  VQ_REGION_IOVA,
  VQ_REGION_LINEAR,
  VQ_VERDICT,
  VQ_VERDICT_HEAD,
} from './layout';
import { add } from './notify';
import { VIRTQ_DESC_F_WRITE, VIRTQ_DESC_SIZE } from './virtio';

/** What chainSegments answers when the table is full although it was empty before. */
export const NO_ROOM: u32 = 0xffff_ffff;

/** Breaks the queue: the first verdict stays, later pops take nothing. */
export function breakQueue(vq: usize, verdict: u32, head: u32): void {
  if (load<u32>(vq, VQ_VERDICT)) return;
  store<u32>(vq, verdict, VQ_VERDICT);
  store<u32>(vq, head, VQ_VERDICT_HEAD);
  if (verdict < <u32>VERDICT_TRAP) add(vq + VQ_HOSTILE_CHAINS, 1);
  if (load<u32>(vq, VQ_FLIGHT) == 0) return;
  const faulted = verdict == VERDICT_PERMISSION || verdict == VERDICT_UNMAPPED;
  flightBroken(vq, verdict, head, faulted, load<u64>(vq, VQ_FAULT_IOVA));
}

/**
 * Translates a snapshot of `counts` (as chainSnapshot returned them) into segments at `segments`, at most `room`. Returns
 * readable segments | segments << 16; 0 after a verdict or a miss; NO_ROOM when `room` does not suffice.
 */
export function chainSegments(
  vq: usize,
  head: u32,
  snapshot: usize,
  counts: u32,
  segments: usize,
  room: u32,
): u32 {
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  const readableDescriptors = counts & 0xffff;
  const descriptors = counts >> 16;
  let produced: u32 = 0;
  let readable: u32 = 0;
  for (let i: u32 = 0; i < descriptors; i++) {
    let iova = load<u64>(snapshot + i * VIRTQ_DESC_SIZE);
    let left = <u64>load<u32>(snapshot + i * VIRTQ_DESC_SIZE, 8);
    const access: u32 = i < readableDescriptors ? IOTLB_ACCESS_READ : IOTLB_ACCESS_WRITE;
    while (left) {
      const entry = translate(vq, iotlb, iova, access, head);
      if (entry == 0) return 0;
      if (produced == room) return NO_ROOM;
      const offset = iova - load<u64>(entry, IOTLB_ENTRY_IOVA);
      const piece = min(left, load<u64>(entry, IOTLB_ENTRY_BYTES) - offset);
      const linear = <u64>load<u32>(entry, IOTLB_ENTRY_LINEAR) + offset;
      store<u64>(segments + produced * SEGMENT_SIZE, linear | (piece << 32));
      produced++;
      iova += piece;
      left -= piece;
    }
    if (i + 1 == readableDescriptors) readable = produced;
  }
  return produced > 0xffff ? NO_ROOM : readable | (produced << 16);
}

/** Breaks the queue because one chain alone does not fit the segment table. */
export function refuseTooManySegments(vq: usize, head: u32): void {
  breakQueue(vq, VERDICT_TOO_MANY_SEGMENTS, head);
}

/** Whether every byte of a snapshot can be reached; a miss or a verdict is noted in the queue. */
export function chainMapped(vq: usize, head: u32, snapshot: usize, counts: u32): bool {
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  for (let i: u32 = 0; i < counts >> 16; i++) {
    let iova = load<u64>(snapshot + i * VIRTQ_DESC_SIZE);
    let left = <u64>load<u32>(snapshot + i * VIRTQ_DESC_SIZE, 8);
    const access: u32 = i < (counts & 0xffff) ? IOTLB_ACCESS_READ : IOTLB_ACCESS_WRITE;
    while (left) {
      const entry = translate(vq, iotlb, iova, access, head);
      if (entry == 0) return false;
      const piece = min(
        left,
        load<u64>(entry, IOTLB_ENTRY_BYTES) - (iova - load<u64>(entry, IOTLB_ENTRY_IOVA)),
      );
      iova += piece;
      left -= piece;
    }
  }
  return true;
}

/** Drops the current region if the IOTLB has changed since it was copied. */
// @ts-ignore: decorator
@inline
export function refreshRegion(vq: usize): void {
  const generation = load<u32>(<usize>load<u32>(vq, VQ_IOTLB), IOTLB_GENERATION);
  if (load<u32>(vq, VQ_REGION_GENERATION) == generation) return;
  store<u64>(vq, 0, VQ_REGION_BYTES);
  store<u32>(vq, generation, VQ_REGION_GENERATION);
}

/** The entry that contains `iova` and permits `access`, made the current region; 0 with a miss or a verdict noted. */
function translate(vq: usize, iotlb: usize, iova: u64, access: u32, head: u32): usize {
  const entry = iotlbFind(iotlb, iova);
  if (entry == 0) {
    noteMiss(vq, iova, access);
    return 0;
  }
  const deny = load<u32>(entry, IOTLB_ENTRY_DENY);
  if (deny & access) {
    noteFault(vq, iova, access);
    breakQueue(vq, VERDICT_PERMISSION, head);
    return 0;
  }
  // The fast path checks writes only, so a write-only region is never current. The deny bit of writing is F_WRITE's.
  if (!(deny & IOTLB_ACCESS_READ)) {
    store<u64>(vq, load<u64>(entry, IOTLB_ENTRY_IOVA), VQ_REGION_IOVA);
    store<u64>(vq, load<u64>(entry, IOTLB_ENTRY_BYTES), VQ_REGION_BYTES);
    store<u64>(vq, <u64>load<u32>(entry, IOTLB_ENTRY_LINEAR), VQ_REGION_LINEAR);
    store<u32>(vq, deny & VIRTQ_DESC_F_WRITE, VQ_REGION_DENY);
  }
  return entry;
}

/** Asks the host for a region at `iova`; until it has answered, pops take nothing. */
export function noteMiss(vq: usize, iova: u64, access: u32): void {
  noteFault(vq, iova, access);
  store<u32>(vq, 1, VQ_MISS);
}

function noteFault(vq: usize, iova: u64, access: u32): void {
  store<u64>(vq, iova, VQ_FAULT_IOVA);
  store<u32>(vq, access, VQ_FAULT_ACCESS);
}

/** Copies from driver memory that may cross regions into private memory; false with a miss or a verdict noted. */
export function copyIn(vq: usize, iova: u64, to: usize, bytes: u64, head: u32): bool {
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  while (bytes) {
    const entry = translate(vq, iotlb, iova, IOTLB_ACCESS_READ, head);
    if (entry == 0) return false;
    const offset = iova - load<u64>(entry, IOTLB_ENTRY_IOVA);
    const piece = min(bytes, load<u64>(entry, IOTLB_ENTRY_BYTES) - offset);
    copy(to, <usize>load<u32>(entry, IOTLB_ENTRY_LINEAR) + <usize>offset, <usize>piece);
    iova += piece;
    to += <usize>piece;
    bytes -= piece;
  }
  return true;
}

/** breakQueue, with the answer of a parser that has taken nothing. */
export function refuse(vq: usize, verdict: u32, head: u32): u32 {
  breakQueue(vq, verdict, head);
  return 0;
}
