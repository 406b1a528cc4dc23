// Virtqueue, device side, whatever the format of its ring: parse a burst, let the caller handle it, flush. Before sleeping:
// arm, which looks again. Here is the one place that knows of two formats; split/device.ts and packed/device.ts have the same
// functions, and the chain and segment tables between them and their callers are the same.

import { breakQueue } from './chain';
import { flightGiven, flightPopped, flightPushed, flightReturned } from './flight-chains';
import { logFits, logIsRunning } from './in-flight-log';
import {
  VERDICT_IN_FLIGHT_LOG,
  VQ_BURST,
  VQ_EPOCH,
  VQ_F_PACKED,
  VQ_FLAGS,
  VQ_FLIGHT,
  VQ_GATE_CLOSED,
  VQ_HEADS,
  VQ_IN_FLIGHT,
  VQ_MISS,
  VQ_REGION_BYTES,
  VQ_REPLAYING,
  VQ_SIZE,
  VQ_VERDICT,
  VQ_VERDICT_HEAD,
} from './layout';
import { countPublication } from './notify';
import * as packed from './packed/device';
import * as packedFew from './packed/few';
import * as split from './split/device';
import * as splitFew from './split/few';

/** Resets the running state to the position that a vring base gives. Counters stay. */
export function deviceStart(vq: usize, base: u32): void {
  begin(vq);
  if (isPacked(vq)) packed.start(vq, base);
  else split.start(vq, base);
}

/**
 * Goes on where another process has stopped, by its in-flight log and the ring: what it had taken and not published is
 * taken first. False if the driver had not started the queue.
 */
export function deviceResume(vq: usize): bool {
  if (!logIsRunning(vq)) return false;
  begin(vq);
  if (!logFits(vq)) breakQueue(vq, VERDICT_IN_FLIGHT_LOG, 0);
  else if (isPacked(vq)) packed.resume(vq);
  else split.resume(vq);
  return true;
}

function begin(vq: usize): void {
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

/**
 * Takes up to `max` chains into the chain and segment tables: how many. A short burst is tried first. The rest is a function of
 * its own, so that neither has to make room for what the other keeps in registers.
 */
// @ts-ignore: decorator
@inline
export function devicePop(vq: usize, max: u32): u32 {
  const few = isPacked(vq) ? packedFew.popFew(vq, max) : splitFew.popFew(vq, max);
  const taken = few ? few : popMany(vq, max);
  if (load<u32>(vq, VQ_FLIGHT)) flightPopped(vq, taken);
  return taken;
}

/** The same, whatever waits. */
function popMany(vq: usize, max: u32): u32 {
  if (isStopped(vq)) return 0;
  const limit = min(max, load<u32>(vq, VQ_BURST));
  const taken = isPacked(vq) ? packed.pop(vq, limit) : split.pop(vq, limit);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + taken, VQ_IN_FLIGHT);
  return taken;
}

/** Puts chains [first, end) of a pop, which were its last, back, unseen: the next pop reads them again. */
export function deviceReturn(vq: usize, first: u32, end: u32): void {
  if (load<u32>(vq, VQ_FLIGHT)) flightReturned(vq, first, end);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - (end - first), VQ_IN_FLIGHT);
  if (isPacked(vq)) packed.giveBack(vq, first, end);
  else split.giveBack(vq, first, end);
}

/** Publishes the first `count` entries of the chain table, which hold {head, written bytes} now: `count` | NOTIFY_DUE. */
// @ts-ignore: decorator
@inline
export function devicePush(vq: usize, count: u32): u32 {
  let result: u32 = 0;
  if (count == 1) result = isPacked(vq) ? packedFew.pushOne(vq) : splitFew.pushOne(vq);
  else if (count == 2) result = isPacked(vq) ? packedFew.pushTwo(vq) : splitFew.pushTwo(vq);
  if (result == 0) result = pushMany(vq, count);
  // Behind the publication: the driver does not wait for it.
  if (load<u32>(vq, VQ_FLIGHT)) flightPushed(vq, count);
  return result;
}

