// Split virtqueue, device side ("Split Virtqueues"): what device.ts does on a ring of this format.

import { breakQueue, refreshRegion } from '../chain';
import { dirtyMark, dirtyTracked } from '../dirty';
import {
  CHAIN_SIZE,
  VERDICT_AVAIL_INDEX,
  VERDICT_HEAD_IN_FLIGHT,
  VQ_CHAINS,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_FLAGS,
  VQ_F_EVENT_IDX,
  VQ_HEADS,
  VQ_IOTLB,
  VQ_LAST_AVAIL,
  VQ_LOG,
  VQ_REPLAY,
  VQ_REPLAYING,
  VQ_REPLAY_END,
  VQ_SHADOW_AVAIL,
  VQ_SIGNALLED_USED,
  VQ_SIZE,
  VQ_USED,
} from '../layout';
import { needEvent } from '../notify';
import {
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_AVAIL_FLAGS,
  VIRTQ_AVAIL_IDX,
  VIRTQ_AVAIL_RING,
  VIRTQ_USED_F_NO_NOTIFY,
  VIRTQ_USED_FLAGS,
  VIRTQ_USED_IDX,
  VIRTQ_USED_RING,
} from '../virtio';
import { chainSnapshot } from './chain';
import {
  logAhead,
  logGive,
  logGiveBurst,
  logPublish,
  logReplay,
  logStart,
  logTake,
} from './in-flight';
import { parseBurst } from './parse';

/** Takes the position of a vring base: the next chain is avail[base], the used index is what the ring says. */
export function start(vq: usize, base: u32): void {
  const used = usedIndex(vq);
  begin(vq, base, used);
  logStart(vq, base, used);
}

/** Takes the position of a queue that another process has left. */
export function resume(vq: usize): void {
  const used = usedIndex(vq);
  begin(vq, used + logAhead(vq), used);
  logReplay(vq, used);
  // Data and status of what was published are marked already, of the rest they will be. Entries may not be.
  if (dirtyTracked(load<u32>(vq, VQ_IOTLB))) markUsed(vq, used, load<u32>(vq, VQ_SIZE));
}

function usedIndex(vq: usize): u32 {
  return <u32>atomic.load<u16>(<usize>load<u32>(vq, VQ_DEVICE), VIRTQ_USED_IDX);
}

function begin(vq: usize, lastAvail: u32, used: u32): void {
  store<u32>(vq, lastAvail & 0xffff, VQ_LAST_AVAIL);
  store<u32>(vq, lastAvail & 0xffff, VQ_SHADOW_AVAIL);
  store<u32>(vq, used, VQ_USED);
  store<u32>(vq, used, VQ_SIGNALLED_USED);
}

/** Parses up to `max` chains: how many. */
export function pop(vq: usize, max: u32): u32 {
  const waiting = available(vq, max);
  if (waiting == 0) return 0;
  refreshRegion(vq);
  const taken = parseBurst(vq, headsRing(vq), waiting);
  store<u32>(vq, (load<u32>(vq, VQ_LAST_AVAIL) + taken) & 0xffff, VQ_LAST_AVAIL);
  return taken;
}

/** Moves back before chains [first, end) of the chain table, the last ones taken. */
// @ts-ignore: decorator
@inline
export function giveBack(vq: usize, first: u32, end: u32): void {
  store<u32>(vq, (load<u32>(vq, VQ_LAST_AVAIL) - (end - first)) & 0xffff, VQ_LAST_AVAIL);
}

/** Copies the first `count` entries of the chain table, which is the used ring's image, to that ring. */
// @ts-ignore: decorator
@inline
export function push(vq: usize, count: u32): void {
  if (load<u32>(vq, VQ_REPLAYING)) logGiveBurst(vq, count);
  const used = load<u32>(vq, VQ_USED);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const ring: usize = load<u32>(vq, VQ_DEVICE) + VIRTQ_USED_RING;
  const size = load<u32>(vq, VQ_SIZE);
  const index = used & (size - 1);
  store<u32>(vq, (used + count) & 0xffff, VQ_USED);
  const run = min(count, size - index);
  copyEntries(ring + index * CHAIN_SIZE, chains, run);
  if (run < count) copyEntries(ring, chains + run * CHAIN_SIZE, count - run);
}

