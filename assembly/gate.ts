// The data path's side of the gate. host/queue/gate.ts has the control plane's, and what the two words mean; it says, too,
// which of the operations pair. They are here because an atomic operation is an instruction of WASM, and a call in JavaScript.

import { GATE_BUSY, GATE_OPEN, VQ_GATE, VQ_GATE_CLOSED } from './layout';

/** Enters the queue for one burst: false while it is closed. */
export function gateEnter(vq: usize): bool {
  return (
    atomic.load<i32>(vq, VQ_GATE_CLOSED) == 0 && atomic.cmpxchg<i32>(vq, GATE_OPEN, GATE_BUSY, VQ_GATE) == GATE_OPEN
  );
}

/** Leaves after the burst. Not a plain store: a gate that was forced to STOPPED meanwhile stays so. */
export function gateLeave(vq: usize): void {
  atomic.cmpxchg<i32>(vq, GATE_BUSY, GATE_OPEN, VQ_GATE);
  if (atomic.load<i32>(vq, VQ_GATE_CLOSED) != 0) atomic.notify(vq + VQ_GATE, -1);
}