/** The same for any number, and where publications are watched. */
function pushMany(vq: usize, count: u32): u32 {
  if (count == 0) return 0;
  if (isPacked(vq)) packed.push(vq, count);
  else split.push(vq, count);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - count, VQ_IN_FLIGHT);
  return count | devicePublish(vq, count);
}

/** Makes what was given back visible to the driver, then decides on an interrupt: NOTIFY_DUE or 0. `count`: requests to count. */
export function devicePublish(vq: usize, count: u32): u32 {
  return countPublication(vq, count, isPacked(vq) ? packed.publish(vq) : split.publish(vq, count));
}

/** Asks the driver to notify, then looks again: whether chains wait. 0: safe to sleep. */
export function deviceArm(vq: usize): u32 {
  if (isPacked(vq)) packed.arm(vq);
  else split.arm(vq);
  return devicePending(vq);
}

/** Asks the driver not to notify. */
export function deviceDisarm(vq: usize): void {
  if (isPacked(vq)) packed.disarm(vq);
  else split.disarm(vq);
}

/** At least how many chains wait, by the ring as it is now; 0 on a queue that is broken or waits for a mapping. */
export function devicePending(vq: usize): u32 {
  if (isStopped(vq)) return 0;
  return isPacked(vq) ? packed.pending(vq) : split.pending(vq);
}

/** Looks up to `spins` times for chains that wait, or until the gate is asked to close: as devicePending. */
export function deviceWait(vq: usize, spins: u32): u32 {
  let waiting = devicePending(vq);
  while (waiting == 0 && spins > 0 && atomic.load<u32>(vq, VQ_GATE_CLOSED) == 0) {
    spins--;
    waiting = devicePending(vq);
  }
  return waiting;
}

/** Breaks the queue for a reason that its host or its model knows; `head` is that of the chain, if it is about one. */
export function deviceBreak(vq: usize, verdict: u32, head: u32): void {
  breakQueue(vq, verdict, head);
}

/**
 * Copies the next chain, judged, to `snapshot`: its head, as in the chain table, | counts << 32, as chainSegments takes them;
 * 0 if there is none, or it was refused. It stays the next one until deviceTake.
 */
export function devicePeek(vq: usize, snapshot: usize): u64 {
  if (isStopped(vq)) return 0;
  return isPacked(vq) ? packed.peek(vq, snapshot) : split.peek(vq, snapshot);
}

/** Takes the chain that devicePeek has shown: 1 + its entry of an in-flight log; 0 if it cannot be, which breaks the queue. */
export function deviceTake(vq: usize, head: u32): u32 {
  const entry = isPacked(vq) ? packed.take(vq, head) : split.take(vq, head);
  if (entry) store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) + 1, VQ_IN_FLIGHT);
  return entry;
}

/** Gives one taken chain back, `entry` being what deviceTake said, with its used length in bytes; visible once published. */
export function deviceGive(vq: usize, head: u32, entry: u32, written: u32): void {
  if (load<u32>(vq, VQ_FLIGHT)) flightGiven(vq, head, written);
  if (isPacked(vq)) packed.giveTaken(vq, head, entry, written);
  else split.giveTaken(vq, head, entry, written);
  store<u32>(vq, load<u32>(vq, VQ_IN_FLIGHT) - 1, VQ_IN_FLIGHT);
}

// @ts-ignore: decorator
@inline
function isPacked(vq: usize): bool {
  return (load<u32>(vq, VQ_FLAGS) & VQ_F_PACKED) != 0;
}

/** Whether the queue takes no more chains: broken, or waiting for a mapping. Both words in one look. */
// @ts-ignore: decorator
@inline
function isStopped(vq: usize): bool {
  return load<u64>(vq, VQ_VERDICT) != 0;
}
