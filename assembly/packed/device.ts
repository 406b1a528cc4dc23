// Packed virtqueue, device side ("Packed Virtqueues"): what device.ts does on a ring of this format. One used descriptor a
// chain, in the place of the first available one that nothing was written over yet; with VIRTIO_F_IN_ORDER one a batch.
//
// Of what is published together the first used descriptor is written last: the driver reads them in order, and sees all or
// none. Until then it is held in the queue's block.

import { breakQueue, refreshRegion } from '../chain';
import { dirtyMark, dirtyTracked } from '../dirty';
import {
  CHAIN_COUNTS,
  CHAIN_SIZE,
  VERDICT_AVAIL_INDEX,
  VQ_CHAINS,
  VQ_DESC,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_F_EVENT_IDX,
  VQ_F_IN_ORDER,
  VQ_FLAGS,
  VQ_HELD,
  VQ_HELD_AT,
  VQ_IOTLB,
  VQ_LAST_AVAIL,
  VQ_REPLAY_END,
  VQ_REPLAYING,
  VQ_SIGNALLED_USED,
  VQ_SIZE,
  VQ_USED,
  VQ_WRITABLE,
} from '../layout';
import {
  PVIRTQ_DESC_LEN,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_DESC_SIZE,
} from '../virtio';
import { chainSnapshot, nextHead } from './chain';
import {
  logGive,
  logGiveBurst,
  logPublish,
  logPublishing,
  logReplay,
  logSettle,
  logStart,
  logTake,
  replayEnter,
  replayLeave,
} from './in-flight';
import { parseBurst } from './parse';
import { advance, distance, indexOf, OWNER_MASK, passes, retreat, usedOwner, usedPositionOf } from './position';

/** Takes the position of a vring base: next available descriptor | next used descriptor << 16. */
export function start(vq: usize, base: u32): void {
  const size = load<u32>(vq, VQ_SIZE);
  const available = base & 0xffff;
  const used = base >> 16;
  store<u32>(vq, available, VQ_LAST_AVAIL);
  store<u32>(vq, used, VQ_USED);
  store<u32>(vq, used, VQ_SIGNALLED_USED);
  store<u32>(vq, 0, VQ_HELD_AT);
  // Wherever the base comes from: outside the ring, or further apart than it is long, is no position.
  const sound = indexOf(available) < size && indexOf(used) < size && distance(used, available, size) <= size;
  if (sound) logStart(vq, available, used);
  else breakQueue(vq, VERDICT_AVAIL_INDEX, available);
}

/** Takes the position of a queue that another process has left. */
export function resume(vq: usize): void {
  const used = logSettle(vq);
  store<u32>(vq, used, VQ_USED);
  store<u32>(vq, used, VQ_SIGNALLED_USED);
  store<u32>(vq, 0, VQ_HELD_AT);
  logReplay(vq, used);
  // Data and status of what was published are marked already, of the rest they will be. Descriptors may not be.
  if (dirtyTracked(load<u32>(vq, VQ_IOTLB))) markUsed(vq, used, load<u32>(vq, VQ_SIZE));
}

/** Parses up to `max` chains: how many. */
export function pop(vq: usize, max: u32): u32 {
  const replay = replayEnter(vq);
  let taken: u32 = 0;
  if (nextHead(vq)) {
    refreshRegion(vq);
    taken = parseBurst(vq, max);
  }
  if (replay) replayLeave(vq, replay);
  return taken;
}

/** Moves back before chains [first, end) of the chain table, the last ones taken. */
export function giveBack(vq: usize, first: u32, end: u32): void {
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  let descriptors: u32 = 0;
  for (let k = first; k < end; k++) descriptors += load<u32>(chains + k * CHAIN_SIZE) >> 16;
  store<u32>(vq, retreat(load<u32>(vq, VQ_LAST_AVAIL), descriptors, load<u32>(vq, VQ_SIZE)), VQ_LAST_AVAIL);
}

