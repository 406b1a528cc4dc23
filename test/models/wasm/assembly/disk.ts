// A disk in the state of its model: a request is a header, data and a status byte ("Block Device").

import { Chain, Queue, serveQueue } from '../../../../assembly';
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
} from '../../../../assembly/virtio';

export { abi } from '../../../../assembly';

const BYTES: u32 = 1048576;

@unmanaged
class Disk {
  handle(chain: Chain, queue: Queue): u32 {
    const type = chain.read<u32>(VIRTIO_BLK_HEADER_TYPE);
    const sector = chain.read<u64>(VIRTIO_BLK_HEADER_SECTOR);
    const writable = chain.writableBytes;
    if (writable == 0) return chain.refuse();
    let status: u32 = VIRTIO_BLK_S_OK;
    const from = sector * VIRTIO_BLK_SECTOR_SIZE;
    const bytes: u32 = type == VIRTIO_BLK_T_OUT ? chain.readableBytes - VIRTIO_BLK_HEADER_SIZE : writable - 1;
    const disk = changetype<usize>(this);
    let written: u32 = 0;
    if (type != VIRTIO_BLK_T_IN && type != VIRTIO_BLK_T_OUT) status = VIRTIO_BLK_S_UNSUPP;
    else if (from > BYTES || bytes > BYTES - <u32>from) {
      status = VIRTIO_BLK_S_IOERR;
      queue.countError();
    } else if (type == VIRTIO_BLK_T_OUT) {
      queue.countWritten(chain.copyIn(VIRTIO_BLK_HEADER_SIZE, disk + <usize>from, bytes));
    } else {
      written = chain.copyOut(0, disk + <usize>from, bytes);
      queue.countRead(written);
    }
    chain.write<u8>(writable - 1, <u8>status);
    return written + 1;
  }
}

export const stateBytes: u32 = BYTES;

export function serve(queue: Queue, spins: u32, bursts: u32): u32 {
  return serveQueue<Disk>(queue, spins, bursts);
}
