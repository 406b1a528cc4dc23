/**
 * The position of a virtqueue as vhost carries it in vhost_vring_state.num (VHOST_SET_VRING_BASE, VHOST_GET_VRING_BASE),
 * converted from and to the structs in which VDUSE carries it.
 */
import type { Decoded } from './struct.js';
import type { vduseVqStatePacked, vduseVqStateSplit } from './vduse.js';

/** Position of a split virtqueue. */
export type SplitState = Decoded<typeof vduseVqStateSplit>;
/** Position of a packed virtqueue: indices are 15 bits wide, counters are wrap counters, 0 or 1. */
export type PackedState = Decoded<typeof vduseVqStatePacked>;

/** The base of a split virtqueue after a reset. */
export const SPLIT_VRING_BASE_RESET = 0;
/** The base of a packed virtqueue after a reset: both indices 0, both wrap counters 1. */
export const PACKED_VRING_BASE_RESET = 0x80008000;

const INDEX_MAX = 0x7fff;

/** vring base of a split virtqueue. Throws RangeError unless avail_index has 16 bits. */
export function encodeSplitVringBase({ avail_index }: SplitState): number {
  return checked(avail_index, 0xffff, 'avail_index');
}

/** Position that a vring base gives a split virtqueue. Throws RangeError above 0xFFFF, where the kernel says EINVAL. */
export function decodeSplitVringBase(num: number): SplitState {
  return { avail_index: checked(num, 0xffff, 'vring base of a split virtqueue') };
}

/** vring base of a packed virtqueue. Throws RangeError for an index of more than 15 bits, a counter other than 0 and 1. */
export function encodePackedVringBase(state: PackedState): number {
  const avail =
    checked(state.last_avail_idx, INDEX_MAX, 'last_avail_idx') |
    (checked(state.last_avail_counter, 1, 'last_avail_counter') << 15);
  const used =
    checked(state.last_used_idx, INDEX_MAX, 'last_used_idx') |
    (checked(state.last_used_counter, 1, 'last_used_counter') << 15);
  return (avail | (used << 16)) >>> 0;
}

/** Position that a vring base gives a packed virtqueue. Throws RangeError above 32 bits. */
export function decodePackedVringBase(num: number): PackedState {
  checked(num, 0xffff_ffff, 'vring base of a packed virtqueue');
  return {
    last_avail_counter: (num >>> 15) & 1,
    last_avail_idx: num & INDEX_MAX,
    last_used_counter: num >>> 31,
    last_used_idx: (num >>> 16) & INDEX_MAX,
  };
}

function checked(value: number, max: number, what: string): number {
  if (!Number.isInteger(value) || value < 0 || value > max) {
    throw new RangeError(`${what}: ${value} is not an integer from 0 to ${max}`);
  }
  return value;
}