/** Writes the used descriptors of the first `count` chains of the chain table, but for the first of them. */
export function push(vq: usize, count: u32): void {
  logGiveBurst(vq, count);
  const chains: usize = load<u32>(vq, VQ_CHAINS);
  const end = chains + count * CHAIN_SIZE;
  if (load<u32>(vq, VQ_FLAGS) & VQ_F_IN_ORDER) {
    pushBatches(vq, chains, end);
    return;
  }
  give(vq, load<u32>(chains), load<u32>(chains, CHAIN_COUNTS));
  const size = load<u32>(vq, VQ_SIZE);
  const ring: usize = load<u32>(vq, VQ_DESC) + PVIRTQ_DESC_LEN;
  let index = indexOf(load<u32>(vq, VQ_USED));
  let owner = usedOwner(load<u32>(vq, VQ_USED));
  for (let chain = chains + CHAIN_SIZE; chain < end; chain += CHAIN_SIZE) {
    const entry = load<u64>(chain);
    store<u64>(ring + (index << 4), usedDescriptor(<u32>entry & 0xffff, <u32>(entry >> 32), owner));
    index += <u32>entry >> 16;
    if (index >= size) {
      index -= size;
      owner ^= OWNER_MASK;
    }
  }
  store<u32>(vq, usedPositionOf(index, owner), VQ_USED);
}

/**
 * The same with VIRTIO_F_IN_ORDER: one used descriptor a batch, with the id and the length of its last chain. Those before it
 * count as written completely ("In-order use of descriptors"), so a chain that was not ends its batch.
 */
function pushBatches(vq: usize, chain: usize, end: usize): void {
  let writable: usize = load<u32>(vq, VQ_WRITABLE);
  let descriptors: u32 = 0;
  // Four chains per vector until one was not written completely; the last is left, to end the last batch.
  for (; chain + 4 * CHAIN_SIZE < end; chain += 4 * CHAIN_SIZE, writable += 16) {
    const first = v128.load(chain);
    const second = v128.load(chain, 16);
    const written = v128.shuffle<u32>(first, second, 1, 3, 5, 7);
    if (v128.any_true(v128.xor(written, v128.load(writable)))) break;
    const heads = i32x4.shr_u(v128.shuffle<u32>(first, second, 0, 2, 4, 6), 16);
    const pairs = i64x2.add(heads, i64x2.shr_u(heads, 32));
    descriptors += <u32>i64x2.extract_lane(pairs, 0) + <u32>i64x2.extract_lane(pairs, 1);
  }
  for (; chain < end; chain += CHAIN_SIZE, writable += 4) {
    const head = load<u32>(chain);
    const written = load<u32>(chain, CHAIN_COUNTS);
    descriptors += head >> 16;
    if (written == load<u32>(writable) && chain + CHAIN_SIZE < end) continue;
    give(vq, (head & 0xffff) | (descriptors << 16), written);
    descriptors = 0;
  }
}

/** Makes visible what was given back: whether the driver wants an interrupt. */
export function publish(vq: usize): bool {
  const size = load<u32>(vq, VQ_SIZE);
  const at = load<u32>(vq, VQ_HELD_AT);
  if (at) {
    logPublishing(vq);
    publishDescriptor(vq, at - 1, load<u64>(vq, VQ_HELD));
    logPublish(vq);
    store<u32>(vq, 0, VQ_HELD_AT);
  }
  const used = load<u32>(vq, VQ_USED);
  const before = load<u32>(vq, VQ_SIGNALLED_USED);
  store<u32>(vq, used, VQ_SIGNALLED_USED);
  if (dirtyTracked(load<u32>(vq, VQ_IOTLB))) markUsed(vq, before, distance(before, used, size));
  return interruptWanted(vq, before, used, size);
}

/** Writes the used descriptor at `index` that is published by it. */
// @ts-ignore: decorator
@inline
export function publishDescriptor(vq: usize, index: u32, used: u64): void {
  // The other used descriptors before this one, this one before the suppression word: one atomic store serves both. It
  // pairs with the driver's store of its event suppression, which comes before its own look at this descriptor.
  atomic.store<u64>(<usize>load<u32>(vq, VQ_DESC) + index * VIRTQ_DESC_SIZE, used, PVIRTQ_DESC_LEN);
}

/** Whether the driver wants an interrupt now that the next used descriptor is `used`, and was `before`. */
// @ts-ignore: decorator
@inline
export function interruptWanted(vq: usize, before: u32, used: u32, size: u32): bool {
  const suppression = atomic.load<u32>(<usize>load<u32>(vq, VQ_DRIVER));
  const kind = suppression >> 16;
  if (kind == RING_EVENT_FLAGS_DESC && load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX)
    return passes(suppression & 0xffff, before, used, size);
  // What the specification reserves, or was not negotiated, is no reason to keep silent.
  return kind != RING_EVENT_FLAGS_DISABLE;
}

