// Block device: the data path of a disk, on what devicePop left in the chain and segment tables. What is in memory is
// served here from end to end; each other request becomes an entry of an I/O table, which the addon carries out between
// blkPrepare and blkComplete.

import { breakQueue } from '../chain';
import { devicePop, devicePush, deviceReturn } from '../device';
import {
  BLK_BURST_BYTES,
  CHAIN_COUNTS,
  CHAIN_SIZE,
  COUNT_MASK,
  DISK_FILE_OPS,
  DISK_LINEAR,
  DISK_LOST,
  FILE_DUE,
  IO_BYTES,
  IO_OP,
  IO_RESULT,
  IO_SIZE,
  IO_STATUS,
  IO_STATUS_OPEN,
  NOTIFY_DUE,
  SEGMENT_SIZE,
  VERDICT_MEMORY_LOST,
  VERDICT_REQUEST,
  VQ_BURST,
  VQ_CHAINS,
  VQ_GATE_CLOSED,
  VQ_SEGMENTS,
  VQ_SNAPSHOT,
} from '../layout';
import { VIRTIO_BLK_S_OK } from '../virtio';
import { account, answer, complete, decode, execute } from './blk-request';

/** Serves one burst of a disk in memory: chains, with NOTIFY_DUE; FILE_DUE where it stopped at a request for the file. */
export function blkServe(vq: usize, disk: usize): u32 {
  const count = devicePop(vq, load<u32>(vq, VQ_BURST));
  if (count == 0) return 0;
  const io: usize = load<u32>(vq, VQ_SNAPSHOT);
  const base: usize = load<u32>(disk, DISK_LINEAR);
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  const fileOps = load<u32>(disk, DISK_FILE_OPS);
  let served: u32 = 0;
  let bytes: u64 = 0;
  let fileDue: u32 = 0;
  for (; served < count; served++, chain += CHAIN_SIZE) {
    // The control plane waits for one request, however long, not for a burst of them.
    if (atomic.load<u32>(vq, VQ_GATE_CLOSED) || memoryLost(disk)) {
      deviceReturn(vq, served, count);
      break;
    }
    const chainCounts = load<u32>(chain, CHAIN_COUNTS);
    const end = segment + (chainCounts >> 16) * SEGMENT_SIZE;
    // One entry of an I/O table, in private scratch memory, stands for the request here as it does for the addon.
    if (!decode(vq, disk, segment, chainCounts, io)) {
      breakQueue(vq, VERDICT_REQUEST, <u32>load<u16>(chain));
      break;
    }
    if ((fileOps >> load<u32>(io, IO_OP)) & 1) fileDue = FILE_DUE;
    bytes += load<u64>(io, IO_BYTES);
    if (fileDue != 0 || (bytes > <u64>BLK_BURST_BYTES && served != 0)) {
      deviceReturn(vq, served, count);
      break;
    }
    execute(io, base);
    store<u32>(chain, complete(vq, io, end), CHAIN_COUNTS);
    segment = end;
  }
  return publish(vq, disk, served) | fileDue;
}

/** Serves bursts until an interrupt or the file is due, `spins` looks in a row found nothing, or `bursts` were served. */
export function blkPoll(vq: usize, disk: usize, spins: u32, bursts: u32): u32 {
  let total: u32 = 0;
  let idle: u32 = 0;
  // The gate is read on each round: the control plane waits for one burst, never for the budget.
  while (bursts > 0 && idle <= spins && atomic.load<u32>(vq, VQ_GATE_CLOSED) == 0) {
    const result = blkServe(vq, disk);
    if (result == 0) {
      idle++;
      continue;
    }
    idle = 0;
    bursts--;
    total = min(total + (result & COUNT_MASK), COUNT_MASK);
    if (result & (NOTIFY_DUE | FILE_DUE)) return total | (result & (NOTIFY_DUE | FILE_DUE));
  }
  return total;
}

/** Pops a burst of at most `max` requests and BLK_BURST_BYTES into an I/O table at `io`: how many entries. */
export function blkPrepare(vq: usize, disk: usize, io: usize, max: u32): u32 {
  const count = devicePop(vq, max);
  const base: usize = load<u32>(disk, DISK_LINEAR);
  const fileOps = load<u32>(disk, DISK_FILE_OPS);
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  let bytes: u64 = 0;
  for (let i: u32 = 0; i < count; i++, chain += CHAIN_SIZE, io += IO_SIZE) {
    const chainCounts = load<u32>(chain, CHAIN_COUNTS);
    if (!decode(vq, disk, segment, chainCounts, io)) {
      breakQueue(vq, VERDICT_REQUEST, <u32>load<u16>(chain));
      return i;
    }
    bytes += load<u64>(io, IO_BYTES);
    if (bytes > <u64>BLK_BURST_BYTES && i != 0) {
      deviceReturn(vq, i, count);
      return i;
    }
    const isOpen = load<u32>(io, IO_STATUS) == IO_STATUS_OPEN;
    if (base != 0 && isOpen && !((fileOps >> load<u32>(io, IO_OP)) & 1)) {
      execute(io, base);
      store<u64>(io, account(vq, io), IO_RESULT);
      answer(io, VIRTIO_BLK_S_OK);
    }
    segment += (chainCounts >> 16) * SEGMENT_SIZE;
  }
  return count;
}

/** Answers the `count` requests of the I/O table at `io` and publishes them: `count`, with NOTIFY_DUE. */
export function blkComplete(vq: usize, disk: usize, io: usize, count: u32): u32 {
  let chain: usize = load<u32>(vq, VQ_CHAINS);
  let segment: usize = load<u32>(vq, VQ_SEGMENTS);
  for (let i: u32 = 0; i < count; i++, chain += CHAIN_SIZE, io += IO_SIZE) {
    segment += (load<u32>(chain, CHAIN_COUNTS) >> 16) * SEGMENT_SIZE;
    store<u32>(chain, complete(vq, io, segment), CHAIN_COUNTS);
  }
  return publish(vq, disk, count);
}

/** Publishes `count` requests, unless memory was lost: what was read from it, or written to it, is not what it was. */
function publish(vq: usize, disk: usize, count: u32): u32 {
  if (memoryLost(disk)) {
    breakQueue(vq, VERDICT_MEMORY_LOST, 0);
    return 0;
  }
  return devicePush(vq, count);
}

/** Whether a page of the aperture has lost its file. */
// @ts-ignore: decorator
@inline
function memoryLost(disk: usize): bool {
  const lost: usize = load<u32>(disk, DISK_LOST);
  return lost != 0 && atomic.load<u32>(lost) != 0;
}
