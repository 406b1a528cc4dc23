// Software doorbells, device side. A driver's doorbell store is the index of its queue, written to memory that both sides
// map, and nothing more: whoever wants to know has to look. With VIRTIO_F_NOTIFICATION_DATA a store has 16 bits more, which
// say where the ring goes on. They are never read: the ring says so itself, and may be believed after its own checks. A look takes the ring away before the device looks at its
// virtqueue. The driver publishes avail.idx before it stores to the doorbell, so whatever a store that was overwritten here
// stood for is seen in avail.idx: no ring is lost.

import { DOORBELL_UNRUNG, VQ_DOORBELL, VQ_DOORBELL_RINGS, VQ_DOORBELL_SEEN } from './layout';

/**
 * Looks at the doorbells of the queues whose bits `mask` has, `spins` times more while none has rung: a bit for each that
 * has. `queues`: linear of their VQ blocks, a u32 each.
 */
export function doorbellWatch(queues: usize, mask: u32, spins: u32): u32 {
  let rung = look(queues, mask);
  for (; rung == 0 && spins > 0; spins--) rung = look(queues, mask);
  return rung;
}

// @ts-ignore: decorator
@inline
function look(queues: usize, mask: u32): u32 {
  let rung: u32 = 0;
  for (let left = mask; left; left &= left - 1) {
    const index = ctz(left);
    if (hasRung(load<u32>(queues + (index << 2)))) rung |= 1 << index;
  }
  return rung;
}

/** Whether the queue's doorbell has rung since this was last asked for it. */
// @ts-ignore: decorator
@inline
function hasRung(vq: usize): bool {
  const doorbell: usize = load<u32>(vq, VQ_DOORBELL);
  if (doorbell == 0) return false;
  const rings: usize = load<u32>(vq, VQ_DOORBELL_RINGS);
  if (<u32>atomic.load<u16>(doorbell) != DOORBELL_UNRUNG) {
    // An atomic store, so that avail.idx is read after it. Counted after that: queues that share the doorbell, in whatever
    // thread, find out by the count, and then read their own.
    atomic.store<u16>(doorbell, <u16>DOORBELL_UNRUNG);
    atomic.add<u32>(rings, 1);
  }
  const count = atomic.load<u32>(rings);
  if (count == load<u32>(vq, VQ_DOORBELL_SEEN)) return false;
  store<u32>(vq, count, VQ_DOORBELL_SEEN);
  return true;
}