/** Marks the `count` descriptors from a place on, in which used ones have been written. */
function markUsed(vq: usize, from: u32, count: u32): void {
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  const ring: usize = load<u32>(vq, VQ_DESC);
  const index = indexOf(from);
  const run = min(count, load<u32>(vq, VQ_SIZE) - index);
  dirtyMark(iotlb, ring + index * VIRTQ_DESC_SIZE, run * VIRTQ_DESC_SIZE);
  dirtyMark(iotlb, ring, (count - run) * VIRTQ_DESC_SIZE);
}

/** Asks the driver to notify once it makes the next chain available. */
export function arm(vq: usize): void {
  // An atomic store, and in `pending` an atomic load: the wish is visible before the descriptor is read. Pairs with the
  // driver's publication, an atomic store of its flags before it reads this word.
  const next = load<u32>(vq, VQ_REPLAYING) ? load<u32>(vq, VQ_REPLAY_END) : load<u32>(vq, VQ_LAST_AVAIL);
  const suppression: u32 =
    load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX
      ? next | (RING_EVENT_FLAGS_DESC << 16)
      : RING_EVENT_FLAGS_ENABLE << 16;
  suppress(vq, suppression);
}

/** Asks the driver not to notify. With EVENT_IDX too: a place left behind would be passed again two laps later. */
export function disarm(vq: usize): void {
  suppress(vq, RING_EVENT_FLAGS_DISABLE << 16);
}

/** Writes the device's event suppression structure. */
// @ts-ignore: decorator
@inline
function suppress(vq: usize, suppression: u32): void {
  const device: usize = load<u32>(vq, VQ_DEVICE);
  const iotlb: usize = load<u32>(vq, VQ_IOTLB);
  atomic.store<u32>(device, suppression);
  if (dirtyTracked(iotlb)) dirtyMark(iotlb, device, sizeof<u32>());
}

/** Whether a chain waits: 1 or 0. */
export function pending(vq: usize): u32 {
  const replay = replayEnter(vq);
  if (replay) replayLeave(vq, replay);
  return replay != 0 || nextHead(vq) != 0 ? 1 : 0;
}

/** Copies the next chain to `snapshot`: head | counts << 32; 0 if there is none, or it was refused. */
export function peek(vq: usize, snapshot: usize): u64 {
  const replay = replayEnter(vq);
  const word = nextHead(vq);
  const chain = word ? chainSnapshot(vq, word, snapshot) : 0;
  if (replay) replayLeave(vq, replay);
  return chain;
}

/** Takes the chain that `peek` has shown: 1 + its entry, or 0. Its buffer id is the driver's own affair: nothing here depends on it. */
export function take(vq: usize, head: u32): u32 {
  const entry = logTake(vq, head);
  if (entry) store<u32>(vq, advance(load<u32>(vq, VQ_LAST_AVAIL), head >> 16, load<u32>(vq, VQ_SIZE)), VQ_LAST_AVAIL);
  return entry;
}

/** Gives back one chain that was taken, `entry` being what `take` said. */
export function giveTaken(vq: usize, head: u32, entry: u32, written: u32): void {
  logGive(vq, entry - 1);
  give(vq, head, written);
}

/** Writes the used descriptor of one chain, or of the batch that ends with it; holds it if it is the first to be published. */
function give(vq: usize, head: u32, written: u32): void {
  const position = load<u32>(vq, VQ_USED);
  const index = indexOf(position);
  const used = usedDescriptor(head & 0xffff, written, usedOwner(position));
  if (load<u32>(vq, VQ_HELD_AT)) {
    store<u64>(<usize>load<u32>(vq, VQ_DESC) + index * VIRTQ_DESC_SIZE, used, PVIRTQ_DESC_LEN);
  } else {
    store<u64>(vq, used, VQ_HELD);
    store<u32>(vq, index + 1, VQ_HELD_AT);
  }
  store<u32>(vq, advance(position, head >> 16, load<u32>(vq, VQ_SIZE)), VQ_USED);
}

/** Length, buffer id and flags of a used descriptor: one word, so that a driver that sees its flags sees all of it. */
// @ts-ignore: decorator
@inline
export function usedDescriptor(id: u32, written: u32, owner: u32): u64 {
  // "Element Address and Length": where WRITE is missing a driver ignores the length.
  const write = select<u32>(VIRTQ_DESC_F_WRITE << 16, 0, written != 0);
  return <u64>written | (<u64>(id | owner | write) << 32);
}
