// A device that does on demand what its library offers, and what no model should. A request begins with a u32, the trial.

import { Chain, Queue, serveQueue } from '../../../../assembly';

export { abi } from '../../../../assembly';

/** State of the device. */
@unmanaged
class Trials {
  requests: u32;
  flag: u32;
  scratch: u64;

  handle(chain: Chain, queue: Queue): u32 {
    atomic.add<u32>(changetype<usize>(this), 1);
    const own = changetype<Own>(queue.queueState);
    own.requests++;
    const trial = chain.read<u32>(0);
    switch (trial) {
      case 0: {
        // What it knows.
        chain.write<u32>(0, atomic.load<u32>(changetype<usize>(this)));
        chain.write<u32>(4, own.requests);
        chain.write<u32>(8, queue.index);
        chain.write<u32>(12, queue.configBytes);
        chain.write<u8>(16, load<u8>(queue.config));
        chain.write<u8>(17, queue.negotiated(32));
        chain.write<u8>(18, queue.negotiated(3));
        chain.write<u8>(19, queue.negotiated(4));
        chain.write<u32>(20, queue.epoch);
        return 24;
      }
      case 1: {
        // What the chain is made of.
        chain.write<u32>(0, chain.readable);
        chain.write<u32>(4, chain.writable);
        chain.write<u32>(8, chain.readableBytes);
        chain.write<u32>(12, chain.writableBytes);
        chain.write<u32>(16, chain.length(chain.readable));
        store<u32>(chain.address(chain.readable + chain.writable - 1), chain.length(0));
        return chain.writableBytes;
      }
      case 2:
        return chain.transfer(4, 0, u32.MAX_VALUE);
      case 3:
        return chain.transfer(chain.read<u8>(4), chain.read<u8>(5), chain.read<u8>(6));
      case 4:
        return chain.fill(3, 0xab, chain.read<u32>(4));
      case 5: {
        // Numbers of every width, which may lie across segments.
        chain.write<f32>(0, chain.read<f32>(4) * 2);
        chain.write<f64>(4, chain.read<f64>(8) * 2);
        chain.write<i8>(12, -chain.read<i8>(16));
        chain.write<i16>(13, -chain.read<i16>(17));
        chain.write<i64>(15, -chain.read<i64>(19));
        return 23;
      }
      case 6: {
        const taken = chain.copyIn(4, changetype<usize>(this) + offsetof<Trials>('scratch'), 8);
        return chain.copyOut(0, changetype<usize>(this) + offsetof<Trials>('scratch'), taken);
      }
      case 7:
        return chain.refuse();
      case 8:
        return u32.MAX_VALUE;
      case 9:
        chain.write<u32>(chain.writableBytes - 2, 1);
        return 0;
      case 10:
        return load<u32>(0);
      case 11:
        chain.copyIn(0, 0xf000_0000, 4);
        return 0;
      case 12:
        return chain.length(chain.readable + chain.writable);
      case 13:
        chain.write<u32>(0, 1);
        while (atomic.load<u32>(changetype<usize>(this), 4) == 0) {}
        return 0;
      default:
        return <u32>unreachable();
    }
  }
}

/** State of a queue. */
@unmanaged
class Own {
  requests: u32;
}

export const stateBytes: u32 = offsetof<Trials>();
export const queueStateBytes: u32 = offsetof<Own>();

export function serve(queue: Queue, spins: u32, bursts: u32): u32 {
  return serveQueue<Trials>(queue, spins, bursts);
}
