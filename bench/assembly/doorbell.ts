// The store of a driver that rings a doorbell, by itself: the engine's own is a part of putting requests on a ring.

/** Rings the doorbell at `doorbell` for queue `index`. */
export function ring(doorbell: usize, index: u32): void {
  store<u16>(doorbell, <u16>index);
}
