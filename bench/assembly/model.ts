// A null model as its author writes it: a module of its own, against the library that the package ships.

import { Chain, Queue, serveQueue } from '../../assembly';

export { abi } from '../../assembly';

@unmanaged
class Null {
  handle(chain: Chain, queue: Queue): u32 {
    return 0;
  }
}

export const stateBytes: u32 = offsetof<Null>();

export function serve(queue: Queue, spins: u32, bursts: u32): u32 {
  return serveQueue<Null>(queue, spins, bursts);
}
