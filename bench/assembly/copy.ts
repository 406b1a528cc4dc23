// The engine's copy in a loop of its own, so that a benchmark of copies does not measure calls from JavaScript.

import { copy } from '../../assembly/copy';

/** Copies `bytes` bytes `times` times. */
export function copyLoop(to: usize, from: usize, bytes: usize, times: u32): void {
  for (let i: u32 = 0; i < times; i++) copy(to, from, bytes);
}
