// The loop that calls engine.wasm's own exports from inside WebAssembly: driver and device on one thread, in turn.

@external("engine", "blkSubmit")
declare function blkSubmit(dq: usize, table: usize, count: u32): u32;
@external("engine", "blkServe")
declare function blkServe(vq: usize, disk: usize): u32;
@external("engine", "blkReap")
declare function blkReap(dq: usize, table: usize, max: u32, min: u32, spins: u32): u32;

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
