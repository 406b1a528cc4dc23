// Split virtqueue, device side: parse a burst, let the caller handle it, flush. Before sleeping: arm, which looks again.

import { dirtyMark, dirtyTracked } from '../dirty';
import {
  CHAIN_SIZE,
  NOTIFY_DUE,
  VERDICT_AVAIL_INDEX,
  VQ_BURST,
  VQ_BURSTS,
  VQ_CHAINS,
  VQ_DEVICE,
  VQ_DRIVER,
  VQ_EPOCH,
  VQ_F_EVENT_IDX,
  VQ_FLAGS,
  VQ_GATE_CLOSED,
  VQ_HEADS,
  VQ_IN_FLIGHT,
  VQ_INTERRUPTS,
  VQ_INTERRUPTS_SUPPRESSED,
  VQ_IOTLB,
  VQ_LAST_AVAIL,
  VQ_MISS,
  VQ_REGION_BYTES,
  VQ_REPLAY,
  VQ_REPLAY_END,
  VQ_REPLAYING,
  VQ_REQUESTS,
  VQ_SHADOW_AVAIL,
  VQ_SIGNALLED_USED,
  VQ_SIZE,
  VQ_USED,
  VQ_VERDICT,
  VQ_VERDICT_HEAD,
} from '../layout';
import { add, needEvent } from '../notify';
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
import { breakQueue, refreshRegion } from './chain';
import { logAhead, logGiveBurst, logIsRunning, logPublish, logReplay, logStart } from './in-flight';
import { parseBurst } from './parse';

/** Resets the running state: the next chain is avail[lastAvail], the used index is what the ring says. Counters stay. */
export function deviceStart(vq: usize, lastAvail: u32): void {
  const used = usedIndex(vq);
  begin(vq, lastAvail, used);
  logStart(vq, lastAvail, used);
}

/**
 * Goes on where another process has stopped, by its in-flight log and used.idx: what it had taken and not published is
 * taken first. False if the driver had not started the queue.
 */
export function deviceResume(vq: usize): bool {
  if (!logIsRunning(vq)) return false;
  const used = usedIndex(vq);
  begin(vq, used + logAhead(vq), used);
  logReplay(vq, used);
  // Data and status of what was published are marked already, of the rest they will be. Entries may not be.
  if (dirtyTracked(load<u32>(vq, VQ_IOTLB))) markUsed(vq, used, load<u32>(vq, VQ_SIZE));
  return true;
}

function usedIndex(vq: usize): u32 {
  return <u32>atomic.load<u16>(<usize>load<u32>(vq, VQ_DEVICE), VIRTQ_USED_IDX);
}

function begin(vq: usize, lastAvail: u32, used: u32): void {
  store<u32>(vq, lastAvail & 0xffff, VQ_LAST_AVAIL);
  store<u32>(vq, lastAvail & 0xffff, VQ_SHADOW_AVAIL);
  store<u32>(vq, used, VQ_USED);
  store<u32>(vq, used, VQ_SIGNALLED_USED);
  store<u32>(vq, 0, VQ_IN_FLIGHT);
  store<u32>(vq, 0, VQ_VERDICT);
  store<u32>(vq, 0, VQ_VERDICT_HEAD);
  store<u32>(vq, 0, VQ_MISS);
  store<u32>(vq, 0, VQ_REPLAYING);
  store<u64>(vq, 0, VQ_REGION_BYTES);
  store<u32>(vq, load<u32>(vq, VQ_EPOCH) + 1, VQ_EPOCH);
  const heads = load<u32>(vq, VQ_HEADS);
  if (heads) memory.fill(heads, 0, load<u32>(vq, VQ_SIZE));
}

/** Takes up to `max` chains into the chain and segment tables: how many. */
export function devicePop(vq: usize, max: u32): u32 {
  const waiting = available(vq, min(max, load<u32>(vq, VQ_BURST)));
  if (waiting == 0) return 0;
  refreshRegion(vq);
  const taken = parseBurst(vq, headsRing(vq), waiting);
  store<u32>(vq, (load<u32>(vq, VQ_LAST_AVAIL) + taken) & 0xffff, VQ_LAST_AVAIL);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + taken, VQ_IN_FLIGHT);
  return taken;
}

/** Puts the last `count` chains of a pop back, unseen: the next pop reads them again. */
export function deviceReturn(vq: usize, count: u32): void {
  store<u32>(vq, (load<u32>(vq, VQ_LAST_AVAIL) - count) & 0xffff, VQ_LAST_AVAIL);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - count, VQ_IN_FLIGHT);
}

