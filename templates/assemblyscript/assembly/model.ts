// The data path of {{name}}: a disk in memory. A request of a disk is a header of 16 bytes, data, and a status byte, the last
// one that the device writes (virtio specification, "Block Device").

import { Chain, Queue, serveQueue } from 'ringbell/assembly';
import {
  VIRTIO_BLK_HEADER_SECTOR,
  VIRTIO_BLK_HEADER_SIZE,
  VIRTIO_BLK_HEADER_TYPE,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_SECTOR_SIZE,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
} from 'ringbell/assembly/virtio';

export { abi } from 'ringbell/assembly';

/** Bytes of the disk. model.js tells drivers of as many. */
const CAPACITY: u32 = 1048576;

/** What the device keeps: its fields first, then the bytes of the disk. */
@unmanaged
class Model {
  /** Requests, of all queues. */
  requests: u64;

  /** Serves one request: how many bytes it has written. Runs on every queue thread. */
  handle(chain: Chain, queue: Queue): u32 {
    atomic.add<u64>(changetype<usize>(this) + offsetof<Model>('requests'), 1);
    const room = chain.writableBytes;
    if (room == 0) return chain.refuse();
    const type = chain.read<u32>(VIRTIO_BLK_HEADER_TYPE);
    const sector = chain.read<u64>(VIRTIO_BLK_HEADER_SECTOR);
    if (type == VIRTIO_BLK_T_IN) {
      const bytes = room - 1;
      if (!fits(sector, bytes)) return answer(chain, room, 0, VIRTIO_BLK_S_IOERR);
      chain.copyOut(0, this.place(sector), bytes);
      queue.countRead(bytes);
      return answer(chain, room, bytes, VIRTIO_BLK_S_OK);
    }
    if (type == VIRTIO_BLK_T_OUT) {
      const bytes = chain.readableBytes - VIRTIO_BLK_HEADER_SIZE;
      if (!fits(sector, bytes)) return answer(chain, room, 0, VIRTIO_BLK_S_IOERR);
      chain.copyIn(VIRTIO_BLK_HEADER_SIZE, this.place(sector), bytes);
      queue.countWritten(bytes);
      return answer(chain, room, 0, VIRTIO_BLK_S_OK);
    }
    return answer(chain, room, 0, VIRTIO_BLK_S_UNSUPP);
  }

  /** Where a sector of the disk is. */
  place(sector: u64): usize {
    return changetype<usize>(this) + offsetof<Model>() + <usize>sector * VIRTIO_BLK_SECTOR_SIZE;
  }
}

/** Whether so many bytes from a sector on are on the disk. */
function fits(sector: u64, bytes: u32): bool {
  return sector <= CAPACITY / VIRTIO_BLK_SECTOR_SIZE && bytes <= CAPACITY - <u32>sector * VIRTIO_BLK_SECTOR_SIZE;
}

/** Writes the status byte, the last of `room`: the bytes written. */
function answer(chain: Chain, room: u32, data: u32, status: u32): u32 {
  chain.write<u8>(room - 1, <u8>status);
  return data + 1;
}

export const stateBytes: u32 = offsetof<Model>() + CAPACITY;

export function serve(queue: Queue, spins: u32, bursts: u32): u32 {
  return serveQueue<Model>(queue, spins, bursts);
}
