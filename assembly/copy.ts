// Copies inside the linear memory. The caller has translated and checked both ends: memory.copy runs in C++, where a fault
// is not a trap but the end of the process.

/** Bytes; up to here inline vectors beat the fixed cost of the call behind memory.copy. */
export const INLINE_LIMIT: usize = 384;

/**
 * Copies `bytes` bytes between ranges that do not overlap. Part of its caller's code: a call, and what the caller has to keep
 * elsewhere for it, costs as much as copying some hundred bytes.
 */
// @ts-ignore: decorator
@inline
export function copy(to: usize, from: usize, bytes: usize): void {
  if (bytes > INLINE_LIMIT) memory.copy(to, from, bytes);
  else copyInline(to, from, bytes);
}

/** The same for at most INLINE_LIMIT bytes; a fault is a trap. */
// @ts-ignore: decorator
@inline
export function copyInline(to: usize, from: usize, bytes: usize): void {
  if (bytes - 16 <= 48) {
    // Two or four vectors, from both ends, which overlap in the middle. All are loaded first: a copy onto itself is legal.
    const first = v128.load(from);
    const last = v128.load(from + bytes - 16);
    if (bytes > 32) {
      const second = v128.load(from, 16);
      const third = v128.load(from + bytes - 32);
      v128.store(to, second, 16);
      v128.store(to + bytes - 32, third);
    }
    v128.store(to, first);
    v128.store(to + bytes - 16, last);
    return;
  }
  if (bytes > 64) {
    // The last vector overlaps the one before it, so no size needs a tail loop.
    const tail = v128.load(from + bytes - 16);
    const end = to + bytes - 16;
    while (to + 64 <= end) {
      const a = v128.load(from);
      const b = v128.load(from, 16);
      const c = v128.load(from, 32);
      const d = v128.load(from, 48);
      v128.store(to, a);
      v128.store(to, b, 16);
      v128.store(to, c, 32);
      v128.store(to, d, 48);
      from += 64;
      to += 64;
    }
    while (to < end) {
      v128.store(to, v128.load(from));
      from += 16;
      to += 16;
    }
    v128.store(end, tail);
    return;
  }
  if (bytes >= 8) {
    const tail = load<u64>(from + bytes - 8);
    store<u64>(to, load<u64>(from));
    store<u64>(to + bytes - 8, tail);
    return;
  }
  if (bytes >= 4) {
    const tail = load<u32>(from + bytes - 4);
    store<u32>(to, load<u32>(from));
    store<u32>(to + bytes - 4, tail);
    return;
  }
  for (; bytes > 0; bytes--, to++, from++) store<u8>(to, load<u8>(from));
}
