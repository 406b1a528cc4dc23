// A place in a packed ring: the index of a descriptor, with the wrap counter that holds there in bit 15 ("Driver and Device
// Ring Wrap Counters"). Event suppression, notification data and vring states carry places in this form, too.

import { VIRTQ_DESC_F_AVAIL, VIRTQ_DESC_F_USED } from '../virtio';

const WRAP_COUNTER: u32 = 0x8000;
const INDEX_MASK: u32 = 0x7fff;
/** Where both sides begin. */
export const FIRST_POSITION: u32 = WRAP_COUNTER;
/** The two flags that say whose a descriptor is, in the word of its buffer id and its flags. */
export const OWNER_MASK: u32 = (VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED) << 16;

// @ts-ignore: decorator
@inline
export function indexOf(position: u32): u32 {
  return position & INDEX_MASK;
}

/** The place of `index` on the lap in which descriptors are available with `owner`. */
// @ts-ignore: decorator
@inline
export function positionOf(index: u32, owner: u32): u32 {
  return owner == VIRTQ_DESC_F_AVAIL << 16 ? index | WRAP_COUNTER : index;
}

/** The owner flags of an available descriptor at `position`: AVAIL like the wrap counter, USED unlike it. */
// @ts-ignore: decorator
@inline
export function availableOwner(position: u32): u32 {
  return position & WRAP_COUNTER ? VIRTQ_DESC_F_AVAIL << 16 : VIRTQ_DESC_F_USED << 16;
}

/** The owner flags of a used descriptor at `position`: both like the wrap counter. */
// @ts-ignore: decorator
@inline
export function usedOwner(position: u32): u32 {
  return position & WRAP_COUNTER ? OWNER_MASK : 0;
}

/** The place of `index` on the lap in which descriptors are used with `owner`. */
// @ts-ignore: decorator
@inline
export function usedPositionOf(index: u32, owner: u32): u32 {
  return owner ? index | WRAP_COUNTER : index;
}

/** `count` descriptors further, of at most `size`. */
// @ts-ignore: decorator
@inline
export function advance(position: u32, count: u32, size: u32): u32 {
  const index = (position & INDEX_MASK) + count;
  const wrap = position & WRAP_COUNTER;
  return index < size ? index | wrap : (index - size) | (wrap ^ WRAP_COUNTER);
}

/** `count` descriptors back, of at most `size`. */
// @ts-ignore: decorator
@inline
export function retreat(position: u32, count: u32, size: u32): u32 {
  const index = position & INDEX_MASK;
  const wrap = position & WRAP_COUNTER;
  return index >= count ? (index - count) | wrap : (index + size - count) | (wrap ^ WRAP_COUNTER);
}

/** Descriptors from one place to another, modulo two laps. */
// @ts-ignore: decorator
@inline
export function distance(from: u32, to: u32, size: u32): u32 {
  const steps = (to & INDEX_MASK) - (from & INDEX_MASK) + ((from ^ to) & WRAP_COUNTER ? size : 0);
  return <i32>steps < 0 ? steps + 2 * size : steps;
}

/** Whether moving from `before` to `after` passes the place that an event suppression structure names. */
export function passes(event: u32, before: u32, after: u32, size: u32): bool {
  // Beyond the ring is no place: better a notification too many.
  if (indexOf(event) >= size) return true;
  const since = distance(event, after, size);
  return since != 0 && since <= distance(before, after, size);
}

/** Descriptors from where both sides begin to a place on the first two laps. */
export function countFrom(position: u32, size: u32): u64 {
  return position & WRAP_COUNTER ? indexOf(position) : size + indexOf(position);
}

/** The place `count` descriptors behind where both sides begin. */
export function positionAt(count: u64, size: u32): u32 {
  const index = <u32>(count % <u64>size);
  return (count / <u64>size) & 1 ? index : index | WRAP_COUNTER;
}