/** Publishes the first `count` entries of the chain table, which hold {head, written bytes} now: `count` | NOTIFY_DUE. */
export function devicePush(vq: usize, count: u32): u32 {
  if (count == 0) return 0;
  if (load<u32>(vq, VQ_REPLAYING)) logGiveBurst(vq, count);
  const size = load<u32>(vq, VQ_SIZE);
  const mask = size - 1;
  const ring: usize = load<u32>(vq, VQ_DEVICE) + VIRTQ_USED_RING;
  let used = load<u32>(vq, VQ_USED);
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let left = count;
  while (left) {
    // The chain table is the used ring's image: copied in runs that end where the ring does.
    const index = used & mask;
    const run = min(left, size - index);
    let entry = ring + index * CHAIN_SIZE;
    let n = run;
    for (; n >= 4; n -= 4, chain += 32, entry += 32) {
      const first = v128.load(chain);
      const second = v128.load(chain, 16);
      v128.store(entry, first);
      v128.store(entry, second, 16);
    }
    for (; n; n--, chain += CHAIN_SIZE, entry += CHAIN_SIZE) store<u64>(entry, load<u64>(chain));
    used += run;
    left -= run;
  }
  store<u32>(vq, used & 0xffff, VQ_USED);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - count, VQ_IN_FLIGHT);
  return count | devicePublish(vq, count);
}

/** Makes VQ_USED visible to the driver, then decides on an interrupt: NOTIFY_DUE or 0. `count`: requests to count. */
// @ts-ignore: decorator
@inline
export function devicePublish(vq: usize, count: u32): u32 {
  const used = load<u32>(vq, VQ_USED);
  // Entries before the index, the index before the suppression word: one atomic store serves both. It pairs with the
  // driver's store of used_event (or flags), which comes before its own look at used.idx.
  atomic.store<u16>(<usize>load<u32>(vq, VQ_DEVICE), <u16>used, VIRTQ_USED_IDX);
  if (dirtyTracked(load<u32>(vq, VQ_IOTLB))) markUsed(vq, used, count);
  logPublish(vq, used);
  add(vq + VQ_REQUESTS, count);
  const driver: usize = load<u32>(vq, VQ_DRIVER);
  let wanted: bool;
  if (load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) {
    const event = <u32>atomic.load<u16>(driver + VIRTQ_AVAIL_RING + (load<u32>(vq, VQ_SIZE) << 1));
    wanted = needEvent(event, used, load<u32>(vq, VQ_SIGNALLED_USED));
    store<u32>(vq, used, VQ_SIGNALLED_USED);
  } else {
    wanted = !(<u32>atomic.load<u16>(driver, VIRTQ_AVAIL_FLAGS) & VIRTQ_AVAIL_F_NO_INTERRUPT);
  }
  add(vq + (wanted ? VQ_INTERRUPTS : VQ_INTERRUPTS_SUPPRESSED), 1);
  add(vq + VQ_BURSTS, 1);
  return wanted ? NOTIFY_DUE : 0;
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

/** Asks the driver to notify, then looks again: how many chains wait. 0: safe to sleep. */
export function deviceArm(vq: usize): u32 {
  // An atomic store, then an atomic load: the wish is visible before avail.idx is read. Pairs with the driver's publication,
  // an atomic store of avail.idx before it reads this word: one of the two sees the other, no wake-up is lost.
  if (load<u32>(vq, VQ_FLAGS) & VQ_F_EVENT_IDX) {
    suppress(vq, VIRTQ_USED_RING + load<u32>(vq, VQ_SIZE) * CHAIN_SIZE, load<u32>(vq, VQ_LAST_AVAIL));
  } else {
    suppress(vq, VIRTQ_USED_FLAGS, 0);
  }
  return devicePending(vq);
}

/** Asks the driver not to notify. With EVENT_IDX a stale avail_event, left behind, does just that. */
export function deviceDisarm(vq: usize): void {
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

/** Chains that wait, by the ring as it is now; 0 on a queue that is broken or waits for a mapping. */
export function devicePending(vq: usize): u32 {
  if (load<u32>(vq, VQ_VERDICT) | load<u32>(vq, VQ_MISS)) return 0;
  const index = <u32>atomic.load<u16>(<usize>load<u32>(vq, VQ_DRIVER), VIRTQ_AVAIL_IDX);
  return (index - load<u32>(vq, VQ_LAST_AVAIL)) & 0xffff;
}

/** Looks up to `spins` times for chains that wait, or until the gate is asked to close: how many. */
export function deviceWait(vq: usize, spins: u32): u32 {
  let waiting = devicePending(vq);
  while (waiting == 0 && spins > 0 && atomic.load<u32>(vq, VQ_GATE_CLOSED) == 0) {
    spins--;
    waiting = devicePending(vq);
  }
  return waiting;
}

/** Breaks the queue for a reason that its host knows. */
export function deviceBreak(vq: usize, verdict: u32): void {
  breakQueue(vq, verdict, 0);
}

/** The ring of heads that the chains behind VQ_LAST_AVAIL come from: the driver's, or the private one of a replay. */
// @ts-ignore: decorator
@inline
export function headsRing(vq: usize): usize {
  return load<u32>(vq, VQ_REPLAYING) ? load<u32>(vq, VQ_REPLAY) : load<u32>(vq, VQ_DRIVER) + VIRTQ_AVAIL_RING;
}

/** Up to `max` chains that wait: avail.idx is read again only when the last look does not suffice. */
export function available(vq: usize, max: u32): u32 {
  if (load<u32>(vq, VQ_VERDICT) | load<u32>(vq, VQ_MISS)) return 0;
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
