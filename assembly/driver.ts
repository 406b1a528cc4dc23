// Virtqueue, driver side, whatever the format of its ring: offer chains, publish them together, reap what the device has used.
// Before sleeping: arm, which looks again. Here is the one place that knows of two formats; split/driver.ts and
// packed/driver.ts have the same functions.

import { flightReaped } from './flight-slots';
import { unmapPage } from './iova-domain';
import {
  DQ_AVAIL,
  DQ_DOMAIN,
  DQ_DOORBELL,
  DQ_FLAGS,
  DQ_FLIGHT,
  DQ_FREE,
  DQ_FREE_STACK,
  DQ_INDEX,
  DQ_SLOT_STATE,
  DQ_SLOTS,
  DQ_VERDICT,
  DQ_VERDICT_HEAD,
  NOTIFY_DUE,
  SLOT_STATE_BOUNCE,
  SLOT_STATE_SIZE,
  VQ_F_NOTIFICATION_DATA,
  VQ_F_PACKED,
  VQ_KICKS,
  VQ_KICKS_SUPPRESSED,
} from './layout';
import { add } from './notify';
import * as packed from './packed/driver';
import { slotState } from './slots';
import * as split from './split/driver';

/** Empties the rings and frees every slot. The configuration must be there, and the device must not be running. */
export function driverStart(dq: usize): void {
  const slots = load<u32>(dq, DQ_SLOTS);
  memory.fill(load<u32>(dq, DQ_SLOT_STATE), 0, slots * SLOT_STATE_SIZE);
  const stack: usize = load<u32>(dq, DQ_FREE_STACK);
  for (let slot: u32 = 0; slot < slots; slot++) store<u16>(stack + (slot << 1), <u16>(slots - 1 - slot));
  store<u32>(dq, slots, DQ_FREE);
  store<u32>(dq, 0, DQ_VERDICT);
  store<u32>(dq, 0, DQ_VERDICT_HEAD);
  if (isPacked(dq)) packed.start(dq);
  else split.start(dq);
  driverDisarm(dq);
}

/** Ends the mappings of requests that the device has not given back, before the queue is started anew. It has let go of them. */
export function driverReset(dq: usize): void {
  const domain: usize = load<u32>(dq, DQ_DOMAIN);
  if (domain == 0) return;
  const slots = load<u32>(dq, DQ_SLOTS);
  for (let slot: u32 = 0; slot < slots; slot++) {
    const bounce = load<u32>(slotState(dq, slot), SLOT_STATE_BOUNCE);
    if (bounce) unmapPage(domain, bounce);
  }
}

/** Puts the first `count` of three buffers on the ring as the chain of `slot`; visible once published. */
// @ts-ignore: decorator
@inline
export function driverOffer(dq: usize, slot: u32, count: u32, first: v128, second: v128, third: v128): void {
  if (isPacked(dq)) packed.offer(dq, slot, count, first, second, third);
  else split.offer(dq, slot, count, first, second, third);
}

/** Publishes what was offered, `count` chains, and notifies the device if it wants to be: NOTIFY_DUE or 0. */
export function driverPublish(dq: usize, count: u32): u32 {
  if (count == 0) return 0;
  const wanted = isPacked(dq) ? packed.publish(dq) : split.publish(dq);
  add(dq + (wanted ? VQ_KICKS : VQ_KICKS_SUPPRESSED), 1);
  if (!wanted) return 0;
  const doorbell = load<u32>(dq, DQ_DOORBELL);
  if (doorbell == 0) return NOTIFY_DUE;
  const index = load<u32>(dq, DQ_INDEX);
  // Plain stores: an atomic one would be a locked read-modify-write on device memory. The barrier was the publication's.
  // Notification data ("Driver Notifications") is next_off and next_wrap, which is just what DQ_AVAIL is: the place of the
  // next descriptor of a packed ring, the available index of a split one.
  if (load<u32>(dq, DQ_FLAGS) & VQ_F_NOTIFICATION_DATA) store<u32>(doorbell, index | (load<u32>(dq, DQ_AVAIL) << 16));
  else store<u16>(doorbell, <u16>index);
  return 0;
}

/** Ends up to `max` requests that the device has used, as {slot u32, written bytes u32} at `table`: how many. */
export function driverReap(dq: usize, table: usize, max: u32): u32 {
  if (load<u32>(dq, DQ_VERDICT)) return 0;
  const count = isPacked(dq) ? packed.reap(dq, table, max) : split.reap(dq, table, max);
  if (load<u32>(dq, DQ_FLIGHT)) flightReaped(dq, table, count);
  return count;
}

/** Asks the device for interrupts, then looks again: whether completions wait. 0: safe to sleep. */
export function driverArm(dq: usize): u32 {
  if (isPacked(dq)) packed.arm(dq);
  else split.arm(dq);
  if (load<u32>(dq, DQ_VERDICT)) return 0;
  return isPacked(dq) ? packed.completed(dq) : split.completed(dq);
}

/** Asks the device for no interrupts. */
export function driverDisarm(dq: usize): void {
  if (isPacked(dq)) packed.disarm(dq);
  else split.disarm(dq);
}

// @ts-ignore: decorator
@inline
function isPacked(dq: usize): bool {
  return (load<u32>(dq, DQ_FLAGS) & VQ_F_PACKED) != 0;
}