/** Copies `count` entries of the chain table at `chain` to `entry`. */
function copyEntries(entry: usize, chain: usize, count: u32): void {
  for (; count >= 4; count -= 4, chain += 32, entry += 32) {
    const first = v128.load(chain);
    const second = v128.load(chain, 16);
    v128.store(entry, first);
    v128.store(entry, second, 16);
  }
  for (; count; count--, chain += CHAIN_SIZE, entry += CHAIN_SIZE) store<u64>(entry, load<u64>(chain));
}

/** Makes VQ_USED, `count` chains further, visible to the driver: whether it wants an interrupt. */
// @ts-ignore: decorator
@inline
export function publish(vq: usize, count: u32): bool {
  const used = load<u32>(vq, VQ_USED);
  publishIndex(vq, used);
  if (isWatched(vq)) notePublished(vq, used, count);
  return interruptWanted(vq, used);
}

// @ts-ignore: decorator
@inline
export function publishIndex(vq: usize, used: u32): void {
  // Entries before the index, the index before the suppression word: one atomic store serves both. It pairs with the
  // driver's store of used_event (or flags), which comes before its own look at used.idx.
  atomic.store<u16>(<usize>load<u32>(vq, VQ_DEVICE), <u16>used, VIRTQ_USED_IDX);
}

