// The data path of an entropy device ("Entropy Device") that is none: the same numbers each time, as a simulation wants them.

import { Chain, Queue, serveQueue } from 'ringbell/assembly';

export { abi } from 'ringbell/assembly';

/** What the device keeps. All zeroes when it is served. */
@unmanaged
class Dice {
  /** How many numbers it has given. */
  count: u64;

  /** Fills one buffer: how many bytes it has written. */
  handle(chain: Chain, queue: Queue): u32 {
    const room = chain.writableBytes;
    if (room == 0) return chain.refuse();
    let at: u32 = 0;
    for (; at + 8 <= room; at += 8) chain.write<u64>(at, this.next());
    if (at < room) {
      for (let rest = this.next(); at < room; at++, rest >>= 8) chain.write<u8>(at, <u8>rest);
    }
    queue.countRead(room);
    return room;
  }

  /** SplitMix64. */
  next(): u64 {
    let z = ++this.count * 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
}

export const stateBytes: u32 = offsetof<Dice>();

export function serve(queue: Queue, spins: u32, bursts: u32): u32 {
  return serveQueue<Dice>(queue, spins, bursts);
}
