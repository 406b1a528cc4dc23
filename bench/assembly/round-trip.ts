// Driver and device on one thread, in turn, compiled into one module, as the C++ that they are measured against is.

import { blkReap, blkSubmit } from '../../assembly/drivers/blk';
import { blkServe } from '../../assembly/models/blk';

/** Makes `times` round trips of a batch of the submission table: how many requests completed. */
export function roundTrips(dq: usize, vq: usize, disk: usize, submissions: usize, completions: usize, batch: u32, times: u32): u32 {
  let completed: u32 = 0;
  for (let i: u32 = 0; i < times; i++) {
    blkSubmit(dq, submissions, batch);
    blkServe(vq, disk);
    completed += blkReap(dq, completions, batch, 0, 0);
  }
  return completed;
}