/** Whether the driver wants an interrupt now that its used index is `used`. */
// @ts-ignore: decorator
@inline
export function interruptWanted(vq: usize, used: u32): bool {
  const driver: usize = load<u32>(vq, VQ_DRIVER);
  if (!(load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX))
    return !(<u32>atomic.load<u16>(driver, VIRTQ_AVAIL_FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT);
  const event = <u32>atomic.load<u16>(driver + VIRTQ_AVAIL_RING + (load<u32>(vq, VQ_SIZE) << 1));
  const wanted = needEvent(event, used, load<u32>(vq, VQ_SIGNALLED_USED));
  store<u32>(vq, used, VQ_SIGNALLED_USED);
  return wanted;
}

/** Whether what is published is noted besides: as dirty pages, or in an in-flight log. */
// @ts-ignore: decorator
@inline
export function isWatched(vq: usize): bool {
  return load<u32>(vq, VQ_LOG) != 0 || dirtyTracked(load<u32>(vq, VQ_IOTLB));
}

/** Notes a publication where it is watched. */
function notePublished(vq: usize, used: u32, count: u32): void {
  if (dirtyTracked(load<u32>(vq, VQ_IOTLB))) markUsed(vq, used, count);
  logPublish(vq, used);
}

/** Marks what publishing has written: the last `count` entries of the used ring, and its index. */
function markUsed(vq: usize, used: u32, count: u32): void {
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  const size = load<u32>(vq, VQ_SIZE);
  const device = load<u32>(vq, VQ_DEVICE);
  const index = (used - count) & (size - 1);
  const run = min(count, size - index);
  dirtyMark(iotlb, device + VIRTQ_USED_RING + index * CHAIN_SIZE, run * CHAIN_SIZE);
  dirtyMark(iotlb, device + VIRTQ_USED_RING, (count - run) * CHAIN_SIZE);
  dirtyMark(iotlb, device + VIRTQ_USED_IDX, sizeof<u16>());
}

/** Asks the driver to notify once it makes the next chain available. */
export function arm(vq: usize): void {
  // An atomic store, and in `pending` an atomic load: the wish is visible before avail.idx is read. Pairs with the driver's
  // publication, an atomic store of avail.idx before it reads this word: one of the two sees the other, no wake-up is lost.
  if (load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) {
    suppress(vq, VIRTQ_USED_RING + load<u32>(vq, VQ_SIZE) * CHAIN_SIZE, load<u32>(vq, VQ_LAST_AVAIL));
  } else {
    suppress(vq, VIRTQ_USED_FLAGS, 0);
  }
}

/** Asks the driver not to notify. With EVENT_IDX a stale avail_event, left behind, does just that. */
export function disarm(vq: usize): void {
  if (!(load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX)) suppress(vq, VIRTQ_USED_FLAGS, VIRTQ_USED_F_NO_NOTIFY);
}

/** Writes the suppression word at `offset` of the device area. */
// @ts-ignore: decorator
@inline
function suppress(vq: usize, offset: u32, word: u32): void {
  const address: usize = load<u32>(vq, VQ_DEVICE) + offset;
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  atomic.store<u16>(address, <u16>word);
  if (dirtyTracked(iotlb)) dirtyMark(iotlb, address, sizeof<u16>());
}

/** Chains that wait, by the ring as it is now. */
export function pending(vq: usize): u32 {
  const index = <u32>atomic.load<u16>(<usize>load<u32>(vq, VQ_DRIVER), VIRTQ_AVAIL_IDX);
  return (index - load<u32>(vq, VQ_LAST_AVAIL)) & 0xffff;
}

/** Copies the next chain to `snapshot`: head | counts << 32; 0 if there is none, or it was refused. */
export function peek(vq: usize, snapshot: usize): u64 {
  if (available(vq, 1) == 0) return 0;
  const index = load<u32>(vq, VQ_LAST_AVAIL) & (load<u32>(vq, VQ_SIZE) - 1);
  const head = <u32>load<u16>(headsRing(vq) + (index << 1));
  const counts = chainSnapshot(vq, head, snapshot);
  return counts ? <u64>head | (<u64>counts << 32) : 0;
}

/** Takes the chain that `peek` has shown: 1 + its entry; 0, and the queue is broken, if a request holds its head already. */
export function take(vq: usize, head: u32): u32 {
  const held: usize = load<u32>(vq, VQ_HEADS) + head;
  if (load<u8>(held)) {
    breakQueue(vq, VERDICT_HEAD_IN_FLIGHT, head);
    return 0;
  }
  store<u8>(held, 1);
  logTake(vq, head);
  store<u32>(vq, (load<u32>(vq, VQ_LAST_AVAIL) + 1) & 0xffff, VQ_LAST_AVAIL);
  return 1 + head;
}

/** Writes the used element of one chain that was taken; its entry of the in-flight log is its head's. */
export function giveTaken(vq: usize, head: u32, _entry: u32, written: u32): void {
  const used = load<u32>(vq, VQ_USED);
  const index = used & (load<u32>(vq, VQ_SIZE) - 1);
  const entry: usize = load<u32>(vq, VQ_DEVICE) + VIRTQ_USED_RING + index * CHAIN_SIZE;
  store<u64>(entry, <u64>head | (<u64>written << 32));
  logGive(vq, head, used);
  store<u32>(vq, (used + 1) & 0xffff, VQ_USED);
  store<u8>(<usize>load<u32>(vq, VQ_HEADS) + head, 0);
}

/** The ring of heads that the chains behind VQ_LAST_AVAIL come from: the driver's, or the private one of a replay. */
// @ts-ignore: decorator
@inline
function headsRing(vq: usize): usize {
  return load<u32>(vq, VQ_REPLAYING) ? load<u32>(vq, VQ_REPLAY) : load<u32>(vq, VQ_DRIVER) + VIRTQ_AVAIL_RING;
}

/** Up to `max` chains that wait: avail.idx is read again only when the last look does not suffice. */
function available(vq: usize, max: u32): u32 {
  const last = load<u32>(vq, VQ_LAST_AVAIL);
  if (load<u32>(vq, VQ_REPLAYING)) {
    const left = (load<u32>(vq, VQ_REPLAY_END) - last) & 0xffff;
    if (left) return min(left, max);
    store<u32>(vq, 0, VQ_REPLAYING);
  }
  let waiting = (load<u32>(vq, VQ_SHADOW_AVAIL) - last) & 0xffff;
  if (waiting < max) {
    // An atomic load: entries of the ring are read after it, as they were written before the driver's store of the index.
    const index = <u32>atomic.load<u16>(<usize>load<u32>(vq, VQ_DRIVER), VIRTQ_AVAIL_IDX);
    waiting = (index - last) & 0xffff;
    if (waiting > load<u32>(vq, VQ_SIZE)) {
      breakQueue(vq, VERDICT_AVAIL_INDEX, index);
      return 0;
    }
    store<u32>(vq, index, VQ_SHADOW_AVAIL);
  }
  return min(waiting, max);
}
