// Which export is called, and how often each was called and gave something.

import { CALLS_MAX, WORLD_CALL, WORLD_CALLS } from '../targets/exports-layout';

/** Says that an export is about to be called. */
export function call(world: usize, index: u32): void {
  store<u32>(world, index, WORLD_CALL);
  count(world + WORLD_CALLS + (index << 3));
}

/** Says that the last call of an export had something to give. */
export function gave(world: usize, index: u32, something: bool): void {
  if (something) count(world + WORLD_CALLS + ((CALLS_MAX + index) << 3));
}

// @ts-ignore: decorator
@inline
function count(counter: usize): void {
  store<u64>(counter, load<u64>(counter) + 1);
}
